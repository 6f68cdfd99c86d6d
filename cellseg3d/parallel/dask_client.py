"""A Dask cluster by its address: a scheduler's, or processes of this machine."""

import importlib
from collections.abc import Callable
from typing import Any

from cellseg3d.core.errors import ConfigError, EnvironmentFault


def distributed_library() -> Any:  # noqa: ANN401
    """Return Dask's ``distributed``.

    Raises
    ------
    EnvironmentFault
        If it is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        message = (
            '--dask needs Dask, which is not installed: pip install "cellseg3d[scale]"'
        )
        raise EnvironmentFault(message) from error


def open_client(address: str, prepare: Callable[[], None] | None = None) -> Any:  # noqa: ANN401
    """Return a client of a scheduler, or of N processes made here; close it after use.

    Parameters
    ----------
    address : str
        Of a scheduler, such as ``"tcp://host:8786"``, or ``"local:N"``.
    prepare : callable, optional
        Runs once in each process made here.

    Raises
    ------
    ConfigError
        If ``local:N`` has no number of processes.
    EnvironmentFault
        If Dask is not installed, or the scheduler does not answer.
    """
    distributed = distributed_library()
    kind, _, count = address.partition(":")
    if kind == "local":
        if not count.isdigit() or int(count) < 1:
            message = f"dask {address!r}; expected local:N, such as local:4"
            raise ConfigError(message)
        # A client that made its cluster closes it, too.
        client = distributed.Client(
            n_workers=int(count),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Any free port, as several may run, that no other machine can reach.
            dashboard_address="127.0.0.1:0",
        )
        if prepare is not None:
            client.run(prepare)
        return client
    try:
        return distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        message = f"dask {address!r}: no scheduler answers there ({error})"
        raise EnvironmentFault(message) from error
