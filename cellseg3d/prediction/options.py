"""The options of a prediction."""

from dataclasses import dataclass

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.hardware import PRECISIONS, check_acceleration
from cellseg3d.prediction.fusion import FUSE_MODES
from cellseg3d.prediction.lattice import check_axes


@dataclass(frozen=True)
class SegmentOptions:
    """Options of `segment` and `segment_to_file`.

    Parameters
    ----------
    axes : str or None
        Axes along which 2D and 2.5D networks sweep, such as ``"zyx"``. When None, the
        bundle's own axes are taken.
    fuse : str
        How several axes, bundles or views become one answer: ``"mean"``,
        ``"weighted"`` (by the voxel's shape), ``"product"``, ``"vote"``,
        ``"maximum"`` or ``"learned"`` (by weights that a bundle holds). ``"auto"``
        takes learned weights where bundles hold them for their own axes, and otherwise
        weights from the voxel's shape.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "float32", "bfloat16", "int8"}
    backend : {"auto", "torch", "openvino"}
        The library that runs the network; ``"auto"`` is torch.
    acceleration : {"auto", "off"}
        ``"off"`` runs the network as torch does, layer by layer, in float32 unless
        bfloat16 is asked for. It is several times slower and shows whether the
        acceleration causes a fault.
    tta : bool
        Whether to predict flipped and turned copies as well, as far as the voxel's
        shape allows.
    adapt : {"auto", "on", "off"}
        Whether to measure the network's normalisation on the volume
        (`cellseg3d.prediction.adapt`). ``"auto"`` does so for a model that was found
        to gain by it, and else where the volume does not look like those of the
        training, which is said.
    batch : int or None
        Slices that run together. When None, the bundle's number is taken.
    max_ram : int or None
        Bytes of memory that the process may take. When None, it takes what the
        bundle's windows need.
    skip_empty : bool
        Whether to leave out windows whose intensities lie below the bundle's threshold.
    probs, uncertainty : bool
        Whether to return class probabilities and each voxel's uncertainty as well.
    calibrated : bool
        Whether probabilities and uncertainty are those at the model's temperature
        (`cellseg3d.metrics.temperature`), if it has one. Objects are found in those
        without it, because that is what their settings were tuned on.
    probs_dtype : {"uint8", "float16", "float32"}
        The dtype of probabilities in files; uint8 holds them in 255ths.
    overlay : bool
        Whether files get a picture of the labels over the image beside them.
    rescale : bool or None
        Whether to resample the volume to the voxel size of the training, and the labels
        back. When None, this is done for models whose training volumes were resampled.
    max_vram : int or None
        Bytes that the prediction may take of a GPU's memory.
    dask : str or None
        Address of a Dask scheduler, or ``"local:N"`` for N processes on this machine.

    Raises
    ------
    ConfigError
        If an option has an unknown value, or two options exclude each other.

    Examples
    --------
    >>> from cellseg3d import SegmentOptions
    >>> SegmentOptions(axes="zyx", probs=True).fuse
    'auto'
    """

    axes: str | None = None
    fuse: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    acceleration: str = "auto"
    tta: bool = False
    adapt: str = "auto"
    batch: int | None = None
    max_ram: int | None = None
    skip_empty: bool = False
    probs: bool = False
    uncertainty: bool = False
    calibrated: bool = True
    probs_dtype: str = "uint8"
    overlay: bool = False
    rescale: bool | None = None
    max_vram: int | None = None
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            object.__setattr__(self, "axes", check_axes(self.axes))
        known = ("auto", *FUSE_MODES, "learned")
        if self.fuse not in known:
            message = f"`fuse` is {self.fuse!r}; expected one of {', '.join(known)}"
            raise ConfigError(message)
        if self.precision not in PRECISIONS:
            message = (
                f"`precision` is {self.precision!r}; expected one of "
                f"{', '.join(PRECISIONS)}"
            )
            raise ConfigError(message)
        if self.backend not in ("auto", "torch", "openvino"):
            message = f"`backend` is {self.backend!r}; expected auto, torch or openvino"
            raise ConfigError(message)
        self._check_acceleration()
        if self.adapt not in ("auto", "on", "off"):
            message = f"`adapt` is {self.adapt!r}; expected auto, on or off"
            raise ConfigError(message)
        if self.probs_dtype not in ("uint8", "float16", "float32"):
            message = (
                f"`probs` is {self.probs_dtype!r}; expected uint8, float16 or float32"
            )
            raise ConfigError(message)
        if self.batch is not None and self.batch < 1:
            message = f"`batch` is {self.batch}; expected 1 or more"
            raise ConfigError(message)

    def _check_acceleration(self) -> None:
        check_acceleration(self.acceleration)
        needs = self.precision == "int8" or self.backend == "openvino"
        if self.acceleration == "off" and needs:
            message = (
                f"`acceleration` is 'off', but `precision` is {self.precision!r} and "
                f"`backend` is {self.backend!r}; int8 and OpenVINO are parts of the "
                "acceleration, so leave it at 'auto', or take precision 'float32' and "
                "backend 'torch'"
            )
            raise ConfigError(message)
