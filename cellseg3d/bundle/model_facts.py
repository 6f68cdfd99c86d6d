"""The facts about a model's training data, such as classes and spacing.

They are stored with the weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from cellseg3d.bundle.shipped import weights_file
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.old_names import current_label_kind
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.words import refuse_unknown
from cellseg3d.models.checkpoint import load_weights
from cellseg3d.models.fused_networks import Member
from cellseg3d.models.unet import build_network


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the data that a network was, or will be, trained on.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes in the order of their indices, background first.
    spacing_um : tuple of float or None
        Voxel edges (z, y, x) of the training volumes, in um; None if they are unknown.
    intensity_unit : {"1/um", "arbitrary"}
    single_slices : bool
        Whether every training volume was one slice. A folder of images is then read as
        many volumes, not as the slices of one.
    resampled : bool
        Whether the training volumes were resampled to `spacing_um`. Every volume that
        the network predicts is then resampled too.
    spacing_told : bool
        Whether the user gave the spacing because the files had none. Volumes without a
        spacing are then taken to have it.
    labels : {"classes", "objects", "masks"}
        The kind of values in the training labels.
    label_map : mapping of int to int or None
        The class that each value of the training labels became; None without a map.
    channels : tuple of str
        Names of the channels of the training images, in the order that the network
        sees; empty for one channel without a name.

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
    spacing_told: bool = False
    labels: str = "classes"
    label_map: Mapping[int, int] | None = None
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(map(str, self.channels)))
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "labels", current_label_kind(self.labels))
        if self.label_map is not None:
            renaming = {int(key): int(to) for key, to in self.label_map.items()}
            object.__setattr__(self, "label_map", renaming)
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
        """The number of classes, background included."""
        return len(self.classes)

    @property
    def resampled_um(self) -> tuple[float, float, float] | None:
        """The spacing to which all volumes are resampled; None if they are not."""
        return self.spacing_um if self.resampled else None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as a mapping that JSON can hold."""
        values = asdict(self)
        if self.label_map is None:
            del values["label_map"]
        else:  # The keys of a JSON object are texts.
            values["label_map"] = {str(key): to for key, to in self.label_map.items()}
        if self.labels == "classes":
            del values["labels"]
        if not self.channels:
            del values["channels"]
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if value is not False
        }

    @property
    def meaning(self) -> dict[str, Any]:
        """The meaning of the training labels' values, as a mapping for JSON."""
        known = self.as_dict()
        return {key: known[key] for key in ("labels", "label_map") if key in known}

    @classmethod
    def parse(cls, values: "ModelFacts | Mapping[str, Any]") -> "ModelFacts":
        """Return the facts that a mapping holds; facts are returned as they are.

        Raises
        ------
        ConfigError
            If a key is unknown, classes are missing, or a value is not valid.
        """
        if isinstance(values, ModelFacts):
            return values
        known = [field.name for field in fields(cls)]
        refuse_unknown(values, known, "facts")
        if "classes" not in values:
            message = f"facts: there is no key 'classes'; expected {', '.join(known)}"
            raise ConfigError(message)
        return cls(**values)


def stored_facts(
    bundle_root: str | Path, default: ModelFacts | Mapping[str, Any]
) -> ModelFacts:
    """Return the facts stored with a bundle's weights, or `default` before a training.

    Parameters
    ----------
    bundle_root : str or Path
        The folder of the bundle or run.
    default : ModelFacts or mapping
        The facts of the data on which the bundle is trained by default.
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
    """Return a network for the classes and the spacing that the facts name.

    Parameters
    ----------
    name, spec, **options
        As for `cellseg3d.models.unet.build_network`.
    facts : ModelFacts or mapping
    """
    known = ModelFacts.parse(facts)
    spacing: Sequence[float] | None = known.spacing_um
    seen = spec_for(spec, known)
    return build_network(name, seen, known.num_classes, spacing_um=spacing, **options)


def spec_for(
    spec: InputSpec | dict[str, Any], facts: ModelFacts | Mapping[str, Any]
) -> InputSpec:
    """Return the input of a network with as many channels as the images have."""
    parsed, channels = InputSpec.parse(spec), ModelFacts.parse(facts).channels
    return replace(parsed, image_channels=len(channels)) if channels else parsed


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
        Core, halo, axes and fusion weights of this member; see
        `cellseg3d.prediction.lattice.WindowSettings`. Fusion weights that were fitted
        for another number of classes, before a training on other data, are left out.
    """
    count = len(ModelFacts.parse(facts).classes)
    kept = dict(window or {})
    fitted = kept.get("fusion") or {}
    if any(len(row) != count for row in fitted.values()):
        kept.pop("fusion")
        kept.pop("fusion_gain", None)
    return Member(
        network_for(name, spec, facts, **options), spec_for(spec, facts), kept
    )
