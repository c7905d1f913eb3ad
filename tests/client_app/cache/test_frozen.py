"""A frozen part: sent once, never returned, its output computed once, by the real client."""

import os
import shutil

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from client_app import app
from client_app.cache import frozen as frozen_cache
from efmodel import EarlyExitForCTC
from efmodel.model.frozen import parse
from efmodel.model.loading import starting_model
from efmodel.model.lora import merged
from efmodel.protocol import describe_model
from efmodel.settings import Settings
from server_app.strategy.registry import build
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config, write_folder

CAPACITIES = {1: 1, 2: 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = [(f"{i}.wav", "one two", "a", 0.6 + 0.1 * i) for i in range(11)]
    return write_folder(tmp_path_factory.mktemp("speech") / "a", rows)


class Federation:
    """Two real clients, and a PartialFedAvg made from the same run config."""

    def __init__(self, tokenizer, folder, **run):
        defaults = {"local-epochs": 1, "min-train-nodes": 2, "speed-perturbation": 0.0}
        self.run = {**defaults, **{k.replace("_", "-"): v for k, v in run.items()}}
        settings = Settings.from_run_config(self.run)
        torch.manual_seed(0)
        rank = settings.lora_rank if settings.train == "lora" else 0
        self.model = EarlyExitForCTC(small_config(frontend="waveform", lora_rank=rank))
        frozen = parse(settings.freeze, settings.train, self.model.config.num_hidden_layers)
        self.owners = self.model.owner_exits()
        self.frozen = {name for name in self.owners if frozen.holds(name)}
        self.strategy = build(settings, self.owners, self.frozen)
        self.arrays = ArrayRecord(self.model.state_dict())
        self.tokenizer, self.folder = tokenizer, folder
        self.grid = LocalGrid(self.play, CAPACITIES)
        self.server_round = 0

    def play(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        config = {"data-path": str(self.folder), "capacity": CAPACITIES[node]}
        return app(message, Context(1, node, config, RecordDict(), self.run))

    def round(self) -> list[Message]:
        self.server_round += 1
        request = describe_model(self.model.config, self.tokenizer)
        messages = list(
            self.strategy.configure_train(self.server_round, self.arrays, request, self.grid)
        )
        sent = [set(message.content["arrays"]) for message in messages]
        replies = self.grid.send_and_receive(messages)
        new, _ = self.strategy.aggregate_train(self.server_round, replies)
        self.arrays = new or self.arrays
        return sent, [set(r.content["arrays"]) for r in replies if not r.has_error()]

    def owned(self, capacity: int) -> set[str]:
        return {name for name, owner in self.owners.items() if owner <= capacity}


@pytest.mark.parametrize(
    "keys", [{"freeze": "frontend"}, {"freeze": "layers:2"}, {"train": "heads"}, {"train": "lora"}]
)
def test_frozen_tensors_travel_once_and_stay_what_they_were(keys, tokenizer, folder):
    federation = Federation(tokenizer, folder, **keys)
    start, frozen = dict(federation.arrays), federation.frozen
    assert any(n.startswith("feature_extractor.") for n in frozen)
    (first, back), (second, again) = federation.round(), federation.round()
    whole = sorted([federation.owned(1), federation.owned(3)], key=len)
    assert sorted(first, key=len) == whole
    assert sorted(second, key=len) == [names - frozen for names in whole]
    assert sorted(back, key=len) == sorted(again, key=len) == [names - frozen for names in whole]
    moved = {n for n in start if start[n].data != federation.arrays[n].data}
    assert moved == set(start) - frozen


@pytest.mark.parametrize("keys", [{"freeze": "frontend"}, {"freeze": "layers:3"}])
def test_the_output_is_computed_once_and_the_model_is_the_same(
    keys, tokenizer, folder, disk, monkeypatch
):
    without = Federation(tokenizer, folder, **keys, cache_mb=0)
    without.round()
    without.round()
    assert not (disk / "features").exists()

    federation = Federation(tokenizer, folder, **keys)
    federation.round()
    assert len(list(disk.glob("features/*/*.npy"))) == 2 * 11  # two nodes, held-out speech too

    def again(*args):
        raise AssertionError("the frozen part ran a second time")

    monkeypatch.setattr(EarlyExitForCTC, "frozen_output", again)
    federation.round()
    assert not federation.strategy.report.failed
    for name, array in federation.arrays.items():
        assert array.data == without.arrays[name].data, name


def test_a_node_that_lost_its_disk_is_sent_everything_again(tokenizer, folder, disk):
    federation = Federation(tokenizer, folder, freeze="frontend")
    federation.round()
    shutil.rmtree(disk / "frozen")
    federation.round()
    assert all("found no tensors" in why for why in federation.strategy.report.failed.values())
    assert len(federation.strategy.report.failed) == 2
    sent, back = federation.round()
    assert len(back) == 2 and all(federation.frozen & names for names in sent)


def test_clipping_works_beside_frozen_tensors(tokenizer, folder):
    """Flower's mod refuses a reply that holds other names than the message."""
    federation = Federation(tokenizer, folder, freeze="frontend", local_clip_norm=0.01)
    federation.round()
    federation.round()
    assert not federation.strategy.report.failed


def test_merged_additions_give_the_same_logits(tokenizer, folder):
    federation = Federation(tokenizer, folder, train="lora", lora_rank=4, lr=0.01)
    federation.round()
    model = federation.model
    model.load_state_dict(federation.arrays.to_torch_state_dict())
    plain = merged(model.eval())
    assert not [name for name in plain.state_dict() if "lora" in name or "base_layer" in name]
    audio = torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in zip(plain(audio).logits, model(audio).logits, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    moved = [name for name, e in federation.owners.items() if ".lora_B" in name and e]
    assert moved and all(np.abs(federation.arrays[n].numpy()).max() > 0 for n in moved)


def test_additions_change_nothing_before_they_are_trained():
    torch.manual_seed(0)
    plain, _ = starting_model(Settings())
    torch.manual_seed(0)
    larger, _ = starting_model(Settings(train="lora", lora_rank=4))
    audio = torch.randn(1, 9000)
    with torch.no_grad():
        for one, other in zip(plain.eval()(audio).logits, larger.eval()(audio).logits, strict=True):
            torch.testing.assert_close(one, other)
    trained = sum(t.numel() for n, t in larger.state_dict().items() if ".lora_" in n)
    assert 0 < trained < 0.05 * sum(t.numel() for t in plain.state_dict().values())


def test_what_cannot_be_frozen_is_named(tokenizer, folder):
    for wrong in ("front", "layers:0", "layers:9", "layers:x"):
        with pytest.raises(ValueError, match=f"freeze: found '{wrong}', wanted nothing, frontend"):
            parse(wrong, "all", 4)
    with pytest.raises(ValueError, match="freeze = 'frontend'.* wanted a partial strategy"):
        settings = Settings(freeze="frontend", strategy="flwr.serverapp.strategy:FedAvg")
        build(settings, {"a": 1}, {"a"})


def test_only_the_sets_last_used_stay_on_disk(disk):
    tensors = ArrayRecord({"w": Array(np.zeros(3, dtype=np.float32))})
    for number in range(frozen_cache.MAX_SETS):
        frozen_cache.keep(f"set-{number}", tensors)
        os.utime(disk / "frozen" / f"set-{number}.safetensors", (number, number))
    frozen_cache.load("set-0")  # used now
    frozen_cache.keep("one-more", tensors)
    kept = {path.stem for path in (disk / "frozen").iterdir()}
    assert len(kept) == frozen_cache.MAX_SETS and {"set-0", "one-more"} <= kept
    assert "set-1" not in kept
