"""Which channels of its images a data set names, and whether they agree."""

import json

import numpy as np
import pytest
from two_stains import NAMES, two_stains, write_set, write_stains

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.channels import common_channels
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.volumes import load_cases, load_fold
from cellseg3d.runs.data_facts import facts_of_datalist


@pytest.mark.parametrize("channels", [2, ["DAPI", "actin"], ["actin", "DAPI"], [1, 0]])
def test_a_datalist_names_the_channels_that_the_network_sees(tmp_path, channels):
    datalist = load_datalist(write_set(tmp_path, 2, channels))
    image, _ = two_stains(0)
    order = [1, 0] if channels in (["actin", "DAPI"], [1, 0]) else [0, 1]

    case = load_cases(datalist.cases[:1], datalist)[0]

    np.testing.assert_array_equal(case.image, image[order])
    names = facts_of_datalist(datalist).channels
    assert names == tuple(NAMES[number] for number in order)


def test_one_channel_is_chosen_by_its_name(tmp_path):
    datalist = load_datalist(write_set(tmp_path, 2, "actin"))

    case = load_fold(datalist).training[0]

    np.testing.assert_array_equal(case.image, two_stains(0)[0][1])
    assert facts_of_datalist(datalist).channels == ("actin",)


def test_a_written_datalist_keeps_its_channels(tmp_path):
    datalist = load_datalist(write_set(tmp_path, 2, ["actin", 0]))

    write_datalist(datalist, tmp_path / "again.json")

    again = load_datalist(tmp_path / "again.json")
    assert [case.channels for case in again.cases] == [("actin", 0), ("actin", 0)]


def test_the_channels_of_a_case_win_over_those_of_the_data_set(tmp_path):
    place = write_set(tmp_path, 2, 2)
    values = json.loads(place.read_text())
    values["cases"][1]["channel"] = "DAPI"
    place.write_text(json.dumps(values))

    first, second = load_datalist(place).cases

    assert (first.channels, first.channel) == (2, None)
    assert (second.channels, second.channel) == (None, "DAPI")
    with pytest.raises(
        ConfigError, match=r"v1.ome.tif has 1 channel, but .*2 channels"
    ):
        facts_of_datalist(load_datalist(place))


@pytest.mark.parametrize("value", [[], 0, -1, True, "", [1.5], {"a": 1}])
def test_channels_that_cannot_be_meant_are_refused(tmp_path, value):
    place = write_set(tmp_path, 2, 2)
    values = json.loads(place.read_text())
    values["cases"][0]["channels"] = value
    place.write_text(json.dumps(values))

    with pytest.raises(ConfigError, match=r"'channels' is .*expected a list of names"):
        load_datalist(place)


def test_images_with_the_same_channels_in_another_order_are_refused(tmp_path):
    place = write_set(tmp_path, 2, 2)
    image, _ = two_stains(1)
    write_stains(tmp_path / "v1.ome.tif", image[::-1], ("actin", "DAPI"))

    with pytest.raises(
        ConfigError, match=r"has the channels actin, DAPI, but .* has DAPI, actin"
    ):
        facts_of_datalist(load_datalist(place))
    # Names in the datalist put each file's channels in order.
    named = load_datalist(write_set(tmp_path / "named", 2, ["DAPI", "actin"]))
    write_stains(tmp_path / "named" / "v1.ome.tif", image[::-1], ("actin", "DAPI"))
    loaded = load_cases(named.cases, named)
    np.testing.assert_array_equal(loaded[1].image, image)


def test_channels_without_names_are_numbered():
    volume = Volume(np.zeros((2, 1, 4, 4)))

    assert common_channels([volume, volume], "set") == ("channel 0", "channel 1")
    assert common_channels([volume.channel(0)], "set") == ()


def test_each_channel_has_percentiles_of_its_own():
    image, _ = two_stains(1)
    scale = IntensityScale()

    found = scale.scaling_of(Volume(image))

    alone = [scale.scaling_of(Volume(part)) for part in image]
    assert found.offset == tuple(each.offset for each in alone)
    assert found.limits == (*alone[0].limits, *alone[1].limits)
    scaled = scale.apply(image, found.offset, found.factor)
    for part, raw, own in zip(scaled, image, alone, strict=True):
        expected = scale.apply(raw, own.offset, own.factor)
        np.testing.assert_array_equal(part, expected)
