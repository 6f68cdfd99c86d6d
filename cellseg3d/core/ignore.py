"""The label of a voxel that nobody has annotated."""

# Such a voxel counts in no loss and in no score; every other value is a class.
IGNORE = 255
