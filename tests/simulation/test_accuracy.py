"""The default run reaches the error rates that the documentation states (``pytest -m slow``)."""

from pathlib import Path

import pytest

from server_app.run_folder import read_metrics
from tests.simulation.command import ef_asr

SPEECH = Path(__file__).parents[3] / "shared" / "speech"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def error_rates(*arguments: str, cwd: Path) -> list[float]:
    """Return the word error rate at each exit after the last round, on held-out speakers."""
    done = ef_asr("simulate", *arguments, cwd=cwd, timeout=1500)
    assert done.returncode == 0, done.stderr
    rates = read_metrics(Path(done.stdout.splitlines()[-1]) / "metrics.jsonl")[-1]["wer"]
    assert len(rates) == 3
    return rates


def test_the_sample_reaches_15_percent_at_every_exit_on_unseen_voices(tmp_path):
    assert max(error_rates(cwd=tmp_path)) <= 0.15


@pytest.mark.skipif(not (SPEECH / "fsdd").is_dir(), reason="no shared/speech/fsdd here")
def test_real_digits_reach_15_percent_at_every_exit(tmp_path):
    assert max(error_rates("--data", str(SPEECH / "fsdd"), cwd=tmp_path)) <= 0.15


@pytest.mark.skipif(not (SPEECH / "speechocean762").is_dir(), reason="no shared/speech here")
def test_125_real_speakers_run_without_an_error(tmp_path):
    rates = error_rates("--data", str(SPEECH / "speechocean762"), "--rounds", "2", cwd=tmp_path)
    assert all(0 <= rate <= 2 for rate in rates)
