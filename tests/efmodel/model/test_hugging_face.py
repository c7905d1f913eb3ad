"""A saved model in transformers: Auto classes, the speech recognition pipeline, Trainer."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoModelForCTC,
    AutoProcessor,
    Trainer,
    TrainingArguments,
    Wav2Vec2Processor,
    pipeline,
)

from efmodel import EarlyExitForCTC, Recogniser
from efmodel.speech import vocabulary
from efmodel.speech.batches import collate
from efmodel.speech.utterances import Utterance, prepare
from simulation.speech import sample
from tests.conftest import small_config, tone

TASK = "automatic-speech-recognition"
KINDS = {"mel": "tiny", "waveform": "paper"}  # front end, and the preset with its tokenizer


def save(folder, frontend="mel"):
    """Save a random model and its tokenizer: characters for mel, word pieces for waveform."""
    torch.manual_seed(0)
    tokenizer = vocabulary.of_preset(KINDS[frontend])
    config = small_config(frontend=frontend, vocab_size=len(tokenizer))
    EarlyExitForCTC(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path / "model")


@pytest.mark.parametrize("frontend", KINDS)
def test_the_pipeline_says_what_the_recogniser_says_alone_and_in_a_padded_batch(frontend, tmp_path):
    folder = save(tmp_path / "model", frontend)
    recognise = pipeline(TASK, model=str(folder))
    sounds = [tone(2), tone(0.7, pitch=440), tone(1.3, pitch=110)]
    recogniser = Recogniser.from_pretrained(folder)
    wanted = [{"text": recogniser.transcribe(sound).text} for sound in sounds]
    assert len({each["text"] for each in wanted}) > 1
    assert [recognise(sound) for sound in sounds] == wanted
    assert recognise(sounds, batch_size=3) == wanted


def test_the_pipeline_takes_a_model_cut_at_an_exit(saved):
    model, processor = EarlyExitForCTC.from_pretrained(saved), AutoProcessor.from_pretrained(saved)
    parts = {"tokenizer": processor.tokenizer, "feature_extractor": processor.feature_extractor}
    found = pipeline(TASK, model=model.cut(2), **parts)(tone(2))
    assert found == {"text": Recogniser.from_pretrained(saved, 2).transcribe(tone(2)).text}


def test_the_pipeline_knows_when_words_were_said(saved):
    model = EarlyExitForCTC.from_pretrained(saved)
    bias = torch.full((30,), -100.0)
    bias[vocabulary.CHARACTERS["c"]] = 100.0
    model.exits["3"].projection.bias.data = bias  # says one long "c"
    model.save_pretrained(saved)
    found = pipeline(TASK, model=str(saved))(tone(7), chunk_length_s=3, return_timestamps="word")
    (word,) = found["chunks"]
    assert word["text"] == "c" and word["timestamp"] == (0.0, pytest.approx(7, abs=0.04))


def test_a_processor_lies_in_the_folder_and_leaves_the_waveform_to_the_model(saved):
    processor = AutoProcessor.from_pretrained(saved)
    assert isinstance(processor, Wav2Vec2Processor)
    inputs = processor(tone(1), sampling_rate=16_000, return_tensors="pt")
    assert torch.equal(inputs["input_values"], torch.from_numpy(tone(1))[None])
    assert inputs["attention_mask"].tolist() == [[1] * 16_000]
    assert processor(text="hello").input_ids == [vocabulary.CHARACTERS[x] for x in "hello"]


def test_who_may_read_a_saved_model_is_what_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        saved = save(tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o640}


IN_A_PROCESS = """
import sys
import numpy as np
from transformers import AutoModelForCTC, pipeline
assert "efmodel" not in sys.modules
folder, again = sys.argv[1:]
recognise = pipeline("automatic-speech-recognition", model=folder, trust_remote_code=True)
print(recognise(np.load(folder + "/tone.npy"))["text"])
model = AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(again)
from efmodel import EarlyExitForCTC
assert type(model) is type(recognise.model) is EarlyExitForCTC
"""


@pytest.mark.programs
def test_a_process_without_efmodel_finds_it_by_the_module_in_the_folder(saved, tmp_path):
    import numpy as np

    np.save(saved / "tone.npy", tone(2))
    again = tmp_path / "again"
    command = [sys.executable, "-c", IN_A_PROCESS, str(saved), str(again)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = Recogniser.from_pretrained(saved).transcribe(tone(2)).text
    assert done.stdout.splitlines() == [wanted]
    written = {path.name for path in again.glob("*.py")}
    assert written == {"modeling_early_exit.py"}  # no copy of the code
    text = (again / "modeling_early_exit.py").read_text()
    assert text == (saved / "modeling_early_exit.py").read_text()
    assert json.loads((again / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "modeling_early_exit.EarlyExitConfig",
        "AutoModelForCTC": "modeling_early_exit.EarlyExitForCTC",
    }


def test_every_exit_is_in_the_output_of_the_auto_classes_model(saved):
    model = AutoModelForCTC.from_pretrained(saved)
    logits = model(torch.from_numpy(tone(1))[None]).logits
    assert isinstance(logits, list) and len(logits) == 3
    assert torch.equal(logits.argmax(dim=-1), logits[-1].argmax(-1))


def few_utterances(tokenizer, config) -> list[Utterance]:
    rows = sample.load().train.select(range(6))
    utterances, _ = prepare(rows, tokenizer, config, to_train=True)
    return utterances


def test_trainer_fine_tunes_it_and_saves_what_loads_again(model, tokenizer, tmp_path):
    utterances = few_utterances(tokenizer, model.config)
    arguments = TrainingArguments(
        str(tmp_path / "trainer"), max_steps=10, learning_rate=5e-3, logging_steps=1,
        per_device_train_batch_size=6, report_to="none", save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, data_collator=collate, train_dataset=utterances, eval_dataset=utterances
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 10 and losses[-1] < 0.85 * losses[0]
    predicted = trainer.predict(utterances)
    assert predicted.metrics["test_loss"] < 0.85 * before
    logits, lengths, _ = predicted.predictions
    assert [each.shape[0] for each in logits] == [len(utterances)] * 3 and lengths.shape == (6,)
    trainer.save_model(tmp_path / "tuned")
    again = EarlyExitForCTC.from_pretrained(tmp_path / "tuned").eval()
    batch = collate(utterances[:1])
    with torch.no_grad():
        assert torch.equal(again(**batch).logits[1], trainer.model.eval()(**batch).logits[1])
