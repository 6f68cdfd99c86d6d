"""Change the image alone: brightness to noise, blur, missing slices, missing wedge."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from cellseg3d.core.errors import ConfigError
from cellseg3d.samples.transforms import Item, SampleTransform

# 16 MiB of noise, a power of two.
NOISE_VALUES = 1 << 22


class RandIntensityd(SampleTransform):
    """Brightness, contrast, gamma and noise, in as few passes over memory as it takes.

    Amounts are in the unit of scaled intensities (about -1 to 1). Each of the four is
    drawn with probability `prob` by itself.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    brightness : float
        Largest value added or taken away.
    contrast : (float, float)
        Bounds of the factor on the distance to the sample's mean.
    gamma : (float, float)
        Bounds of the exponent, applied between the sample's minimum and maximum.
    noise : float
        Largest standard deviation of the Gaussian noise added (`add_noise`).
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image",),
        prob: float = 0.3,
        brightness: float = 0.2,
        contrast: Sequence[float] = (0.75, 1.25),
        gamma: Sequence[float] = (0.7, 1.5),
        noise: float = 0.1,
    ) -> None:
        super().__init__(keys, prob)
        for name, bounds in (("contrast", contrast), ("gamma", gamma)):
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
                message = f"RandIntensityd: {name} is {bounds}; expected [low, high]"
                raise ConfigError(message)
        if brightness < 0 or noise < 0:
            message = (
                f"RandIntensityd: brightness is {brightness}, noise is {noise}; "
                "expected 0 or more"
            )
            raise ConfigError(message)
        self.brightness = float(brightness)
        self.contrast = tuple(map(float, contrast))
        self.gamma = tuple(map(float, gamma))
        self.noise = float(noise)

    def __call__(self, data: Item) -> Item:
        """Return the item with other intensities."""
        item = dict(data)
        for key in self.parts(item):
            item[key] = self._change(item[key])
        return item

    def _change(self, image: Tensor) -> Tensor:
        gamma = self.uniform(self.gamma) if self.fires() else None
        factor = self.uniform(self.contrast) if self.fires() else 1.0
        added = (
            self.uniform((-self.brightness, self.brightness)) if self.fires() else 0.0
        )
        noise = self.uniform((0, self.noise)) if self.noise and self.fires() else None
        fresh = image if gamma is None else _gamma(image, gamma)
        if factor != 1.0:
            added += (1 - factor) * float(fresh.mean())
        if factor != 1.0 or added:
            fresh = fresh.mul(factor).add_(added)
        if noise is not None:
            start = int(self.R.randint(NOISE_VALUES))
            sign = 1 if self.R.randint(2) else -1
            fresh = add_noise(fresh, sign * noise, start)
        return fresh


class RandInvertd(SampleTransform):
    """Turn dark into bright and bright into dark, where a modality has both.

    Electron micrographs come either way: stained parts are dark in transmission and
    bright in back-scattered electrons.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    """

    def __init__(self, keys: Sequence[str] = ("image",), prob: float = 0.2) -> None:
        super().__init__(keys, prob)

    def __call__(self, data: Item) -> Item:
        """Return the item with scaled intensities (about -1 to 1) negated."""
        if not self.fires():
            return data
        item = dict(data)
        for key in self.parts(item):
            item[key] = item[key].neg()
        return item


class RandShadingd(SampleTransform):
    """Slow changes of brightness and contrast over the field, as uneven light makes.

    Both are drawn on a grid of four points a side and interpolated between them.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    brightness : float
        Largest value added or taken away at a point of the grid.
    contrast : float
        Largest change of the factor there, such as 0.2 for 0.8 to 1.2.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image",),
        prob: float = 0.2,
        brightness: float = 0.3,
        contrast: float = 0.2,
    ) -> None:
        super().__init__(keys, prob)
        if brightness < 0 or not 0 <= contrast < 1:
            message = (
                f"RandShadingd: brightness is {brightness}, contrast is {contrast}; "
                "expected 0 or more, and 0 to 1"
            )
            raise ConfigError(message)
        self.brightness = float(brightness)
        self.contrast = float(contrast)

    def __call__(self, data: Item) -> Item:
        """Return the item under other light; every slice of a stack alike."""
        if not self.fires():
            return data
        item = dict(data)
        for key in self.parts(item):
            shape = tuple(item[key].shape[1:])
            factor = 1 + self.contrast * self._field(shape)
            item[key] = item[key] * factor + self.brightness * self._field(shape)
        return item

    def _field(self, shape: Sequence[int]) -> Tensor:
        """Return a slow field of values within -1 to 1, shape (1, ...)."""
        dims = len(shape)
        points = torch.from_numpy(self.R.uniform(-1, 1, (4,) * dims)).float()
        mode = "bilinear" if dims == 2 else "trilinear"
        field: Tensor = torch.nn.functional.interpolate(
            points[None, None], size=tuple(shape), mode=mode, align_corners=True
        )
        return field[0]


class RandBlurd(SampleTransform):
    """Gaussian-like blur by short passes of three weights, borders repeated.

    Passes of ``[w, 1 - 2w, w]`` add variances of 2w each, so their sum is the variance
    asked for exactly, and the shape nears a Gaussian.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    sigma : (float, float)
        Bounds of the standard deviation, voxels.
    plane : {"yx", "all"}
        Which spatial axes are blurred: the last two, or all.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image",),
        prob: float = 0.1,
        sigma: Sequence[float] = (0.4, 1.0),
        plane: Literal["yx", "all"] = "yx",
    ) -> None:
        super().__init__(keys, prob)
        if plane not in ("yx", "all"):
            raise ConfigError(f"RandBlurd: plane is {plane!r}; expected yx or all")
        if len(sigma) != 2 or not 0 <= sigma[0] <= sigma[1]:
            raise ConfigError(f"RandBlurd: sigma is {sigma}; expected [low, high]")
        self.sigma = tuple(map(float, sigma))
        self.plane = plane

    def __call__(self, data: Item) -> Item:
        """Return the item, blurred."""
        if not self.fires():
            return data
        item = dict(data)
        sigma = self.uniform(self.sigma)
        for key in self.parts(item):
            first = 1 if self.plane == "all" else item[key].ndim - 2
            for dim in range(first, item[key].ndim):
                item[key] = blur_axis(item[key], dim, sigma)
        return item


class RandMissingSliced(SampleTransform):
    """A slice that was lost: it becomes the mean of the sample, its label stays.

    In a 2.5D stack the centre slice is never taken; a single slice stays.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    """

    def __init__(self, keys: Sequence[str] = ("image",), prob: float = 0.1) -> None:
        super().__init__(keys, prob)

    def __call__(self, data: Item) -> Item:
        """Return the item, one slice of it blank."""
        image = data["image"]
        stack = image.ndim == 3
        count = image.shape[0] if stack else image.shape[1]
        if count < 2 or not self.fires():
            return data
        place = int(self.R.randint(count - 1 if stack else count))
        if stack:
            place += place >= count // 2
        item = dict(data)
        for key in self.parts(item):
            changed = item[key].clone()
            target = changed[place] if stack else changed[:, place]
            target.fill_(float(item[key].mean()))
            item[key] = changed
        return item


class RandMissingWedged(SampleTransform):
    """Fourier components that a limited tilt range does not measure, taken away.

    The tilt axis is y and the beam runs along z at tilt 0: by the central slice
    theorem, tilts within +-t leave the components with ``|kz| > |kx| tan(t)``
    unmeasured, for every ky. 3D patches are changed, and those slices and stacks that
    are cut across y; others do not hold both z and x and stay.

    Parameters
    ----------
    keys : sequence of str
    prob : float
    tilt_deg : (float, float)
        Bounds of the largest tilt t, degrees, in (0, 90).
    z_over_x : float
        Spacing along z over spacing along x.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image",),
        prob: float = 0.2,
        tilt_deg: Sequence[float] = (50.0, 75.0),
        z_over_x: float = 1.0,
    ) -> None:
        super().__init__(keys, prob)
        if len(tilt_deg) != 2 or not 0 < tilt_deg[0] <= tilt_deg[1] < 90:
            message = (
                f"RandMissingWedged: tilt_deg is {tilt_deg}; expected [low, high] "
                "within 0 to 90"
            )
            raise ConfigError(message)
        self.tilt_deg = tuple(map(float, tilt_deg))
        self.z_over_x = float(z_over_x)

    def __call__(self, data: Item) -> Item:
        """Return the item without its missing wedge."""
        flat = data["image"].ndim == 3
        if (flat and int(data.get("axis", 0)) != 1) or not self.fires():
            return data
        item = dict(data)
        tilt = self.uniform(self.tilt_deg)
        for key in self.parts(item):
            part = item[key]
            dims = (1, 2) if flat else (1, 3)
            item[key] = remove_wedge(part, tilt, dims, self.z_over_x)
        return item


def add_noise(image: Tensor, deviation: float, start: int) -> Tensor:
    """Return an image with Gaussian noise, read from a table drawn once per process.

    Drawing anew would cost ten times what reading costs. The table has 4 million
    values, and each sample begins at its own place in it.

    Parameters
    ----------
    image : Tensor of float32
    deviation : float
        Standard deviation of the noise; a negative one flips its sign.
    start : int
        Where in the table to begin, below `NOISE_VALUES`.
    """
    noisy = image.clone(memory_format=torch.contiguous_format)
    flat, table, done = noisy.view(-1), _noise_table(), 0
    while done < flat.numel():
        part = table[start : start + flat.numel() - done]
        flat[done : done + part.numel()].add_(part, alpha=deviation)
        done, start = done + part.numel(), 0
    return noisy


@cache
def _noise_table() -> Tensor:
    return torch.randn(NOISE_VALUES, generator=torch.Generator().manual_seed(0))


def blur_axis(image: Tensor, dim: int, sigma: float) -> Tensor:
    """Return an image blurred along one axis to a standard deviation in voxels."""
    if image.shape[dim] < 2 or sigma <= 0:
        return image
    passes = math.ceil(sigma**2 / 0.5)
    weight = sigma**2 / (2 * passes)
    last = image.shape[dim] - 1
    for _ in range(passes):
        # The difference to the next voxel, once; each voxel gains it and the next
        # loses it, so the sum of the image stays and borders need no padding.
        step = image.narrow(dim, 1, last) - image.narrow(dim, 0, last)
        step *= weight
        image = image.clone()
        image.narrow(dim, 0, last).add_(step)
        image.narrow(dim, 1, last).sub_(step)
    return image


def remove_wedge(
    image: Tensor, tilt_deg: float, dims: tuple[int, int], z_over_x: float = 1.0
) -> Tensor:
    """Return an image without the Fourier components beyond a tilt.

    Parameters
    ----------
    image : Tensor of float32
    tilt_deg : float
        The largest tilt either way, degrees.
    dims : (int, int)
        The axes z and x of `image`.
    z_over_x : float
        Spacing along z over spacing along x.
    """
    kz = torch.fft.fftfreq(image.shape[dims[0]]).abs() / z_over_x
    kx = torch.fft.rfftfreq(image.shape[dims[1]])
    measured = kz[:, None] <= kx[None] * math.tan(math.radians(tilt_deg)) + 1e-9
    shape = [1] * image.ndim
    shape[dims[0]], shape[dims[1]] = measured.shape
    spectrum = torch.fft.rfftn(image, dim=dims)
    spectrum *= measured.reshape(shape)
    sizes = (image.shape[dims[0]], image.shape[dims[1]])
    kept: Tensor = torch.fft.irfftn(spectrum, s=sizes, dim=dims)
    return kept


def _gamma(image: Tensor, gamma: float) -> Tensor:
    low, high = (float(v) for v in torch.aminmax(image))
    if high <= low:
        return image
    span = high - low
    return ((image - low) * (1 / span)).clamp_(min=0).pow_(gamma).mul_(span).add_(low)
