"""What the card of a run's model tells of the run, and what it keeps for itself."""

import shutil

from huggingface_hub import ModelCard

from efmodel.settings import Settings
from server_app.federation import write_results
from server_app.results.card import training_of
from server_app.results.report import write_report
from server_app.results.run import Run
from server_app.run_folder import RunFolder
from tests.server_app.results.test_imports import RUN
from tests.server_app.results.test_report import Cells, one_round


def finished(folder, model, tokenizer, **keys) -> RunFolder:
    """Write a run of one round as the server does when it ends."""
    run = RunFolder.create(folder)
    config = {key.replace("_", "-"): value for key, value in keys.items()}
    run.write_config({"rounds": 1, **config, "model": config.pop("start", "tiny")})
    run.write_round(one_round(1, {"pi": 3, "clock": 1}, {}, wer=(0.5, 0.25, 0.125)))
    run.write_adaptive({"policy": "confidence", "wer": 0.13, "layers": 2.5, "multiply-adds": 0.7})
    write_results(run, Settings(), model, tokenizer)
    return run


def test_a_run_ends_with_a_card_and_a_page_of_the_same_facts(model, tokenizer, tmp_path):
    run = finished(tmp_path / "run", model, tokenizer, data="mls", language="fr", lr=0.5)
    card = ModelCard.load(run.model / "README.md")
    assert (card.data.language, card.data.license) == ("fr", "unknown")
    assert card.data.datasets == "facebook/multilingual_librispeech"
    assert [each.metric_value for each in card.data.eval_results][:3] == [50.0, 25.0, 12.5]
    page = run.report.read_text()
    rows = Cells(page).rows
    assert ["WER %", "50.0", "25.0", "12.5"] in rows
    facts = training_of(Run.read(run.path)).facts
    assert facts["rounds"] == "1 of 1" and facts["clients"] == "2" and "lr=0.5" in str(facts)
    for name, value in facts.items():
        assert f"- {name}: {value}\n" in card.text and [name, value] in rows
    said = "With adaptive exits (--exit auto, confidence): 13.0 % WER, 2.5 layers on average"
    assert said in card.text and said in page


def test_no_path_of_this_machine_is_in_the_card(model, tokenizer, tmp_path):
    secret = tmp_path / "secret"
    run = finished(
        tmp_path / "run", model, tokenizer, start=str(secret / "start"), data="audiofolder",
        data_path=str(secret / "speech"), output=str(secret / "out"),
        vocabulary=f"bpe:{secret}/texts.txt:64",
    )  # fmt: skip
    text = (run.model / "README.md").read_text()
    assert "secret" not in text and str(tmp_path) not in text
    for said in ("data: recordings in a local folder\n", "vocabulary=bpe:texts.txt:64",
                 "- started from: start\n"):  # fmt: skip
        assert said in text


def test_a_checkpoints_name_on_the_hub_is_the_base_model(model, tokenizer, tmp_path):
    run = finished(tmp_path / "run", model, tokenizer, start="facebook/wav2vec2-base")
    assert ModelCard.load(run.model / "README.md").data.base_model == "facebook/wav2vec2-base"


def test_the_report_of_an_older_run_adds_a_card_and_leaves_an_edited_one_alone(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    write_report(run)
    card = run / "model" / "README.md"
    assert "100.0" in card.read_text()
    card.write_text(card.read_text().replace("license: unknown", "license: mit"))
    write_report(run)
    assert ModelCard.load(card).data.license == "mit"


def test_a_run_with_patience_tells_the_errors_of_the_round_that_it_kept(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.write_config({"rounds": 9, "patience": 2})
    for number, wer in enumerate([(0.9,), (0.4,), (0.4,), (0.6,), (0.5,)], start=1):
        run.write_round(one_round(number, {"pi": 1}, {}, wer=wer))
    training = training_of(Run.read(run.path))
    assert training.round == 3 and training.wer == [0.4]
    assert Run.read(run.path).finished
