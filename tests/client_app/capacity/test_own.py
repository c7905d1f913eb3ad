"""A device that measures itself, and what it does when a round proves too much."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client_app import app
from client_app.capacity import memory, store
from client_app.capacity.guard import too_slow
from client_app.capacity.measuring import Budget, Cost, MeasuringError, measure
from client_app.capacity.memory import is_out_of_memory
from client_app.capacity.own import cache_key, lower
from client_app.capacity.store import NodeCapacity
from client_app.task import Task
from efmodel import EarlyExitForCTC
from efmodel.protocol import Refusal, describe_model
from efmodel.settings import Settings
from server_app.strategy import PartialFedAvg
from simulation.in_process_grid import LocalGrid
from tests.conftest import small_config, write_folder

# Exit 2 stands 15 layers above exit 1: some hundred MB more, whatever the machine.
TALL = dict(hidden_size=64, num_hidden_layers=16, exit_layers=[1, 16], intermediate_size=512)
RUN = {"max-seconds": 20.0}


def node(run=None, **node_config) -> Context:
    return Context(1, 7, node_config, RecordDict(), {**RUN, **(run or {})})


def query(config, tokenizer) -> Message:
    content = RecordDict({"config": describe_model(config, tokenizer)})
    return Message(content, dst_node_id=7, message_type="query")


def key_of(context: Context, config, tokenizer) -> str:
    """Return the key under which the node keeps its capacity for the model."""
    return cache_key(Task.of(query(config, tokenizer), context))


@pytest.mark.programs
def test_a_device_takes_the_deepest_exit_that_fits_and_remembers_it(tokenizer, caplog):
    config = small_config(**TALL)
    model_config = Task.of(query(config, tokenizer), node()).model_config
    shallow, deep = measure(model_config, Settings.from_run_config(RUN), Budget(10_000))
    assert shallow.obstacle == deep.obstacle == ""
    assert 0 < shallow.seconds < deep.seconds
    for cost, cut in ((shallow, config.cut(1)), (deep, config)):
        assert cost.parameters == sum(p.numel() for p in EarlyExitForCTC(cut).parameters())
    assert deep.peak_mb > shallow.peak_mb + 100

    between = int((shallow.peak_mb + deep.peak_mb) / 2)
    device = node(**{"memory-mb": between})
    answer = app(query(config, tokenizer), device).content["config"]
    assert answer["capacity"] == 1
    stored = store.load(key_of(device, config, tokenizer))
    assert stored.capacity == 1 and [cost.exit for cost in stored.costs] == [1, 2]
    assert f"more than {between}" in stored.costs[1].obstacle
    assert stored.costs[1].peak_mb < deep.peak_mb  # stopped before it had taken that much
    assert "capacity 1 of 2, measured" in caplog.text

    # Answered from disk from now on: what stands there is believed.
    store.keep(key_of(device, config, tokenizer), NodeCapacity(2, "by hand"))
    assert app(query(config, tokenizer), device).content["config"]["capacity"] == 2


@pytest.mark.parametrize(
    ("budgets", "found"),
    [
        ({"memory-mb": 100}, "more than 100"),
        ({"seconds-per-audio-second": 1e-9}, "s per second of audio, more than 1e-09"),
    ],
)
def test_where_nothing_fits_the_query_fails_and_says_what_would_help(tokenizer, budgets, found):
    reply = app(query(small_config(), tokenizer), node({"max-seconds": 1.0}, **budgets))
    assert reply.error.code == Refusal.CAPACITY
    wanted = "wanted a larger memory-mb, a smaller max-seconds or batch-seconds"
    assert re.search(f"exit 1 does not fit: found .*{found}; {wanted}", reply.error.reason)


def test_a_step_that_fails_for_another_reason_is_no_small_capacity():
    broken = json.loads(small_config().to_json_string())
    broken["num_attention_heads"] = 5  # 32 channels are not five heads
    with pytest.raises(MeasuringError, match="measuring exit 1: .*[Hh]eads|num_heads"):
        list(measure(json.dumps(broken), Settings(), Budget(10_000)))


def test_what_is_kept_is_whole_or_measured_again(disk, caplog):
    capacity = NodeCapacity(
        2, "measured", [Cost(1, 10, 0.5, 700.0), Cost(2, 20, 0.7, 800.0, "too slow")]
    )
    assert store.load("x") is None and not caplog.text
    store.keep("x", capacity)
    assert store.load("x") == capacity
    path = disk / "capacity" / "x.json"
    whole = path.read_bytes()
    for torn in (whole[:-9], whole.replace(b'"capacity": 2', b'"capacity": 6'), b"", b"\xff\n\n"):
        path.write_bytes(torn)
        caplog.clear()
        assert store.load("x") is None
        assert f"{path} is damaged" in caplog.text


def test_a_record_of_version_0_1_0_is_read_and_a_key_names_all_that_costs(disk, tokenizer):
    record = (
        '{"capacity": 2, "why": "measured", "costs": [{"exit": 1, "parameters": 10, "seconds": 0.5,'
        ' "peak_mb": 700.0, "obstacle": ""}]}'
    )
    file = disk / "capacity" / "x.json"
    file.parent.mkdir(parents=True)
    file.write_text(f"{hashlib.sha256(record.encode()).hexdigest()}\n{record}\n")
    assert store.load("x") == NodeCapacity(2, "measured", [Cost(1, 10, 0.5, 700.0)])
    # The key says what a measurement holds for; augmentation, newer than that version, makes
    # takes longer, so that a node measures again.
    device = node(capacity=2)
    task = Task.of(query(small_config(), tokenizer), device)
    settings = Settings.from_run_config(device.run_config)
    names = (
        "freeze", "train", "batch_seconds", "batch_utterances", "max_seconds",
        "speed_perturbation", "augment", "precision", "compile", "gradient_checkpointing",
        "distill", "proximal_mu", "memory_mb", "seconds_per_audio_second",
    )  # fmt: skip
    described = {
        "model": json.loads(task.model_config),
        "said": 2,
        "settings": {name: vars(settings)[name] for name in names},
        "versions": [version("torch"), version("transformers")],
    }
    text = json.dumps(described, sort_keys=True).encode()
    assert cache_key(task) == hashlib.sha256(text).hexdigest()[:16]


def test_what_is_measured_belongs_to_a_model_and_to_what_is_trained(tokenizer):
    def name(config=None, run=None, **node_config):
        device = node(run, **node_config)
        return key_of(device, config or small_config(), tokenizer)

    same = name()
    assert name(run={"lr": 0.5, "seed": 9}) == same
    others = [
        name(small_config(hidden_size=64)), name(run={"max-seconds": 5.0}), name(capacity=2),
        name(run={"freeze": "frontend"}), name(**{"memory-mb": 900}),
    ]  # fmt: skip
    assert len({same, *others}) == 6


def test_torch_and_python_say_differently_that_memory_is_out():
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**50)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


class Device:
    """A real client whose training breaks, in a federation of one."""

    def __init__(self, tokenizer, folder, **run):
        torch.manual_seed(0)
        self.run = {"local-epochs": 1, **run}
        self.model = EarlyExitForCTC(small_config())
        self.request = describe_model(self.model.config, tokenizer)
        self.strategy = PartialFedAvg(
            self.model.owner_exits(), min_available_nodes=1, min_train_nodes=1
        )
        self.node = {"data-path": str(folder), "capacity": 3}
        self.grid = LocalGrid(self.play, [1])
        self.rounds = 0

    def play(self, message):
        self.last = app(message, Context(1, 1, self.node, RecordDict(), self.run))
        return self.last

    def round(self):
        """Return the capacity that was asked of the node, and why it failed."""
        self.rounds += 1
        arrays = ArrayRecord(self.model.state_dict())
        messages = list(
            self.strategy.configure_train(
                self.rounds, arrays, ConfigRecord(dict(self.request)), self.grid
            )
        )
        asked = messages[0].content["config"]["capacity"]
        self.strategy.aggregate_train(self.rounds, self.grid.send_and_receive(messages))
        return asked, self.strategy.report.failed.get("1", "")

    def refusal(self):
        """Return the code of the last reply, an error."""
        return self.last.error.code


@pytest.fixture
def folder(tmp_path):
    rows = [(f"{i}.wav", "one two", "a", 0.6 + 0.1 * i) for i in range(11)]
    return write_folder(tmp_path / "speech", rows)


def test_a_device_that_runs_out_of_memory_trains_an_exit_less(tokenizer, folder, monkeypatch):
    from client_app import round as client_round

    train = client_round.train

    def needing_much(model, *arguments, **others):
        if model.config.num_exits > 1:
            torch.empty(2**50)  # as torch fails on a device
        return train(model, *arguments, **others)

    monkeypatch.setattr(client_round, "train", needing_much)
    device = Device(tokenizer, folder)
    asked, failed = device.round()
    assert asked == 3 and "capacity: now 2, exit 3 ran out of memory in a round" in failed
    assert device.refusal() == Refusal.CAPACITY
    asked, failed = device.round()
    assert asked == 2 and "capacity: now 1, exit 2 ran out of memory" in failed
    assert device.round() == (1, "")
    assert device.round() == (1, "")


def test_a_device_that_got_too_slow_is_heard_and_trains_an_exit_less(tokenizer, folder):
    device = Device(tokenizer, folder, **{"seconds-per-audio-second": 1e-9})
    assert [device.round() for _ in range(4)] == [(3, ""), (2, ""), (1, ""), (1, "")]


def test_a_device_that_fell_back_says_so_to_a_server_that_does_not_know(tokenizer, folder):
    device = Device(tokenizer, folder)
    assert device.round() == (3, "")
    context = Context(1, 1, device.node, RecordDict(), device.run)
    assert lower(Task.of(query(device.model.config, tokenizer), context), "warm") == 2
    assert "found a model of 3 exits in the message, wanted at most 2" in device.round()[1]
    assert device.round() == (2, "")


def test_other_errors_cost_no_capacity(tokenizer, folder, disk):
    device = Device(tokenizer, folder)
    device.node["data-path"] = str(folder / "none")
    assert "data-path" in device.round()[1]
    device.node["data-path"] = str(folder)
    assert device.round() == (3, "")
    assert not list(disk.glob("capacity/*"))


@pytest.mark.parametrize(
    ("kills_then", "boot", "expected"),
    [(5, "this", True), (4, "this", False), (5, "another", False)],
)
def test_a_round_that_the_system_killed_for_memory(
    disk, tmp_path, monkeypatch, kills_then, boot, expected
):
    """Killed for memory, killed by somebody, and started again since: only the first counts."""
    vmstat, boot_id = tmp_path / "vmstat", tmp_path / "boot"
    vmstat.write_text("nr_free_pages 9\noom_kill 4\n")
    boot_id.write_text("this")
    dying = f"""
import os, signal, pathlib
from client_app.capacity import store, memory
memory.VMSTAT, store.BOOT = pathlib.Path({str(vmstat)!r}), pathlib.Path({str(boot_id)!r})
with store.training("x"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", dying], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    vmstat.write_text(f"nr_free_pages 9\noom_kill {kills_then}\n")
    boot_id.write_text(boot)
    monkeypatch.setattr(memory, "VMSTAT", vmstat)
    monkeypatch.setattr(store, "BOOT", boot_id)
    assert store.was_killed("x") is expected
    assert store.was_killed("x") is False  # it is counted once


def test_a_query_imports_neither_torch_nor_transformers(tokenizer):
    asked = json.dumps(dict(describe_model(small_config(), tokenizer)))
    script = f"""
import json, sys
from simulation import in_process_grid
from flwr.app import ConfigRecord, Context, Message, RecordDict
from client_app import app
content = RecordDict({{"config": ConfigRecord(json.loads({asked!r}))}})
message = Message(content, dst_node_id=7, message_type="query")
reply = app(message, Context(1, 7, {{"capacity": 2}}, RecordDict(), {{}}))
assert reply.content["config"]["capacity"] == 2
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(("limit", "used"), memory.LIMIT_FILES.items())
def test_a_container_has_its_limit_less_what_it_cannot_give_up(tmp_path, monkeypatch, limit, used):
    free = memory.free_mb()
    assert free > 100
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("50000000\n")
    (tmp_path / used).write_text("20000000\n")
    statistics = "anon 12000000\nfile 8000000\ninactive_file 5000000\nactive_file 3000000\n"
    (tmp_path / used).with_name("memory.stat").write_text(statistics)
    assert memory.free_mb() == pytest.approx(38.0)
    (tmp_path / limit).write_text("max\n" if limit == "memory.max" else "9223372036854771712\n")
    assert memory.free_mb() == pytest.approx(free, rel=0.5)


def test_a_round_may_take_half_as_much_again_as_its_steps():
    def slow(wall, **settings):
        reply = Message(
            RecordDict({"metrics": messages_metrics(wall)}), dst_node_id=1, message_type="train"
        )
        return too_slow(reply, Settings(**settings))

    assert slow(50.0, seconds_per_audio_second=0.25, local_epochs=2) == ""
    assert slow(80.0, seconds_per_audio_second=0.25, local_epochs=2).startswith(
        "a round took 0.4 s"
    )
    assert slow(80.0) == ""
    assert slow(80.0, round_timeout=60.0) == "a round took 80 s, round-timeout is 60"


def messages_metrics(wall: float):
    from flwr.app import MetricRecord

    return MetricRecord({"wall-seconds": wall, "seconds": 100.0})
