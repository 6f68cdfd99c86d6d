"""An explanation that lies beside the labels is on the page."""

import json

from PIL import Image
from report_case import write_case

from cellseg3d.cli.main import main


def explained(tmp_path, *, holds):
    words = write_case(tmp_path)
    row = {"share": 0.02, "voxels": 1200, "fall": 4.37, "fall_random": 0.01}
    record = {
        "object": "object 7",
        "class": "nucleus<b>",
        "deletion": {"rows": [row], "holds": holds},
    }
    place = tmp_path / "cell07_explain_object_7.json"
    place.write_text(json.dumps(record), encoding="utf-8")
    Image.new("RGB", (8, 8), "red").save(place.with_suffix(".png"))
    out = tmp_path / "page.html"
    labels = words[words.index("--prediction") + 1]
    assert main(["report", "--prediction", labels, "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_the_page_shows_the_picture_and_the_test(tmp_path):
    text = explained(tmp_path, holds=True)

    assert "object 7: nucleus&lt;b&gt;" in text
    assert '<img src="data:image/png;base64,' in text
    assert "<td>1,200</td><td>4.37</td><td>0.01</td>" in text
    assert "does not pass this test" not in text


def test_the_page_warns_of_an_attribution_that_does_not_pass(tmp_path):
    assert "does not pass this test" in explained(tmp_path, holds=False)


def test_a_record_without_its_picture_is_left_out(tmp_path):
    (tmp_path / "a").mkdir()
    words = write_case(tmp_path / "a")
    (tmp_path / "a" / "cell07_explain_x.json").write_text("{}", encoding="utf-8")
    out = tmp_path / "page.html"

    labels = words[words.index("--prediction") + 1]
    assert main(["report", "--prediction", labels, "--out", str(out)]) == 0

    assert "Why the network said so" not in out.read_text(encoding="utf-8")
