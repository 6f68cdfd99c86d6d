"""The label of a voxel that nobody has annotated, and the id of no object."""

# Such a voxel counts in no loss and in no score; every other value is a class.
IGNORE = 255
# The id that CREMI and others write where there is no object. It is kept as an id, and
# told, because some programs use it for an object.
NO_OBJECT = 2**64 - 1


def no_object(largest: float) -> str:
    """Return a sentence if the largest value of labels is `NO_OBJECT`; else ``""``."""
    if largest != NO_OBJECT or not isinstance(largest, int):
        return ""
    return (
        f"some voxels have the value {NO_OBJECT} (2^64 - 1), which CREMI writes where "
        "there is no object; it is taken for an object like any other; write 0 there "
        "if it is none"
    )
