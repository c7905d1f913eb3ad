"""An exported recogniser says what the model of torch says, without torch."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from efmodel.decoding.policy import ExitPolicy
from efmodel.decoding.recogniser import Recogniser
from efmodel.decoding.stages import run
from efmodel.errors import UserError
from efmodel.export.folder import Description, ExportError
from efmodel.export.runtime import Engine
from tests.efmodel.export.test_onnx import voices

SCRIPT = """
import json, sys
from pathlib import Path
from efmodel.decoding.commands import load
model, policy, *files = sys.argv[1:]
searching = load(Path(model), "", "", None, "auto", None, "ab")
assert searching.transcribe(files[0]).seconds == 0.7
recogniser = load(Path(model), "auto", policy, 60.0, "auto", None, "")
alone = [recogniser.transcribe(file) for file in files]
together = [result for _, result in recogniser.transcribe_all(files)]
loaded = [name for name in ("torch", "torchaudio", "transformers") if name in sys.modules]
print(json.dumps([loaded, [[r.text, r.words, r.exits, r.seconds] for r in alone + together]]))
"""


@pytest.fixture
def files(tmp_path):
    """Recordings at several rates, one longer than a window."""
    paths = []
    for number, (seconds, rate) in enumerate([(0.7, 16_000), (2.2, 44_100), (1.3, 8_000),
                                              (34.0, 16_000)]):  # fmt: skip
        [samples] = voices(seconds * rate / 16_000)
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], samples, rate)
    return paths


def results(recogniser, files):
    found = [recogniser.transcribe(file) for file in files]
    return [[r.text, [list(w) for w in r.words], r.exits, r.seconds] for r in found]


@pytest.mark.parametrize("policy", ["", "agreement", "confidence"])
def test_words_times_and_exits_are_those_of_torch(pair, files, policy):
    exit = "auto" if policy else None
    wanted = results(Recogniser.from_pretrained(pair.saved, exit, policy=policy), files)
    found = results(Recogniser.from_pretrained(pair.exported, exit, policy=policy), files)
    assert any(text for text, *_ in wanted)
    assert found == approximately(wanted)


def approximately(wanted):
    """Return results to compare with: the words' confidences may differ a little."""
    for _, words, _, _ in wanted:
        for word in words:
            word[3] = pytest.approx(word[3], abs=1e-3)
    return wanted


@pytest.mark.programs
def test_neither_torch_nor_transformers_is_imported(pair, files):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, pair.exported, "confidence", *files],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded, found = json.loads(done.stdout)
    assert loaded == []
    recogniser = Recogniser.from_pretrained(pair.saved, "auto", policy="confidence")
    wanted = results(recogniser, files)
    assert found == approximately(wanted + results(recogniser, files))


def test_nothing_is_written_beside_and_nobody_is_told(pair, tmp_path):
    """Release 1.32 of onnxruntime would make up an id for the machine, and report its use."""
    _, exported = pair
    script = "import sys; from efmodel import Recogniser; Recogniser.from_pretrained(sys.argv[1])"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", script, exported], check=True, env=environment)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_some_recordings_of_a_batch_stop_early(pair):
    """With a threshold in the middle of the scores: the others go on as if they were alone."""
    from efmodel.decoding.policy import confidence

    engine = Engine(pair.exported, Description.read(pair.exported))
    batch = voices(1.0, 2.5, 0.7, 4.0, 1.3, 0.2)
    first = Engine(pair.exported, Description.read(pair.exported), exit=1)
    scores = sorted(confidence([output]) for _, output in run(first, batch, ExitPolicy()))
    policy = ExitPolicy({"confidence": [(scores[2] + scores[3]) / 2, 0.0]})
    together = run(engine, batch, policy)
    assert sorted(exit for exit, _ in together) == [1, 1, 1, 3, 3, 3]
    for samples, (exit, output) in zip(batch, together, strict=True):
        [(lone_exit, lone)] = run(engine, [samples], policy)
        assert lone_exit == exit
        np.testing.assert_allclose(lone.log_probs, output.log_probs, atol=1e-4)


class Counting:
    """A stage's session that writes down what is asked of it."""

    def __init__(self, session) -> None:
        self.session, self.asked = session, []
        self.get_outputs = session.get_outputs

    def run(self, wanted, inputs, options):
        self.asked.append(wanted)
        return self.session.run(wanted, inputs, options)


def test_stages_behind_the_stop_and_heads_before_the_end_are_not_run(pair):
    engine = Engine(pair.exported, Description.read(pair.exported))
    engine.graphs = counted = [Counting(session) for session in engine.graphs]
    run(engine, voices(1.0), ExitPolicy({"confidence": [0.0, -1e9]}))
    assert [len(each.asked) for each in counted] == [1, 1, 0]
    run(engine, voices(1.0), ExitPolicy())
    assert [each.asked[-1] for each in counted] == [
        ["hidden", "frames"], ["hidden"], ["hidden", "log_probs"],
    ]  # fmt: skip


def test_an_exit_of_an_exported_model(pair, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for exit in (1, 2, "3"):
        recogniser = Recogniser.from_pretrained(pair.exported, exit)
        assert recogniser.transcribe(voices(1.0)[0]).exit == int(exit)
        assert recogniser.engine.num_exits == int(exit)
    with pytest.raises(ExportError, match="exit: found 4, wanted 1 to 3"):
        Recogniser.from_pretrained(pair.exported, 4)
    with pytest.raises(UserError, match="device: found cuda, wanted cpu"):
        Recogniser.from_pretrained(pair.exported, device="cuda")
    assert Recogniser.from_pretrained(pair.exported, "auto", deadline=0).policy.is_late(1, 1.0, 1.0)


def test_without_onnxruntime_the_message_says_what_to_install(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="onnxruntime: found no such package, wanted it for"):
        Recogniser.from_pretrained(pair.exported)
