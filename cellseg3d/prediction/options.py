"""What a user may choose about a prediction."""

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
        Axes along which 2D and 2.5D networks sweep, such as ``"zyx"``; those of the
        bundle when None.
    fuse : str
        How several axes, bundles or views become one answer: ``"mean"``,
        ``"weighted"`` (by the voxel's shape), ``"product"``, ``"vote"``,
        ``"maximum"`` or ``"learned"`` (weights that a bundle holds). ``"auto"`` is
        learned where bundles hold weights for their own axes, else weighted.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "float32", "bfloat16", "int8"}
    backend : {"auto", "torch", "openvino"}
        What runs the network; ``"auto"`` is torch.
    acceleration : {"auto", "off"}
        ``"off"`` runs the network as torch does, layer by layer and in float32 unless
        bfloat16 is asked for: several times slower, to find out whether something
        that makes it faster is at fault.
    tta : bool
        Also predict flipped and turned copies, as far as the voxel's shape allows.
    batch : int or None
        Slices that run together; the bundle's when None.
    max_ram : int or None
        Bytes of memory that the process may take; None: what the bundle's windows
        need.
    skip_empty : bool
        Leave out windows that hold nothing, by the bundle's threshold.
    probs, uncertainty : bool
        Also return class probabilities, and a voxel's uncertainty.
    probs_dtype : {"uint8", "float16", "float32"}
        How files hold probabilities; uint8 in 255ths.
    rescale : bool or None
        Resample to the voxel size of the training, and the labels back; None does so
        for models whose training volumes were resampled, too.
    max_vram : int or None
        As `max_ram`, of a GPU's memory.
    dask : str or None
        Address of a Dask scheduler, or ``"local:N"`` for N processes here.

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
    batch: int | None = None
    max_ram: int | None = None
    skip_empty: bool = False
    probs: bool = False
    uncertainty: bool = False
    probs_dtype: str = "uint8"
    rescale: bool | None = None
    max_vram: int | None = None
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            object.__setattr__(self, "axes", check_axes(self.axes))
        known = ("auto", *FUSE_MODES, "learned")
        if self.fuse not in known:
            message = f"fuse {self.fuse!r}; expected one of {', '.join(known)}"
            raise ConfigError(message)
        if self.precision not in PRECISIONS:
            message = (
                f"precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}"
            )
            raise ConfigError(message)
        if self.backend not in ("auto", "torch", "openvino"):
            message = f"backend {self.backend!r}; expected auto, torch or openvino"
            raise ConfigError(message)
        self._check_acceleration()
        if self.probs_dtype not in ("uint8", "float16", "float32"):
            message = f"probs {self.probs_dtype!r}; expected uint8, float16 or float32"
            raise ConfigError(message)
        if self.batch is not None and self.batch < 1:
            message = f"batch is {self.batch}; expected 1 or more"
            raise ConfigError(message)

    def _check_acceleration(self) -> None:
        check_acceleration(self.acceleration)
        needs = self.precision == "int8" or self.backend == "openvino"
        if self.acceleration == "off" and needs:
            message = (
                f"acceleration 'off' with precision {self.precision!r} and backend "
                f"{self.backend!r}: int8 and OpenVINO are parts of the acceleration; "
                "leave it at 'auto', or take precision 'float32' and backend 'torch'"
            )
            raise ConfigError(message)
