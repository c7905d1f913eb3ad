"""Central evaluation: the same scores whatever is in memory, and at any batch size."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from flwr.app import ArrayRecord

from efmodel import EarlyExitForCTC
from efmodel.evaluation import score
from efmodel.settings import Settings
from efmodel.speech import memory
from server_app import evaluation
from server_app.background import SpareCores
from server_app.evaluation import CentralEvaluation
from server_app.evaluation import test_utterances as read_test
from server_app.strategy import PartialFedAvg
from tests.conftest import small_config, write_folder

SIZES = [0.4, 1.1, 0.7, 2.3, 1.6]


@pytest.fixture
def settings(tmp_path) -> Settings:
    rows = [(f"{i}.wav", "one two", "x", seconds) for i, seconds in enumerate(SIZES)]
    write_folder(tmp_path / "d" / "test", rows)
    return Settings(data="audiofolder", data_path=str(tmp_path / "d"), audio_mb=1)


def test_scores_are_those_of_utterances_one_by_one(settings, model, tokenizer):
    utterances = read_test(settings, model, tokenizer)
    assert memory.of_process().limit == 1_000_000
    strategy = PartialFedAvg(model.owner_exits())
    other = EarlyExitForCTC(small_config())  # it takes over the arrays' weights
    central = CentralEvaluation(other, tokenizer, utterances, strategy, settings)
    found = central(ArrayRecord(model.state_dict()))
    wanted = score(model, utterances, tokenizer, batch_seconds=0.1)
    assert len(found) == 3
    for one, each in zip(found, wanted, strict=True):
        assert one.loss == pytest.approx(each.loss, rel=1e-5)
        assert (one.word_errors, one.words) == (each.word_errors, each.words)
        assert one.character_errors == each.character_errors


def test_in_a_simulation_it_waits_for_a_core_without_a_client(settings, model, tokenizer):
    utterances = read_test(settings, model, tokenizer)
    cores, strategy = SpareCores(2), PartialFedAvg(model.owner_exits())
    central = CentralEvaluation(model, tokenizer, utterances, strategy, settings, cores)
    arrays = ArrayRecord(model.state_dict())
    with ThreadPoolExecutor(1) as thread:
        cores.traffic.waiting = 3  # one client waits for one of the two others to end
        scores = thread.submit(central, arrays)
        with pytest.raises(TimeoutError):
            scores.result(timeout=0.3)
        cores.traffic.waiting = 1
        assert len(scores.result(timeout=30)) == 3


def test_without_a_test_set_nothing_is_scored(model, tokenizer, settings):
    strategy = PartialFedAvg(model.owner_exits())
    central = CentralEvaluation(model, tokenizer, [], strategy, settings)
    assert central(ArrayRecord(model.state_dict())) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_scores_and_a_full_one_is_left(
    settings, model, tokenizer, monkeypatch
):
    utterances = read_test(settings, model, tokenizer)
    strategy = PartialFedAvg(model.owner_exits())
    central = CentralEvaluation(model, tokenizer, utterances, strategy, settings)
    assert central.device.type == "cuda"
    arrays = ArrayRecord(model.state_dict())
    on_gpu = central(arrays)
    monkeypatch.setattr(evaluation, "BATCH_SECONDS", 1e9)
    hog = torch.empty(torch.cuda.mem_get_info()[0] - 2**22, dtype=torch.uint8, device="cuda")
    on_cpu = central(arrays)
    del hog
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
