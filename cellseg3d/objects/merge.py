"""Decide which touching regions form one object, by rules on the graph of regions.

The pass between two regions is the largest height at which they touch. Passes are
examined from the highest to the lowest. The result is a minimum spanning forest, which
is equivalent to a watershed [1]_.

References
----------
.. [1] Cousty et al. 2009, IEEE Trans. Pattern Anal. 31:1362,
   doi:10.1109/TPAMI.2008.173
"""

import heapq
from dataclasses import dataclass

import numpy as np

from cellseg3d.objects.options import LengthScale, ObjectOptions
from cellseg3d.objects.pairs import IntArray
from cellseg3d.objects.stitch import RegionGraph

# Files store voxel edges with limited precision, which must not decide a tie.
ROUNDED = 1 + 1e-6


@dataclass
class Forest:
    """Disjoint sets of regions; a set is named by its region with the highest peak."""

    parent: list[int]
    size: list[int]
    peak: list[float]

    @classmethod
    def of(cls, graph: RegionGraph) -> "Forest":
        """Return a forest in which each region of a graph is a set of its own."""
        count = len(graph.size)
        return cls(list(range(count)), graph.size.tolist(), graph.peak.tolist())

    def find(self, region: int) -> int:
        """Return the name of the set that holds a region."""
        root = region
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[region] != root:
            self.parent[region], region = root, self.parent[region]
        return root

    def ordered(self, one: int, two: int) -> tuple[int, int]:
        """Return two sets, the one with the lower peak first; of equals the later."""
        if (self.peak[one], -one) < (self.peak[two], -two):
            return one, two
        return two, one

    def join(self, low: int, high: int) -> None:
        """Add the regions of the set `low` to the set `high`."""
        self.parent[low] = high
        self.size[high] += self.size[low]

    def roots(self) -> IntArray:
        """Return the name of the set of each region."""
        found = [self.find(region) for region in range(len(self.parent))]
        return np.array(found, np.int64).reshape(-1)


def objects_of(
    graph: RegionGraph, options: ObjectOptions, scale: LengthScale
) -> IntArray:
    """Return the object of each region, named by the index of one of its regions."""
    least = round(options.min_volume_um3 / scale.voxel_volume + 0.499999)
    if options.method == "components":
        return np.arange(len(graph.size))
    if options.method == "watershed":
        depth = options.depth_um
        steps = (min(scale.edges) if depth is None else depth) / scale.step
        return _watershed(graph, steps * ROUNDED, options.neck, least).roots()
    if options.method == "border-core":
        return _from_cores(graph, scale.radius_steps + 1, least).roots()
    if options.method == "affinity":
        return _agglomerate(graph, options.merge_affinity, least).roots()
    mean = (options.mean_volume_um3 or 1.0) / scale.voxel_volume
    return _mean_size(graph, mean).roots()


def downhill(graph: RegionGraph) -> list[tuple[int, int, float]]:
    """Return pairs of regions and the pass between them, the highest pass first."""
    pairs = graph.pairs
    order = np.lexsort((pairs.high, pairs.low, -pairs.saddle))
    columns = (pairs.low[order], pairs.high[order], pairs.saddle[order])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _watershed(graph: RegionGraph, depth: float, neck: float, least: int) -> Forest:
    """Join two parts if the neck between them is shallow or wide, or if one is tiny."""
    forest = Forest.of(graph)
    for one, two, saddle in downhill(graph):
        low, high = forest.ordered(forest.find(one), forest.find(two))
        if low == high:
            continue
        shallow = forest.peak[low] - saddle <= depth
        wide = saddle >= neck * forest.peak[low]
        if shallow or wide or min(forest.size[low], forest.size[high]) < least:
            forest.join(low, high)
    return forest


def _from_cores(graph: RegionGraph, top: int, least: int) -> Forest:
    """Join each part without a core to the neighbour with the highest pass."""
    forest = Forest.of(graph)
    for one, two, _ in downhill(graph):
        low, high = forest.ordered(forest.find(one), forest.find(two))
        if low == high:
            continue
        tiny = min(forest.size[low], forest.size[high]) < least
        if forest.peak[low] < top or tiny:
            forest.join(low, high)
    return forest


def _mean_size(graph: RegionGraph, mean_voxels: float) -> Forest:
    """Cut each component at its deepest necks, into size divided by mean size parts.

    The number of parts is rounded, so 1.5 times the mean gives two parts, as the
    write-up of the 2018 Data Science Bowl proposes.
    """
    whole = Forest.of(graph)
    taken: list[tuple[int, int, float]] = []
    for one, two, saddle in downhill(graph):
        low, high = whole.ordered(whole.find(one), whole.find(two))
        if low != high:
            taken.append((one, two, whole.peak[low] - saddle))
            whole.join(low, high)
    cuts: dict[int, int] = {}
    for root in set(whole.roots().tolist()):
        cuts[root] = max(1, int(whole.size[root] / mean_voxels + 0.5)) - 1
    forest = Forest.of(graph)
    for one, two, _ in sorted(taken, key=lambda join: (-join[2], join[0], join[1])):
        component = whole.find(one)
        if cuts[component] > 0:
            cuts[component] -= 1
            continue
        forest.join(*forest.ordered(forest.find(one), forest.find(two)))
    return forest


def _agglomerate(graph: RegionGraph, least_mean: float, least: int) -> Forest:
    """Join regions whose mean link is high enough, those with the highest first."""
    forest = Forest.of(graph)
    pairs = graph.pairs
    links: list[dict[int, tuple[int, int]]] = [{} for _ in range(len(graph.size))]
    rows = (pairs.low, pairs.high, pairs.total, pairs.count)
    heap: list[tuple[float, int, int]] = []
    for one, two, total, count in zip(*(row.tolist() for row in rows), strict=True):
        links[one][two] = links[two][one] = (total, count)
        heap.append((-total / count, one, two))
    heapq.heapify(heap)
    while heap:
        negative, one, two = heapq.heappop(heap)
        total, count = links[one].get(two, (0, 1))
        if not count or two not in links[one] or -total / count != negative:
            continue
        tiny = min(forest.size[one], forest.size[two]) < least
        if -negative < least_mean * 65535 and not (tiny and negative < 0):
            continue
        _absorb(links, heap, one, two)
        forest.join(two, one)
    return forest


def _absorb(
    links: list[dict[int, tuple[int, int]]],
    heap: list[tuple[float, int, int]],
    one: int,
    two: int,
) -> None:
    """Add the links of region `two` to region `one`, the earlier of the two."""
    for other, (total, count) in links[two].items():
        if other == one:
            continue
        before = links[one].get(other, (0, 0))
        now = (before[0] + total, before[1] + count)
        links[one][other] = links[other][one] = now
        del links[other][two]
        heapq.heappush(heap, (-now[0] / now[1], min(one, other), max(one, other)))
    del links[one][two]
    links[two] = {}
