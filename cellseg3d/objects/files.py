"""Find order and method for files of probabilities; choose parallel workers."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cellseg3d.core.class_files import PROB_MARK, class_file_names
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import case_stem
from cellseg3d.datasets.targets import BORDER_CORE, LINKS, LONG_LINKS, decoder_for
from cellseg3d.objects.label import BlockMap


def in_class_order(paths: Sequence[Path]) -> tuple[list[Path], str]:
    """Return files of probabilities in the order of classes, and a fitting method.

    Parameters
    ----------
    paths : sequence of Path
        Files that `predict --probs` named NAME_prob_CLASS, in any order. Files with
        other names keep their order.

    Returns
    -------
    paths : list of Path
        The same files in the order of the classes.
    method : str
        The method of `ObjectOptions` that fits the classes.
    """
    stems = {case_stem(str(path)): path for path in paths}
    before = next(iter(stems)).rpartition(PROB_MARK)[0]
    for classes in (BORDER_CORE, LINKS, LONG_LINKS, _recorded_classes(paths)):
        wanted = [f"{before}{PROB_MARK}{word}" for word in class_file_names(classes)]
        if set(stems) == set(wanted) and len(paths) == len(classes):
            return [stems[name] for name in wanted], decoder_for(classes)
    return list(paths), decoder_for(())


def named_as_probs(paths: Sequence[Path]) -> bool:
    """Return whether all files have names like those of `predict --probs`."""
    return all(PROB_MARK in path.name for path in paths)


def block_map(stack: ExitStack, workers: int = 1, dask: str | None = None) -> BlockMap:
    """Return a function like ``map``, in this process, in several, or on a cluster.

    Parameters
    ----------
    stack : ExitStack
        The stack that closes the processes or the connection.
    workers : int
        Number of processes on this machine.
    dask : str, optional
        Address of a cluster, as for `dask_client.open_client`.

    Raises
    ------
    ConfigError
        If several processes and a cluster are asked for.
    EnvironmentFault
        If Dask is not installed, or if no scheduler answers at the address.
    """
    if dask is not None:
        if workers > 1:
            raise ConfigError("`workers` and `dask` contradict each other; give one")
        from cellseg3d.objects.dask_map import dask_map  # noqa: PLC0415
        from cellseg3d.parallel.dask_client import open_client  # noqa: PLC0415

        return dask_map(stack.enter_context(open_client(dask)))
    if workers > 1:
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

        return stack.enter_context(ProcessPoolExecutor(workers)).map
    return map


def _recorded_classes(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the classes from the record beside the files; empty without a record."""
    stem = case_stem(str(paths[0])).rpartition(PROB_MARK)[0]
    record = paths[0].with_name(f"{stem}_labels.json")
    try:
        models = json.loads(record.read_text(encoding="utf-8"))["segmentation"]
        return tuple(models["models"][0]["classes"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ()
