"""Exchange, records, the run folder."""

import json
import logging
from dataclasses import replace
from threading import Event
from time import sleep

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from efmodel.evaluation import ExitScore
from efmodel.settings import Settings
from server_app.background import SpareCores
from server_app.checkpoint import Checkpoints
from server_app.results.plots import plot_error_rates
from server_app.rounds import Rounds, RunFailedError
from server_app.run_folder import RunFolder, RunFolderError, line, read_metrics
from server_app.strategy import PartialFedAvg
from server_app.strategy.exchange import Traffic, exchange
from simulation.failure import lost_rounds
from simulation.in_process_grid import LocalGrid

OWNERS = {"front": 0, "one": 1, "two": 2}
SCORE = ExitScore(loss=1.0, word_errors=1, words=4, character_errors=3, characters=10)


def start() -> ArrayRecord:
    return ArrayRecord({n: Array(np.zeros(4, dtype=np.float32)) for n in OWNERS})


def node(message: Message) -> Message:
    capacity = 1 + message.metadata.dst_node_id % 2
    if message.metadata.message_type == "query":
        answer = ConfigRecord({"capacity": capacity})
        return Message(RecordDict({"config": answer}), reply_to=message)
    metrics = MetricRecord(
        {
            "num-examples": 5,
            "seconds": 2.5,
            "train-loss": [1.0] * capacity,
            "loss": [2.0] * capacity,
            "word-errors": [1] * capacity,
            "character-errors": [2] * capacity,
            "words": 4,
            "characters": 8,
        }
    )
    arrays = message.content["arrays"]
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def rounds(tmp_path, play, **settings) -> Rounds:
    folder = RunFolder.create(tmp_path / "run")
    return Rounds(
        grid=LocalGrid(play, [1, 2, 3]),
        strategy=PartialFedAvg(OWNERS, min_train_nodes=3),
        settings=Settings(**settings),
        folder=folder,
        checkpoints=Checkpoints(folder.checkpoints, keep=2),
        evaluate=lambda arrays: [SCORE, SCORE],
        request=ConfigRecord({"model-config": "{}"}),
        num_exits=2,
        count_costs=lambda: [5.0, 8.0],
    )


def test_a_round_is_written_down(tmp_path):
    run = rounds(tmp_path, node, rounds=3, evaluate_every=2)
    run.run(start())
    records = read_metrics(run.folder.metrics)
    assert [r["round"] for r in records] == [1, 2, 3]
    assert [bool(r["wer"]) for r in records] == [False, True, True]  # the last round always
    last = records[-1]
    assert (last["sampled"], last["answered"], last["failed"]) == (3, 3, 0)
    assert last["trainers-per-exit"] == [3, 2] and last["multiply-adds"] == [5.0, 8.0]
    tensor = len(start()["front"].data)
    assert last["bytes-down"] == last["bytes-up"] == (3 + 3 + 2) * tensor
    assert last["bytes-down-full"] == last["bytes-up-full"] == 9 * tensor
    assert last["wer"] == [0.25, 0.25] and last["cer"] == [0.3, 0.3]
    assert last["clients"]["wer"] == [0.25, 0.25] and last["clients"]["seconds"] == 7.5
    shown = line(last, 3)
    for part in ("round 3/3", "clients 3/3", "trainers per exit 3 2", "WER % 25.0 25.0", "89% of"):
        assert part in shown


def training(message: Message) -> Message:
    """What a node does that adds the number of the round to every value."""
    reply = node(message)
    if message.metadata.message_type == "train":
        add = message.content["config"]["server-round"]
        moved = {name: Array(a.numpy() + add) for name, a in message.content["arrays"].items()}
        reply.content["arrays"] = ArrayRecord(moved)
    return reply


def scores(errors: list[int]):
    """Return an evaluation that finds these word errors of ten, round by round."""
    left = iter(errors)

    def evaluate(arrays: ArrayRecord) -> list[ExitScore]:
        return [replace(SCORE, word_errors=next(left), words=10)] * 2

    return evaluate


def test_a_run_ends_when_it_gets_no_better_and_keeps_its_best_model(tmp_path, caplog):
    run = rounds(tmp_path, training, rounds=20, patience=2)
    run.evaluate = scores([9, 5, 6, 5, 7, 4])
    with caplog.at_level(logging.INFO):
        model = run.run(start())
    assert len(read_metrics(run.folder.metrics)) in (4, 5)  # the next round may have begun
    assert model["one"].numpy()[0] == 1 + 2 + 3 + 4  # of two equal ones the later
    assert "patience = 2" in caplog.text and "result: round 4" in caplog.text
    run.folder.report.touch()
    assert run.folder.is_finished({"rounds": 20, "patience": 2, "dp-budget": 0.0})
    assert not run.folder.is_finished({"rounds": 20, "patience": 0, "dp-budget": 0.0})


def test_a_run_with_patience_that_gets_better_has_all_its_rounds(tmp_path):
    run = rounds(tmp_path, training, rounds=5, patience=2)
    run.evaluate = scores([9, 8, 8, 7, 7])
    assert run.run(start())["one"].numpy()[0] == 15 and run.folder.path
    assert len(read_metrics(run.folder.metrics)) == 5


def test_a_server_without_speech_stops_by_the_clients_held_out_speech(tmp_path):
    run = rounds(tmp_path, training, rounds=20, patience=3)  # a node's errors never change
    run.evaluate = lambda arrays: []
    run.run(start())
    assert len(read_metrics(run.folder.metrics)) in (4, 5)


def test_the_mean_of_the_last_rounds_is_evaluated_and_returned(tmp_path):
    run = rounds(tmp_path, training, rounds=3)
    run.strategy = PartialFedAvg(OWNERS, min_train_nodes=3, average_rounds=3)
    seen = []
    run.evaluate = lambda arrays: [seen.append(float(arrays["one"].numpy()[0])), SCORE, SCORE][1:]
    model = run.run(start())
    assert seen == pytest.approx([1, (1 + 3) / 2, (1 + 3 + 6) / 3])
    assert model["one"].numpy()[0] == pytest.approx(10 / 3)
    last = run.checkpoints.latest()
    assert last.arrays["one"][0] == 6  # training goes on from here


def test_a_run_in_which_nobody_helps_fails(tmp_path):
    def useless(message):
        if message.metadata.message_type == "query":
            return node(message)
        raise RuntimeError("no microphone")

    run = rounds(tmp_path, useless, rounds=10)
    with pytest.raises(RunFailedError, match="3 rounds .*no microphone"):
        run.run(start())
    assert len(read_metrics(run.folder.metrics)) == 3


def test_a_run_that_trained_nothing_fails_however_short_it_is(tmp_path):
    def useless(message):
        if message.metadata.message_type == "query":
            return node(message)
        raise RuntimeError("no microphone")

    run = rounds(tmp_path, useless, rounds=1)
    with pytest.raises(RunFailedError, match="in 1 round .* and 2 others: .*no microphone"):
        run.run(start())
    with pytest.raises(RunFailedError, match="in 2 rounds "):  # nor when it is resumed
        rounds_again = replace(run, settings=Settings(rounds=2))
        rounds_again.run(start(), after=1)


def test_a_run_that_lost_its_last_round_keeps_what_it_has(tmp_path):
    def tires(message):
        if message.metadata.message_type == "train":
            if message.content["config"]["server-round"] == 2:
                raise RuntimeError("no battery")
        return node(message)

    run = rounds(tmp_path, tires, rounds=2)
    assert run.run(start()).keys() == start().keys()
    assert "round 2 trained nothing" in lost_rounds(run.folder)
    assert "no battery" in lost_rounds(run.folder)


def test_exchange_streams_and_closes_at_the_timeout():
    grid = LocalGrid(lambda m: None if m.metadata.dst_node_id == 2 else node(m), [1, 2])
    strategy = PartialFedAvg(OWNERS, min_train_nodes=1)
    strategy.nodes.met = {}
    content = RecordDict({"arrays": start(), "config": ConfigRecord()})
    messages = [Message(content, dst_node_id=i, message_type="train") for i in (1, 2)]
    traffic = Traffic()
    arriving = exchange(grid, messages, timeout=0.2, traffic=traffic)
    assert next(arriving) and traffic.waiting == 1
    assert not list(arriving) and traffic.sent == 2 and traffic.waiting == 0
    assert traffic.up * 2 == traffic.down


def test_a_run_folder_is_never_written_over(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_round({"round": 1})
    with pytest.raises(RunFolderError, match="holds a run already"):
        RunFolder.create(tmp_path / "run")


def test_a_line_half_written_is_not_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"round": 1}) + "\n" + '{"rou')
    assert read_metrics(path) == [{"round": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_the_plot_is_a_picture(tmp_path):
    from matplotlib import image

    records = [{"round": i, "wer": [0.5 / i, 0.4 / i], "cer": [0.2, 0.1]} for i in (1, 2, 3)]
    plot_error_rates(records, tmp_path / "wer.png", "a run")
    picture = image.imread(tmp_path / "wer.png")
    assert picture.shape[1] > picture.shape[0] > 100 and picture.std() > 0.01
    plot_error_rates([{"round": 1, "wer": []}], tmp_path / "none.png", "not evaluated")
    assert not (tmp_path / "none.png").exists()


def test_a_round_is_scored_while_the_next_one_trains(tmp_path):
    """Round 1's evaluation ends only when round 2 has begun, and still counts for round 1."""
    second = Event()

    def play(message):
        if message.metadata.message_type == "train":
            if message.content["config"]["server-round"] == 2:
                second.set()
        return node(message)

    def evaluate(arrays):
        assert second.wait(30)
        errors = iter([1, 3])
        return [replace(SCORE, word_errors=next(errors)) for _ in range(2)]

    run = replace(rounds(tmp_path, play, rounds=2), evaluate=evaluate)
    run.run(start())
    records = read_metrics(run.folder.metrics)
    assert [record["wer"] for record in records] == [[0.25, 0.75], [0.25, 0.75]]
    assert records[0]["evaluate-seconds"] < 5
    assert [path.name for path in run.checkpoints.paths()] == [
        "round-00001.safetensors",
        "round-00002.safetensors",
    ]


def test_each_model_is_scored_as_it_was_and_the_best_checkpoint_is_kept(tmp_path):
    """Scores lag behind training, yet each lands in the line and the checkpoint of its round."""

    def play(message):
        reply = node(message)
        if message.metadata.message_type == "train":
            moved = {n: Array(a.numpy() + 1) for n, a in message.content["arrays"].items()}
            reply.content["arrays"] = ArrayRecord(moved)
        return reply

    def evaluate(arrays):
        trained = int(arrays["front"].numpy()[0])  # the round that this model comes from
        sleep(0.05)
        return [replace(SCORE, word_errors=abs(trained - 3), words=10)] * 2

    run = replace(rounds(tmp_path, play, rounds=7), evaluate=evaluate)
    run.run(start())
    records = read_metrics(run.folder.metrics)
    assert [record["wer"][0] for record in records] == [0.2, 0.1, 0.0, 0.1, 0.2, 0.3, 0.4]
    assert run.checkpoints.best().stem == "round-00003"
    assert [p.stem[-1] for p in run.checkpoints.paths()] == ["3", "6", "7"]


def test_a_round_that_was_not_scored_is_scored_when_the_run_goes_on(tmp_path):
    """The run dies while round 2 is evaluated: round 2 is not trained again."""

    def dies(arrays):
        if (run.folder.path / "checkpoints" / "round-00002.safetensors").exists():
            raise KeyboardInterrupt
        return [SCORE, SCORE]

    run = replace(rounds(tmp_path, node, rounds=3), evaluate=dies)
    with pytest.raises(KeyboardInterrupt):
        run.run(start())
    assert [record["round"] for record in read_metrics(run.folder.metrics)] == [1]
    again = replace(run, evaluate=lambda arrays: [SCORE, SCORE], grid=LocalGrid(node, [1, 2, 3]))
    last = run.checkpoints.latest()
    assert last.round == 2 and last.wer == []
    again.run(ArrayRecord({n: Array(a) for n, a in last.arrays.items()}), after=2)
    records = read_metrics(run.folder.metrics)
    assert [(record["round"], record["wer"]) for record in records] == [
        (number, [0.25, 0.25]) for number in (1, 2, 3)
    ]
    trained = [message.content["config"]["server-round"] for message in again.grid.sent]
    assert set(trained) == {3}


def test_a_strategy_that_fails_leaves_the_cores_to_the_round_before(tmp_path):
    """Round 1's evaluation waits for a core; round 2 ends with messages that nobody reads."""
    begun = Event()

    class Fails(PartialFedAvg):
        def aggregate_train(self, server_round, replies):
            if server_round == 2:
                next(iter(replies))
                begun.set()
                raise ValueError("no mean")
            return super().aggregate_train(server_round, replies)

    def evaluate(arrays):
        assert begun.wait(30)
        cores.wait()
        return [SCORE, SCORE]

    cores = SpareCores(1)
    run = rounds(tmp_path, node, rounds=3)
    strategy = Fails(OWNERS, min_train_nodes=3)
    run = replace(run, evaluate=evaluate, strategy=strategy, cores=cores)
    with pytest.raises(ValueError, match="no mean"):
        run.run(start())
    assert [record["round"] for record in read_metrics(run.folder.metrics)] == [1]


def test_a_failed_evaluation_fails_the_run_and_says_its_round(tmp_path, caplog):
    def evaluate(arrays):
        raise OSError("the test set is gone")

    run = replace(rounds(tmp_path, node, rounds=3), evaluate=evaluate)
    logging.getLogger("flwr").addHandler(caplog.handler)
    with pytest.raises(OSError, match="the test set is gone"):
        run.run(start())
    logging.getLogger("flwr").removeHandler(caplog.handler)
    assert "round 1: evaluation failed: the test set is gone" in caplog.text
    assert read_metrics(run.folder.metrics) == []


def test_a_run_that_breaks_off_keeps_the_round_before(tmp_path):
    """The round that was being scored when the next one failed is written down."""

    def play(message):
        if message.metadata.message_type == "train":
            if message.content["config"]["server-round"] == 2:
                raise KeyboardInterrupt
        return node(message)

    def evaluate(arrays):
        sleep(0.1)
        return [SCORE, SCORE]

    run = replace(rounds(tmp_path, play, rounds=3), evaluate=evaluate)
    with pytest.raises(KeyboardInterrupt):
        run.run(start())
    assert [record["round"] for record in read_metrics(run.folder.metrics)] == [1]
    assert run.checkpoints.latest().round == 1
