"""Attribution and occlusion of an object's score, by captum."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.extras import missing_extra
from cellseg3d.explanation.crop import Crop

METHODS = ("integrated-gradients", "gradient-x-input")
# Points between the blurred and the given image at which gradients are taken.
STEPS = 16
# The most cubes that are covered one after another.
CUBES = 96
# How far the image is blurred where voxels are taken out, in voxels.
BLUR = 4.0


def blurred(image_czyx: Tensor) -> Tensor:
    """Return an image without what is finer than some voxels: its local means.

    This is what voxels become that are taken out, and from where attribution begins.
    """
    depth = image_czyx.shape[1]
    sigma = [0.0, min(BLUR, depth / 4), BLUR, BLUR]
    smooth = ndimage.gaussian_filter(image_czyx.numpy(), sigma, mode="nearest")
    return torch.from_numpy(smooth)


def attribution(
    crop: Crop, value: int, method: str = "integrated-gradients"
) -> NDArray[np.float32]:
    """Return how much each voxel of a crop raises the object's score.

    Parameters
    ----------
    crop : Crop
    value : int
        The class.
    method : {"integrated-gradients", "gradient-x-input"}
        Gradients summed between the blurred and the given image [1]_, whose sum is the
        difference of the two scores; or the gradient at the given image alone, times
        the difference of the images.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        In nats, summed over channels.

    Raises
    ------
    ConfigError
        If the method is unknown.
    EnvironmentFault
        If captum is not installed.

    References
    ----------
    .. [1] Sundararajan et al. 2017, doi:10.48550/arXiv.1703.01365
    """
    if method not in METHODS:
        raise ConfigError(f"`method` is {method!r}; expected {' or '.join(METHODS)}")
    captum = captum_library()
    image, without = crop.image[None].clone(), blurred(crop.image)[None]
    forward = scores_of(crop, value)
    if method == "integrated-gradients":
        given = captum.IntegratedGradients(forward).attribute(
            image.requires_grad_(),
            baselines=without,
            n_steps=STEPS,
            internal_batch_size=1,
        )
    else:
        gradient = captum.Saliency(forward).attribute(image.requires_grad_(), abs=False)
        given = gradient * (image.detach() - without)
    found: NDArray[np.float32] = given[0].sum(0).detach().float().numpy()
    return found


def occlusion(crop: Crop, value: int) -> NDArray[np.float32]:
    """Return by how much the object's score falls where a cube of the crop is blurred.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        In nats; each voxel has the value of its cube.

    Raises
    ------
    EnvironmentFault
        If captum is not installed.
    """
    captum = captum_library()
    channels, *sides = crop.image.shape
    cube = cube_of(sides)
    with torch.no_grad():
        found = captum.Occlusion(scores_of(crop, value)).attribute(
            crop.image[None],
            sliding_window_shapes=(channels, *cube),
            strides=(channels, *cube),
            baselines=blurred(crop.image)[None],
        )
    covered: NDArray[np.float32] = found[0, 0].float().numpy()
    return covered


def cube_of(sides: list[int]) -> tuple[int, int, int]:
    """Return the shape (z, y, x) of the smallest cubes of which `CUBES` fill a crop."""
    side = 1
    while math.prod(math.ceil(length / side) for length in sides) > CUBES:
        side += 1
    z, y, x = (min(side, length) for length in sides)
    return z, y, x


def scores_of(crop: Crop, value: int) -> Callable[[Tensor], Tensor]:
    """Return a function from images (N, C, z, y, x) to scores (N,)."""

    def forward(images: Tensor) -> Tensor:
        return torch.stack([crop.score(image, value) for image in images])

    return forward


def captum_library() -> Any:  # noqa: ANN401
    """Return captum's attribution module.

    Raises
    ------
    EnvironmentFault
        If it is not installed.
    """
    try:
        import captum.attr  # noqa: PLC0415 - only an explanation needs it
    except ModuleNotFoundError as error:
        raise missing_extra("an explanation needs captum", "explain") from error
    return captum.attr
