"""``ef-asr config``: the keys of the run config in a terminal."""

import pytest
import typer
from typer.testing import CliRunner

from efmodel.commands import config
from efmodel.settings import keys


def ef_asr_config(*arguments: str):
    app = typer.Typer()
    app.command()(config)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})


def test_every_key_stands_under_its_topic_with_its_default():
    done = ef_asr_config()
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and max(map(len, lines)) <= 80
    headings = [line.split(" ")[0] for line in lines if "───" in line]
    assert headings == list(dict.fromkeys(key.topic for key in keys().values()))
    starts = [line for line in lines if line[:1].isalpha() and "───" not in line]
    assert [line.split(" = ")[0] for line in starts] == list(keys())
    assert any(line.startswith("gradient-checkpointing = false ") for line in lines)


def test_one_key_in_detail():
    done = ef_asr_config("coverage")
    rows = {line[:9].strip(): line[9:].strip() for line in done.stdout.splitlines()}
    assert rows["key"] == "coverage"
    assert rows["default"] == "trainers" and rows["topic"] == "aggregation"
    assert rows["allowed"] == "one of trainers, cohort"


def test_a_word_is_searched_in_names_topics_and_meanings():
    by_topic = ef_asr_config("privacy").stdout
    assert "local-epsilon = " in by_topic and "max-update-norm = " in by_topic
    by_meaning = ef_asr_config("SpecAugment").stdout
    assert "masks" in by_meaning and "coverage" not in by_meaning


@pytest.mark.parametrize(
    ("word", "nearest"), [("roundz", "rounds"), ("exitloss", "exit-loss"), ("cache_mb", "cache-mb")]
)
def test_an_unknown_word_ends_with_2_and_the_nearest_key(word, nearest):
    done = ef_asr_config(word)
    assert done.exit_code == 2 and done.stdout == ""
    assert f"config: found {word!r}, wanted a key" in done.stderr
    assert f"did you mean {nearest!r}?" in done.stderr


def test_a_word_near_to_none_is_refused_without_a_guess():
    done = ef_asr_config("qqqqqq")
    assert done.exit_code == 2 and "did you mean" not in done.stderr
