"""Predict a volume chunk after chunk: run each source, fuse them, pick the labels."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.bundle.confidence import Confidence
from cellseg3d.core.errors import NonFiniteError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.prediction.fusion import (
    Fuser,
    Fusion,
    labels_of,
    probs_of,
    scores_of,
    tempered,
)
from cellseg3d.prediction.lattice import fit
from cellseg3d.prediction.sources import Source
from cellseg3d.prediction.tally import Tally, sums_of

Progress = Callable[[int, int], None]
# About how many bytes the sums of several sources take in a chunk: as many as those of
# a whole tomogram of 400^3 voxels and two classes, at 4 bytes a voxel.
FUSED_BYTES = 2**28
# About how many voxels a chunk of one source has, which are read and decided together.
CHUNK_VOXELS = 2**23
# A chunk may have this many voxels if its rows are whole then, because rows lie one
# after another in most files.
ROWS_VOXELS = 9 * 2**22


@dataclass(frozen=True)
class Chunk:
    """The answer for one chunk.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        The class of each voxel; 0 is background.
    probs : ndarray of float32, shape (K, z, y, x), or None
        Class probabilities in [0, 1].
    uncertainty : ndarray of float32, shape (z, y, x), or None
        Numbers in [0, 1]; see `fusion.Fuser.uncertainty`.
    sums : ndarray of float64, shape (3, K), or None
        What `tally.sums_of` adds up, if a Dice is expected.
    """

    labels: NDArray[np.uint8]
    probs: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None
    sums: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Pipeline:
    """The sources of a prediction, how they are fused, and the chunks they run on.

    Parameters
    ----------
    sources : tuple of Source
    fusion : Fusion
    classes : int
    chunk : tuple of int
        Shape of a chunk (z, y, x), in voxels, which whole windows of each source fill.
    probs, uncertainty : bool
        Whether probabilities and uncertainty are wanted as well.
    confidence : Confidence or None
        The temperature of the fused probabilities, and what is expected of the labels;
        None if it was not measured for this way to predict.
    calibrated : bool
        Whether the temperature holds for the probabilities and the uncertainty that
        are returned. A Dice is expected from calibrated probabilities in any case.
    unlike : tuple of str
        How the volume differs from those of the training, in words; empty if it does
        not.
    """

    sources: tuple[Source, ...]
    fusion: Fusion
    classes: int
    chunk: Zyx
    probs: bool = False
    uncertainty: bool = False
    confidence: Confidence | None = None
    calibrated: bool = True
    unlike: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """What the logits of returned probabilities are divided by."""
        known = self.confidence if self.calibrated else None
        return 1.0 if known is None else known.temperature

    @property
    def tally(self) -> Tally | None:
        """Which voxels are counted for the expected Dice; None if none is expected."""
        known = self.confidence
        if known is None or not known.lines or self.unlike:
            return None
        return Tally.of(self.shape)

    @property
    def shape(self) -> Zyx:
        """The number of voxels of the volume along (z, y, x)."""
        return self.sources[0].shape

    def chunks(self) -> Iterator[Roi]:
        """Yield the chunks of the volume, in C order."""
        yield from blocks(self.shape, self.chunk)

    def results(
        self, chunks: Iterable[Roi], progress: Progress | None = None, done: int = 0
    ) -> Iterator[tuple[Roi, Chunk]]:
        """Yield chunks with their answers, one after another.

        Parameters
        ----------
        chunks : iterable of Roi
        progress : callable, optional
            Is called after each chunk with the voxels done and the voxels in all.
        done : int
            The number of voxels that were done before.
        """
        total = Roi.whole(self.shape).size
        for chunk in chunks:
            yield chunk, self.run(chunk)
            done += chunk.size
            if progress is not None:
                progress(done, total)

    def whole(self, progress: Progress | None = None) -> Chunk:
        """Return the answer for the whole volume, in memory."""
        labels = np.empty(self.shape, np.uint8)
        probs = uncertainty = sums = None
        if self.probs:
            probs = np.empty((self.classes, *self.shape), np.float32)
        if self.uncertainty:
            uncertainty = np.empty(self.shape, np.float32)
        for chunk, answer in self.results(self.chunks(), progress):
            labels[chunk.slices] = answer.labels
            if probs is not None and answer.probs is not None:
                probs[(slice(None), *chunk.slices)] = answer.probs
            if uncertainty is not None and answer.uncertainty is not None:
                uncertainty[chunk.slices] = answer.uncertainty
            if answer.sums is not None:
                sums = answer.sums if sums is None else sums + answer.sums
        return Chunk(labels, probs, uncertainty, sums)

    def run(self, chunk: Roi) -> Chunk:
        """Return the labels of one chunk, with probabilities and uncertainty if wanted.

        Raises
        ------
        NonFiniteError
            If a network gives NaN or infinity.
        """
        if len(self.sources) == 1:
            return self._of_one(chunk)
        fuser = self._fused(chunk, compare=self.uncertainty)
        sums, tally = None, self.tally
        if tally is not None and self.confidence is not None:
            counted = fuser.probs(tally.places(chunk))
            sums = sums_of(tempered(counted, self.confidence.temperature))
        if not (self.probs or self.uncertainty):
            return Chunk(fuser.labels().cpu().numpy(), sums=sums)
        fused = tempered(fuser.probs(), self.temperature)
        unsure = fuser.uncertainty(fused).cpu().numpy() if self.uncertainty else None
        labels = fuser.labels().cpu().numpy()
        probs = fused.cpu().numpy() if self.probs else None
        return Chunk(labels, probs, unsure, sums)

    def _of_one(self, chunk: Roi) -> Chunk:
        """Return the answer of the only source for one chunk."""
        labels = np.empty(chunk.shape, np.uint8)
        tally = self.tally
        sums = np.zeros((3, self.classes))
        fuser = None
        if self.probs or self.uncertainty:
            home = self.sources[0].network.hardware.home
            fuser = Fuser(self.fusion, 1, self.classes, chunk.shape, device=home)
        for _, roi, logits in self.logits(chunk):
            place = roi.within(chunk)
            labels[place.slices] = labels_of(logits).cpu().numpy()
            if fuser is not None:
                fuser.add(0, place, probs_of(logits, self.temperature))
            if tally is not None and self.confidence is not None:
                counted = logits[(slice(None), *tally.places(roi))]
                sums += sums_of(probs_of(counted, self.confidence.temperature))
        if fuser is None:
            return Chunk(labels, sums=None if tally is None else sums)
        probs = fuser.probs()
        unsure = fuser.uncertainty(probs).cpu().numpy() if self.uncertainty else None
        return Chunk(
            labels,
            probs.cpu().numpy() if self.probs else None,
            unsure,
            None if tally is None else sums,
        )

    def _fused(self, chunk: Roi, *, compare: bool = False) -> Fuser:
        """Return the fused probabilities of several sources for one chunk."""
        fuser = Fuser(
            self.fusion,
            len(self.sources),
            self.classes,
            chunk.shape,
            compare=compare,
            device=self.sources[0].network.hardware.home,
        )
        for index, roi, logits in self.logits(chunk):
            fuser.add(index, roi.within(chunk), probs_of(logits))
        return fuser

    def scores(self, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        """Yield (region, scores of shape (K, z, y, x)) for the parts of a chunk.

        The scores are the logits of a single source, and the logarithms of the fused
        probabilities of several. A temperature divides either.
        """
        if len(self.sources) > 1:
            yield chunk, scores_of(self._fused(chunk).probs())
            return
        for _, roi, logits in self.logits(chunk):
            if len(logits) < self.classes:
                yield roi, torch.cat([torch.zeros_like(logits), logits])
            else:
                yield roi, logits

    def logits(self, chunk: Roi) -> Iterator[tuple[int, Roi, Tensor]]:
        """Yield (number of the source, region, logits of the region) for a chunk.

        The regions of each source cover each voxel of the chunk exactly once. Logits
        have shape (K, z, y, x), or (1, z, y, x) for the difference of two classes.

        Raises
        ------
        NonFiniteError
            If a network gives NaN or infinity.
        """
        for index, source in enumerate(self.sources):
            for roi, logits in source.logits(chunk):
                if not bool(torch.isfinite(logits.sum(dtype=torch.float32))):
                    message = (
                        f"{source.name}: the network gives NaN or infinity in the "
                        f"region {roi}; check its weights and the volume there"
                    )
                    raise NonFiniteError(message)
                yield index, roi, logits


def alone(source: Source) -> Pipeline:
    """Return the pipeline of one source, which gives probabilities as well."""
    chosen, chunk = fitted([source])
    return Pipeline(chosen, Fusion(), source.classes, chunk, probs=True)


def fitted(
    sources: Sequence[Source], bytes_per_voxel: int = 4
) -> tuple[tuple[Source, ...], Zyx]:
    """Return the sources with windows that fill common chunks, and the chunks' shape.

    Parameters
    ----------
    sources : sequence of Source
        Sources on the same volume.
    bytes_per_voxel : int
        Bytes that the sums of several sources take for each voxel.
    """
    most = round((FUSED_BYTES / bytes_per_voxel) ** (1 / 3))
    shape = sources[0].shape
    if len(sources) == 1:
        return tuple(sources), chunk_of_one(sources[0].lattice.core, shape)
    if any(source.view is not None for source in sources):
        # Views have lattices of their own, which common chunks cannot fit.
        return tuple(sources), zyx([min(most, length) for length in shape])
    side = []
    for axis in range(3):
        step = math.lcm(*(source.lattice.stride[axis] for source in sources))
        cores = [
            source.lattice.core[axis]
            for source in sources
            if source.lattice.axis is None
        ]
        unit = math.lcm(step, *cores)
        side.append(fit(shape[axis], max(most, unit), unit))
    return tuple(_stretch(source, side) for source in sources), zyx(side)


def _stretch(source: Source, side: Sequence[int]) -> Source:
    """Return a source whose slices are as large as the chunk; a 3D one is unchanged."""
    lattice = source.lattice
    if lattice.axis is None:
        return source
    core = [
        own if letter == lattice.axis else whole
        for letter, own, whole in zip("zyx", lattice.core, side, strict=True)
    ]
    return replace(source, lattice=lattice.with_core(core))


def chunk_of_one(core: Zyx, shape: Zyx) -> Zyx:
    """Return the shape (z, y, x) of the chunks of a single source, in voxels.

    A chunk is made of whole windows. They are joined along x first, if that makes whole
    rows of up to `ROWS_VOXELS`, and then along y and z, up to `CHUNK_VOXELS`.

    Parameters
    ----------
    core : tuple of int
        Voxels that a window writes (z, y, x).
    shape : tuple of int
        Shape of the volume (Z, Y, X), in voxels.
    """
    side = list(core)
    for axis, voxels in ((2, ROWS_VOXELS), (1, CHUNK_VOXELS), (0, CHUNK_VOXELS)):
        held = [min(a, b) for a, b in zip(side, shape, strict=True)]
        held[axis] = 1
        # Only the voxels inside the volume count of a core that passes its border.
        room = voxels // math.prod(held)
        most = math.ceil(shape[axis] / core[axis])
        side[axis] = core[axis] * max(
            1, most if room >= shape[axis] else room // core[axis]
        )
    return zyx(side)
