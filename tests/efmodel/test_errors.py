"""How a command shows a mistake of its user."""

import pytest
import typer

from efmodel.errors import UserError, did_you_mean, shown_errors


def test_a_mistake_of_the_user_is_one_line_and_a_status(capsys):
    with pytest.raises(typer.Exit) as ended, shown_errors():
        raise UserError("lr: found 0, wanted more")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "lr: found 0, wanted more\n"


def test_further_kinds_and_another_status(capsys):
    with pytest.raises(typer.Exit) as ended, shown_errors(OSError, status=1):
        raise FileNotFoundError("no such folder")
    assert ended.value.exit_code == 1 and "no such folder" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ValueError, match="a fault"), shown_errors():
        raise ValueError("a fault")


def test_the_nearest_name_is_offered_if_there_is_one():
    assert did_you_mean("roundz", ["rounds", "lr"]) == "; did you mean 'rounds'?"
    assert did_you_mean("xyz", ["rounds", "lr"]) == ""
