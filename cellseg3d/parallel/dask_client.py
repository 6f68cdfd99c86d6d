"""Open a Dask cluster: a scheduler by its address, or processes on this machine."""

import importlib
from collections.abc import Callable
from typing import Any

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.extras import missing_extra


def distributed_library() -> Any:  # noqa: ANN401
    """Return Dask's module ``distributed``.

    Raises
    ------
    EnvironmentFault
        If Dask is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise missing_extra("`dask` needs Dask", "scale") from error


def open_client(address: str, prepare: Callable[[], None] | None = None) -> Any:  # noqa: ANN401
    """Return a client of a Dask cluster, which the caller must close.

    Parameters
    ----------
    address : str
        The address of a scheduler, such as ``"tcp://host:8786"``, or ``"local:N"`` to
        start N processes on this machine.
    prepare : callable, optional
        Runs once in each process that is started on this machine.

    Raises
    ------
    ConfigError
        If N is not a number above 0.
    EnvironmentFault
        If Dask is not installed, or the scheduler does not answer.
    """
    distributed = distributed_library()
    kind, _, count = address.partition(":")
    if kind == "local":
        if not count.isdigit() or int(count) < 1:
            message = f"`dask` is {address!r}; expected local:N, such as local:4"
            raise ConfigError(message)
        # A client that starts its cluster also closes it.
        client = distributed.Client(
            n_workers=int(count),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Several clusters may run, so each takes a free port. The address is one
            # that other machines cannot reach.
            dashboard_address="127.0.0.1:0",
        )
        if prepare is not None:
            client.run(prepare)
        return client
    try:
        return distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        message = (
            f"`dask` {address!r}: no scheduler answers there ({error}); check the "
            "address, or give local:N"
        )
        raise EnvironmentFault(message) from error
