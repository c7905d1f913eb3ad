"""The recogniser: what it takes, and what it gives for each recording."""

import io

import numpy as np
import pytest
import soundfile
import torch

from efmodel.decoding.policy import ExitPolicy
from efmodel.decoding.recogniser import Recogniser, Result
from efmodel.decoding.words import Tokens
from efmodel.errors import UserError
from efmodel.model.loading import ModelError
from efmodel.model.stages import Engine
from efmodel.speech.audio import AudioError
from tests.conftest import tone
from tests.efmodel.model.test_wav2vec2_ee import write


@pytest.fixture
def recogniser(model, tokenizer) -> Recogniser:
    return Recogniser(Engine(model), Tokens.of(tokenizer))


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_recording_may_come_in_many_forms(recogniser, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.5), 16_000, "FLOAT")
    wanted = recogniser.transcribe(path)
    assert wanted.seconds == 1.5 and wanted.exit == 3 and wanted.work > 0
    samples = tone(1.5)
    with path.open("rb") as file:
        forms = [str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes()), samples,
                 torch.from_numpy(samples), samples.astype("float64")]  # fmt: skip
        for form in forms:
            assert recogniser.transcribe(form).words == wanted.words
    part = recogniser.transcribe(f"{path}#t=0.5,1.25")
    assert part.seconds == 0.75


def test_recordings_come_back_in_order_and_a_bad_one_is_one_error(recogniser, tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(70), 16_000)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    sources = [tmp_path / "long.wav", tone(1), tmp_path / "bad.wav", tone(0.0), np.zeros((2, 9)),
               np.full(9_000, np.nan), tone(2), tone(1.1)]  # fmt: skip
    found = list(recogniser.transcribe_all(iter(sources)))
    assert [source is given for (source, _), given in zip(found, sources, strict=True)]
    kinds = [type(result).__name__ for _, result in found]
    assert kinds == ["Result", "Result", "AudioError", "Result", "AudioError", "AudioError",
                     "Result", "Result"]  # fmt: skip
    assert "bad.wav: found no readable audio" in str(found[2][1])
    assert "found float64 [2, 9], wanted" in str(found[4][1])
    results = [result for _, result in found if isinstance(result, Result)]
    assert [round(each.seconds, 2) for each in results] == [70, 1, 0, 2, 1.1]
    assert [len(each.exits) for each in results] == [3, 1, 0, 1, 1]
    silent = results[2]
    assert (silent.text, silent.words, silent.exit, silent.confidence) == ("", [], 0, 1.0)


def test_a_batch_says_what_its_recordings_say_alone(model, tokenizer):
    """With a threshold in the middle of the scores, so that some leave the batch early."""
    speech = [tone(seconds, pitch=pitch) for seconds, pitch in
              [(1, 220), (2.5, 330), (0.7, 110), (4, 440), (1.3, 180), (0.2, 600)]]  # fmt: skip
    tokens = Tokens.of(tokenizer)
    from efmodel.decoding.policy import confidence
    from efmodel.decoding.stages import run

    scores = sorted(confidence([output]) for _, output in run(Engine(model.cut(1)), speech,
                                                              ExitPolicy()))  # fmt: skip
    middle = (scores[2] + scores[3]) / 2
    recogniser = Recogniser(Engine(model), tokens, ExitPolicy({"confidence": [middle, 0.0]}))
    together = [result for _, result in recogniser.transcribe_all(speech)]
    assert sorted(result.exit for result in together) == [1, 1, 1, 3, 3, 3]
    for samples, result in zip(speech, together, strict=True):
        alone = recogniser.transcribe(samples)
        assert (alone.text, alone.exits) == (result.text, result.exits)


def test_recordings_are_read_as_they_are_needed(recogniser):
    read = []

    def endless():
        for number in range(10**6):
            read.append(number)
            yield tone(10)

    results = recogniser.transcribe_all(endless(), batch_seconds=20)
    assert next(results)[1].seconds == 10
    assert len(read) <= 8 * 2 + 1


def test_a_saved_model_at_an_exit_or_as_deep_as_needed(saved, model, tokenizer):
    samples = tone(1.5)
    for exit in (1, 2, 3, "2"):
        recogniser = Recogniser.from_pretrained(saved, exit)
        assert recogniser.transcribe(samples).exit == int(exit)
    with pytest.raises(ModelError, match="exit: found 4, wanted 1 to 3"):
        Recogniser.from_pretrained(saved, 4)
    with pytest.raises(UserError, match="exit: found 'deep', wanted a number from 1, or auto"):
        Recogniser.from_pretrained(saved, "deep")
    with pytest.raises(UserError, match="no thresholds for confidence .* `ef-asr calibrate`"):
        Recogniser.from_pretrained(saved, "auto")
    assert Recogniser.from_pretrained(saved, "auto", deadline=0).transcribe(samples).exit == 1
    assert Recogniser.from_pretrained(saved, "auto", deadline=60).transcribe(samples).exit == 3
    model.config.exit_thresholds = {"confidence": [-1e9, 0.0], "entropy": [0.0, -1e9]}
    model.save_pretrained(saved)
    assert Recogniser.from_pretrained(saved, "auto").transcribe(samples).exit == 1
    assert Recogniser.from_pretrained(saved, "auto", policy="entropy").transcribe(samples).exit == 2
    both = Recogniser.from_pretrained(saved, "auto", policy="entropy+confidence")
    assert both.transcribe(samples).exit == 3


def test_a_name_on_the_hub_is_loaded_from_its_copy(saved, hub):
    hub("someone/speech", saved)
    assert Recogniser.from_pretrained("someone/speech", 2).transcribe(tone(1)).exit == 2
    with pytest.raises(ModelError, match="found no folder someone/else, and no copy of a model"):
        Recogniser.from_pretrained("someone/else")


def test_so_is_an_early_exit_wav2vec2_from_before_safetensors(tmp_path, hub):
    hub("someone/ee", write(tmp_path / "ee", "bin"))
    recogniser = Recogniser.from_pretrained("someone/ee")
    assert recogniser.engine.num_exits == 6 and recogniser.transcribe(tone(1)).exit == 6


def test_one_bad_recording_alone_is_an_error(recogniser, tmp_path):
    with pytest.raises(AudioError, match="found no file"):
        recogniser.transcribe(tmp_path / "none.wav")
