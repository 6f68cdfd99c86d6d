"""One sentence on what each score means, for readers who have not met it before."""

from collections.abc import Iterable

MEANINGS = {
    "dice": "Dice is twice the voxels that prediction and truth share, over the voxels "
    "of both together: 1 is a perfect match, 0 none at all.",
    "jaccard": "Jaccard (intersection over union) is the shared voxels over those of "
    "either; it ranks like Dice, with lower numbers.",
    "precision": "Precision is the share of the predicted voxels that are right; it is "
    "low when too much is predicted.",
    "recall": "Recall is the share of the true voxels that were found; it is low when "
    "too little is predicted.",
    "accuracy": "Accuracy is the share of all voxels that are right; background "
    "counts, so it is high even when a small structure is missed.",
    "hd95_um": "HD95 is the distance below which 95 % of one surface lies from the "
    "other; it shows how far the worst places are off.",
    "assd_um": "ASSD is the mean distance between the two surfaces.",
    "nsd": "NSD is the share of both surfaces that lies closer to the other one than "
    "the tolerance, which is the longest edge of a voxel.",
    "object_f1": "Object F1 weighs objects that are missed and objects that are made "
    "up. An object is found if its overlap (IoU) with a true one is above .5. Every "
    "object counts the same, so a speck of one voxel costs as much as a whole cell.",
    "object_precision": "Object precision is the share of the predicted objects that "
    "match a true one; specks lower it.",
    "object_recall": "Object recall is the share of the true objects that were found; "
    "specks do not change it.",
    "ap_mean": "Mean AP is the share of right objects among right, made-up and missed "
    "ones, averaged over ever stricter overlaps from .5 to .95.",
    "pq": "PQ is object F1 times the mean overlap of the objects that were found.",
    "splits": "A split is a true object that was predicted as several.",
    "merges": "A merge is a predicted object that holds several true ones.",
    "misses": "A miss is a true object of which at most half was predicted at all.",
}


def meanings(scores: Iterable[str]) -> list[str]:
    """Return the sentences about scores, in the order of `MEANINGS`."""
    wanted = set(scores)
    return [sentence for score, sentence in MEANINGS.items() if score in wanted]
