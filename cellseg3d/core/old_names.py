"""Names that modules had before they moved; old bundles and run folders use them.

A run folder names functions of this package in its JSON files. The table below says
where each of those modules lies today. Our own reader of configs asks `current_name`;
MONAI's reader imports the old name, which `OldModules` answers with today's module.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TypeVar

_PACKAGE = "cellseg3d."
# Old module to today's, both without the package's name.
MOVED = {
    "bundle.facts": "bundle.model_facts",
    "bundle.members": "bundle.model_facts",
    "data.augment": "samples.augment",
    "data.cases": "datasets.cases",
    "data.datalist": "datasets.datalist",
    "data.doctor": "doctor.examine",
    "data.doctor_repair": "doctor.repair",
    "data.inputs": "samples.inputs",
    "data.intensity": "datasets.intensity",
    "data.labels": "datasets.labels",
    "data.loaders": "samples.loaders",
    "data.monai_io": "samples.monai_io",
    "data.samplers": "samples.samplers",
    "data.score_report": "scoring.report",
    "data.score_volume": "scoring.one_volume",
    "data.scoring": "scoring.evaluate",
    "data.simulated": "datasets.simulated",
    "data.splits": "datasets.splits",
    "data.targets": "datasets.targets",
    "data.transforms": "samples.transforms",
    "data.volumes": "datasets.volumes",
    "engines.average": "training.average",
    "engines.checkpoints": "training.checkpoints",
    "engines.epochs": "training.epochs",
    "engines.evaluator": "training.evaluator",
    "engines.facts": "runs.data_facts",
    "engines.figure": "core.figure",
    "engines.history": "training.history",
    "engines.inputs": "samples.inputs",
    "engines.interrupt": "training.interrupt",
    "engines.model_files": "training.model_files",
    "engines.patch": "runs.patch",
    "engines.pictures": "training.pictures",
    "engines.plan": "planning.plan",
    "engines.plan_machine": "planning.machine",
    "engines.plan_survey": "planning.survey",
    "engines.precision": "training.precision",
    "engines.processes": "training.processes",
    "engines.progress": "training.progress",
    "engines.run_folder": "runs.folder",
    "engines.run_record": "runs.record",
    "engines.schedule": "training.schedule",
    "engines.scores": "training.scores",
    "engines.session": "training.session",
    "engines.source_fit": "calibration.source_fit",
    "engines.step": "training.step",
    "engines.unseen": "runs.unseen",
    "engines.validation": "training.validation",
    "inference.inferer": "prediction.inferer",
    "inference.instances": "objects.label",
    "inference.lattice": "prediction.lattice",
    "metrics.objects": "metrics.components",
    "models.cascade": "models.recipes.cascade",
    "models.convlstm": "models.recipes.convlstm",
    "models.googlenet": "models.recipes.googlenet",
    "models.imagenet": "models.recipes.imagenet",
    "models.vgg": "models.recipes.vgg",
}
_ROOMS = {old.split(".")[0] for old in MOVED} - {
    new.split(".")[0] for new in MOVED.values()
}


_T = TypeVar("_T")
# Words of datalists, and of what is kept with weights, by the words of today.
_KINDS = {"instances": "objects"}


def current_label_kind(word: _T) -> _T | str:
    """Return today's word for a kind of labels; datalists may hold an older one.

    Anything that is no word is returned as it is, for the caller to refuse.
    """
    return _KINDS.get(word, word) if isinstance(word, str) else word


def current_name(name: str) -> str:
    """Return today's dotted name of a function or class that may have moved.

    Parameters
    ----------
    name : str
        A dotted name, such as a ``_target_`` of a config.

    Returns
    -------
    str
        Today's name; the name itself when its module has not moved.

    Examples
    --------
    >>> current_name("cellseg3d.data.intensity.IntensityScale")
    'cellseg3d.datasets.intensity.IntensityScale'
    >>> current_name("monai.losses.DiceLoss")
    'monai.losses.DiceLoss'
    """
    module, dot, rest = name.removeprefix(_PACKAGE).rpartition(".")
    if not dot or not name.startswith(_PACKAGE) or module not in MOVED:
        return name
    return f"{_PACKAGE}{MOVED[module]}.{rest}"


class OldModules(MetaPathFinder, Loader):
    """Import a module under the name that it had before it moved.

    Python asks this finder last, and it answers names of `MOVED` alone.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return how to import an old name; None for every other name."""
        del path, target
        if not fullname.startswith(_PACKAGE):
            return None
        old = fullname.removeprefix(_PACKAGE)
        if old in _ROOMS:
            return ModuleSpec(fullname, self, is_package=True)
        return ModuleSpec(fullname, self) if old in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put today's module in the place of the old name."""
        new = MOVED.get(module.__name__.removeprefix(_PACKAGE))
        if new is not None:
            sys.modules[module.__name__] = import_module(f"{_PACKAGE}{new}")


def answer_old_names() -> None:
    """Let Python import moved modules by their old names from now on."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.append(OldModules())
