"""The page shows the Dice that was expected, and what a temperature changed."""

import json

from report_case import write_case

from cellseg3d.cli.main import main

ERRORS = {
    "temperature": 1.25,
    "ece": [0.031, 0.012],
    "nll": [0.2, 0.15],
    "volumes": ["a", "b"],
}
SENTENCE = (
    "logits are divided by 1.25, fitted on 2 validation volumes: ECE .031 to .012, "
    "NLL .200 to .150"
)


def predicted(tmp_path, expected):
    """Write labels with the record that prediction writes; return the CLI's words."""
    words = write_case(tmp_path)
    labels = words[words.index("--prediction") + 1]
    model = {"name": "m", "classes": ["background", "cell"], "confidence": ERRORS}
    record = {"segmentation": {"models": [model], "expected_dice": expected}}
    (tmp_path / "cell07_labels.json").write_text(json.dumps(record), encoding="utf-8")
    return words, labels


def test_the_page_of_a_volume_without_truth_shows_what_to_expect(tmp_path):
    row = {"dice": 0.8512, "within": 0.0488, "soft": 0.87}
    _, labels = predicted(tmp_path, {"classes": {"cell": row}, "level": 0.9})
    out = tmp_path / "page.html"

    assert main(["report", "--prediction", labels, "--out", str(out)]) == 0

    text = out.read_text(encoding="utf-8")
    assert "<td>cell</td><td>0.851</td><td>+- 0.049</td></tr>" in text
    assert "measured Dice" not in text
    assert SENTENCE in text


def test_what_cannot_be_trusted_is_said_without_a_figure(tmp_path):
    _, labels = predicted(tmp_path, {"untrusted": "the volume is <b>blurred</b>"})
    out = tmp_path / "page.html"

    assert main(["report", "--prediction", labels, "--out", str(out)]) == 0

    text = out.read_text(encoding="utf-8")
    assert "no Dice is expected: the volume is &lt;b&gt;blurred" in text
    assert "expected-table" not in text


def test_evaluate_says_what_the_temperature_changed(tmp_path, capsys):
    words, labels = predicted(tmp_path, {})
    given = dict(zip(words[::2], words[1::2], strict=True))

    code = main(
        [
            *("evaluate", labels, given["--truth"], "--objects"),
            *("--probabilities", given["--probs"]),
        ]
    )

    assert code == 0
    assert f"temperature: {SENTENCE}" in capsys.readouterr().out
