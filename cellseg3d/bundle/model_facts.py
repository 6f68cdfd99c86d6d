"""What data a model is for: classes and spacing; they travel with its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from cellseg3d.bundle.shipped import weights_file
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.checkpoint import load_weights
from cellseg3d.models.fused_networks import Member
from cellseg3d.models.unet import build_network


@dataclass(frozen=True)
class ModelFacts:
    """What a network was, or will be, trained on.

    Parameters
    ----------
    classes : tuple of str
        Names by class index, background first.
    spacing_um : tuple of float or None
        Voxel edges (z, y, x) of the training volumes; None when they do not say.
    intensity_unit : {"1/um", "arbitrary"}
    single_slices : bool
        Whether every training volume was one slice: a folder of images is then many
        volumes, not the slices of one.
    resampled : bool
        Whether the training volumes were brought to `spacing_um`; every volume that
        the network sees is, then.

    Raises
    ------
    ConfigError
        If there are fewer than two classes, or a name occurs twice.
    """

    classes: tuple[str, ...]
    spacing_um: tuple[float, float, float] | None = None
    intensity_unit: str = "arbitrary"
    single_slices: bool = False
    resampled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            message = (
                f"classes are {list(self.classes)}; expected two or more different "
                "names, background first"
            )
            raise ConfigError(message)
        if self.spacing_um is not None:
            object.__setattr__(self, "spacing_um", Spacing.of(self.spacing_um).zyx)

    @property
    def num_classes(self) -> int:
        """How many classes there are, background included."""
        return len(self.classes)

    @property
    def resampled_um(self) -> tuple[float, float, float] | None:
        """What all volumes are brought to; None where they are taken as they are."""
        return self.spacing_um if self.resampled else None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        values = asdict(self)
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if value is not False
        }

    @classmethod
    def parse(cls, values: "ModelFacts | Mapping[str, Any]") -> "ModelFacts":
        """Return facts from a mapping; facts pass through.

        Raises
        ------
        ConfigError
            If a key is unknown or a value makes no sense.
        """
        if isinstance(values, ModelFacts):
            return values
        known = tuple(field.name for field in fields(cls))
        unknown = sorted(set(values) - set(known))
        if unknown or "classes" not in values:
            found = f"unknown key {unknown[0]!r}" if unknown else "no classes"
            message = f"facts: {found}; expected {', '.join(known)}"
            raise ConfigError(message)
        return cls(**values)


def stored_facts(
    bundle_root: str | Path, default: ModelFacts | Mapping[str, Any]
) -> ModelFacts:
    """Return the facts that a bundle's weights carry; `default` before training.

    Parameters
    ----------
    bundle_root : str or Path
        The bundle or run folder.
    default : ModelFacts or mapping
        What the bundle is trained on when nobody says otherwise.
    """
    path = weights_file(bundle_root)
    if not path.is_file():
        return ModelFacts.parse(default)
    return ModelFacts.parse(load_weights(path).metadata.get("facts", default))


def network_for(
    name: str,
    spec: InputSpec | dict[str, Any],
    facts: ModelFacts | Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - each network has its own
) -> nn.Module:
    """Return a network of as many classes as the facts name, shaped by their spacing.

    Parameters
    ----------
    name, spec, **options
        As for `cellseg3d.models.unet.build_network`.
    facts : ModelFacts or mapping
    """
    known = ModelFacts.parse(facts)
    spacing: Sequence[float] | None = known.spacing_um
    return build_network(name, spec, known.num_classes, spacing_um=spacing, **options)


def member_for(
    name: str,
    spec: InputSpec | dict[str, Any],
    facts: ModelFacts | Mapping[str, Any],
    window: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - each network has its own
) -> Member:
    """Return a member of `cellseg3d.models.fused_networks.FusedNetworks`.

    Parameters
    ----------
    name, spec, facts, **options
        As for `network_for`.
    window : mapping, optional
        Core, halo, axes and weights of this member; see
        `cellseg3d.prediction.lattice.WindowSettings`.
    """
    return Member(network_for(name, spec, facts, **options), spec, window)
