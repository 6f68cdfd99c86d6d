"""Augmentations that change the image and leave its label as it is."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from cellseg3d.core.errors import ConfigError
from cellseg3d.samples.transforms import Item, SampleTransform, channels_of

# Size of the table of noise: 16 MiB.
NOISE_VALUES = 1 << 22


class RandIntensityd(SampleTransform):
    """Change brightness, contrast and gamma, and add noise.

    Each of the four is applied with probability `prob`, independently of the others
    and of other channels. Amounts are in the unit of scaled intensities (about -1 to
    1).

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability of each change, in [0, 1].
    brightness : float
        Largest value that is added or subtracted.
    contrast : (float, float)
        Bounds of the factor on the difference from the sample's mean.
    gamma : (float, float)
        Bounds of the exponent, applied between the sample's minimum and maximum.
    noise : float
        Largest standard deviation of the added Gaussian noise (`add_noise`).
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
        """Return the item with changed intensities."""
        return self.change_channels(data, self._change)

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
    """Invert the contrast, for modalities in which both contrasts occur.

    In electron micrographs, stained parts are dark in transmission and bright with
    back-scattered electrons.

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability that a channel of a sample is inverted, in [0, 1].
    """

    def __init__(self, keys: Sequence[str] = ("image",), prob: float = 0.2) -> None:
        super().__init__(keys, prob)

    def __call__(self, data: Item) -> Item:
        """Return the item with scaled intensities (about -1 to 1) negated."""
        return self.change_channels(
            data, lambda image: image.neg() if self.fires() else image
        )


class RandShadingd(SampleTransform):
    """Vary brightness and contrast smoothly over the sample, like uneven illumination.

    Both are drawn at four points along each axis and interpolated between them.

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability that a channel of a sample is changed, in [0, 1].
    brightness : float
        Largest value that is added or subtracted, in scaled intensity.
    contrast : float
        Largest change of the contrast factor; 0.2 means factors of 0.8 to 1.2.
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
        """Return the item with uneven brightness, the same in all slices of a stack."""
        return self.change_channels(data, self._change)

    def _change(self, image: Tensor) -> Tensor:
        if not self.fires():
            return image
        shape = tuple(image.shape[1:])
        factor = 1 + self.contrast * self._field(shape)
        return image * factor + self.brightness * self._field(shape)

    def _field(self, shape: Sequence[int]) -> Tensor:
        """Return a smooth field of values within -1 to 1, shape (1, ...)."""
        dims = len(shape)
        points = torch.from_numpy(self.R.uniform(-1, 1, (4,) * dims)).float()
        mode = "bilinear" if dims == 2 else "trilinear"
        field: Tensor = torch.nn.functional.interpolate(
            points[None, None], size=tuple(shape), mode=mode, align_corners=True
        )
        return field[0]


class RandBlurd(SampleTransform):
    """Blur the image with an approximate Gaussian; borders are repeated.

    The kernel ``[w, 1 - 2w, w]`` is applied several times. Each pass has variance 2w,
    and w is chosen so that the variances add up to sigma squared.

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability that a channel of a sample is blurred, in [0, 1].
    sigma : (float, float)
        Bounds of the standard deviation, in voxels.
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
        """Return the item with blurred images."""
        return self.change_channels(data, self._blurred)

    def _blurred(self, image: Tensor) -> Tensor:
        if not self.fires():
            return image
        sigma = self.uniform(self.sigma)
        first = 1 if self.plane == "all" else image.ndim - 2
        for dim in range(first, image.ndim):
            image = blur_axis(image, dim, sigma)
        return image


class RandMissingSliced(SampleTransform):
    """Replace one slice by the sample's mean, as if it had been lost; keep its label.

    It is lost in all channels, each of which gets its own mean. The centre slice of a
    2.5D stack and a single slice are never replaced.

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability that a slice is replaced, in [0, 1].
    """

    def __init__(self, keys: Sequence[str] = ("image",), prob: float = 0.1) -> None:
        super().__init__(keys, prob)

    def __call__(self, data: Item) -> Item:
        """Return the item with one blank slice."""
        image = data["image"]
        stack, channels = image.ndim == 3, channels_of(data)
        count = image.shape[0] // channels if stack else image.shape[1]
        if count < 2 or not self.fires():
            return data
        place = int(self.R.randint(count - 1 if stack else count))
        if stack:
            place += place >= count // 2

        def lose(channel: Tensor) -> Tensor:
            changed = channel.clone()
            target = changed[place] if stack else changed[:, place]
            target.fill_(float(channel.mean()))
            return changed

        return self.change_channels(data, lose)


class RandMissingWedged(SampleTransform):
    """Remove the Fourier components that a limited tilt range does not measure.

    The tilt axis is y, and the beam runs along z at tilt 0. By the central slice
    theorem, tilts within +-t do not measure the components with ``|kz| > |kx| tan(t)``,
    for every ky. Only 3D patches and slices or stacks cut across y are changed, since
    others do not contain both z and x.

    Parameters
    ----------
    keys : sequence of str
        Keys of the images in a sample.
    prob : float
        Probability that a sample is changed, in [0, 1].
    tilt_deg : (float, float)
        Bounds of the largest tilt t, in degrees, in (0, 90).
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
        """Return the item without the components in the missing wedge."""
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
    """Return an image with added Gaussian noise.

    The noise is read from a table of 4 million values that each process draws once,
    because drawing new values takes ten times as long.

    Parameters
    ----------
    image : Tensor of float32, any shape
        The image; it is not changed.
    deviation : float
        Standard deviation of the noise; a negative value inverts the noise.
    start : int
        Index of the first value to take from the table, below `NOISE_VALUES`.
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
        # A share of the difference between neighbours moves from one to the other, so
        # the sum of the image stays the same and borders need no padding.
        step = image.narrow(dim, 1, last) - image.narrow(dim, 0, last)
        step *= weight
        image = image.clone()
        image.narrow(dim, 0, last).add_(step)
        image.narrow(dim, 1, last).sub_(step)
    return image


def remove_wedge(
    image: Tensor, tilt_deg: float, dims: tuple[int, int], z_over_x: float = 1.0
) -> Tensor:
    """Return an image without the Fourier components that a tilt range leaves out.

    Parameters
    ----------
    image : Tensor of float32, any shape
        The image.
    tilt_deg : float
        The largest tilt in either direction, in degrees.
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
