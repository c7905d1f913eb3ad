"""``ef-asr capacity``: the table, on a saved model and where nothing fits."""

import pytest
import typer
from typer.testing import CliRunner

from client_app.commands import capacity
from efmodel import EarlyExitForCTC
from efmodel.speech import vocabulary
from tests.conftest import small_config


def ef_asr_capacity(*arguments: object):
    app = typer.Typer()
    app.command()(capacity)
    return CliRunner().invoke(app, list(map(str, arguments)))


def rows(stdout: str) -> list[list[str]]:
    lines = [line for line in stdout.splitlines() if line.startswith("\u2502")]
    return [[cell.strip() for cell in line.strip("\u2502").split("\u2502")] for line in lines]


@pytest.mark.programs
def test_the_table_of_a_saved_model(tmp_path):
    model = EarlyExitForCTC(small_config(num_hidden_layers=2, exit_layers=[1, 2]))
    model.save_pretrained(tmp_path / "model")
    vocabulary.tokenizer_from(vocabulary.CHARACTERS).save_pretrained(tmp_path / "model")
    done = ef_asr_capacity("--model", tmp_path, "--memory-mb", 9000, "--max-seconds", 2)
    assert done.exit_code == 0, done.stderr
    first, second = rows(done.stdout)
    assert [first[0], first[4], second[0], second[4]] == ["1", "yes", "2", "yes"]
    assert second[1] == f"{sum(p.numel() for p in model.parameters()):,}"
    assert float(first[2]) > 0 and float(first[3]) > 100
    assert done.stdout.endswith("capacity 2 of 2 within 9000 MB\n")


def test_where_nothing_fits_it_ends_with_1_and_without_a_model_with_2(tmp_path):
    done = ef_asr_capacity("--memory-mb", 50)
    assert done.exit_code == 1 and "capacity 0 of 3 within 50 MB" in done.stdout
    assert len(rows(done.stdout)) == 1 and "no:" in done.stdout
    done = ef_asr_capacity("--model", tmp_path)
    assert done.exit_code == 2 and "found no config.json" in done.stderr
    done = ef_asr_capacity("--memory-mb", -1)
    assert done.exit_code == 2 and "memory-mb: found -1" in done.stderr
