"""The benchmark of many hours, in miniature."""

import math

import pytest

import client_app.training
from efmodel.speech import ahead, recordings
from simulation.bench import data


def test_what_is_written_is_as_long_as_asked_and_the_rest_are_links(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "LINKED", 20.0)  # seconds, in place of an hour
    data.write_speech(tmp_path, "train", 60 / 3600, speakers=3)
    corpus = recordings.audiofolder(tmp_path).train
    files = {row["audio"]["path"]: (tmp_path / row["audio"]["path"]).stat() for row in corpus}
    assert len(files) == len(corpus) and len({s.st_ino for s in files.values()}) < len(files) / 2
    assert set(corpus["speaker"]) == {"speaker 0", "speaker 1", "speaker 2"}


def test_a_device_a_simulation_and_a_server_are_measured(tmp_path):
    data.write_speech(tmp_path / "own", "train", 0.02, speakers=4)
    data.write_speech(tmp_path / "test", "test", 0.01, speakers=1)
    own = str(tmp_path / "own")
    first, later = data.device(own, 3), data.device(own, 3)
    several, server = data.clients(own, 4, 0.5), data.server(str(tmp_path / "test"))
    for result in (first, later, several, server):
        assert all(math.isfinite(value) and value > 0 for value in result.values())
        assert result["waited"] < 1 and result["peak"] > 1e8
    assert client_app.training.ahead is ahead.ahead  # as it was
    assert 0.015 < first["hours"] == later["hours"] < 0.03


@pytest.mark.slow
def test_a_real_miniature_gives_finite_figures():
    figures = data.run(hours=0.1, few=0.05, test=0.05, number=20, trained=6)
    assert len(figures) == 13
    assert all(math.isfinite(figure.ratio) and figure.ratio > 0 for figure in figures)
