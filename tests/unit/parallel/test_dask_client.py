"""A cluster on this machine is one that other machines cannot reach."""

import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.parallel.dask_client import open_client

pytest.importorskip("distributed")


def test_a_local_cluster_listens_to_this_machine_alone():
    with open_client("local:1") as client:
        workers = client.scheduler_info()["workers"]
        addresses = [client.scheduler.address, *workers]

        assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
        assert "127.0.0.1" in client.dashboard_link


@pytest.mark.parametrize("address", ["local:", "local:0", "local:x"])
def test_a_count_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="local:N"):
        open_client(address)
