import pytest
from typer.main import get_command

from cellseg3d.cli import main as cli


def test_the_old_name_of_a_verb_finds_it_and_says_the_new_one(capsys, caplog):
    assert cli.main(["bundle", "fuse", "--help"]) == 0

    assert "Combine the networks of trained bundles" in capsys.readouterr().out
    expected = ["`bundle fuse` was renamed to `bundle combine`"]
    assert caplog.messages == expected


def test_the_help_lists_the_new_name_alone(capsys):
    assert cli.main(["bundle", "--help"]) == 0

    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert "combine" in listed
    assert "fuse" not in listed


@pytest.mark.parametrize("verb", cli.VERBS)
def test_resume_means_one_thing_in_every_verb(verb):
    command = get_command(cli.build_app()).commands[verb]

    for option in command.params:
        if "--resume" in option.opts:
            assert option.help.startswith("Go on with what was begun in --out: ")
