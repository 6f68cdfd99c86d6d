"""Lines about what begins are said once where work begins again."""

from cellseg3d.core.steps import each_line_once, say


def test_a_line_is_said_once_in_a_block_and_again_after_it(caplog):
    caplog.set_level("INFO", "cellseg3d.steps")

    with each_line_once():
        for number in (1, 1, 2):
            say("intensities: %d", number)
    say("intensities: %d", 1)

    assert caplog.messages == ["intensities: 1", "intensities: 2", "intensities: 1"]
