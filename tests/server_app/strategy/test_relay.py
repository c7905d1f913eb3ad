"""A relay: chains of clients, against an independent computation."""

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app import app
from efmodel.settings import Settings, SettingsError
from server_app.federation import federate
from server_app.run_folder import read_metrics
from server_app.strategy import PartialFedAvg, PartialFedExP
from server_app.strategy.exchange import tensor_bytes
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.registry import build, check
from server_app.strategy.relay import Relay, chains
from server_app.strategy.reply import ClientUpdate
from simulation.in_process_grid import LocalGrid
from simulation.run_config import defaults
from tests.conftest import write_folder
from tests.server_app.federation import OWNERS, SHAPE, drifting, tensors

CAPACITIES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 3}
EXAMPLES = {1: 10, 2: 20, 3: 30, 4: 40, 5: 50}
# Seed 0 draws 5 before 4 and 2 before 1. Deepest first they are 5 4 3 2 1; dealt to two chains and
# turned round:
CHAINS = [[1, 3, 5], [2, 4]]


def trained(node: int, values: np.ndarray) -> np.ndarray:
    """Return what a client makes of a tensor: the order of two clients matters."""
    return (0.5 * values + node).astype(np.float32)


def halving(capacities=CAPACITIES, fails=(), silent=(), broken=()):
    """Return what a node does: it applies ``trained``, fails, never replies, or sends nan."""
    shape = drifting(capacities, EXAMPLES.get)

    def play(message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        reply = shape(message)
        if message.metadata.message_type == "query":
            return reply
        if node in fails:
            raise RuntimeError("out of battery")
        if node in silent:
            return None
        received = message.content["arrays"]
        new = {name: trained(node, array.numpy()) for name, array in received.items()}
        if node in broken:
            new["front"][0, 0] = np.nan
        reply.content["arrays"] = ArrayRecord({name: Array(new[name]) for name in new})
        return reply

    return play


def strategy(kind=PartialFedAvg, **changes) -> PartialFedAvg:
    given = {"relay": 3, "min_train_nodes": 5, "min_available_nodes": 5, "node_timeout": 1.0}
    return kind(OWNERS, **{**given, **changes})


def run_round(found: PartialFedAvg, play, start: ArrayRecord, nodes=CAPACITIES):
    """Run one round as ``Rounds`` does; return the new model, and the messages step by step."""
    grid, steps = LocalGrid(play, nodes), []

    def replies(messages):
        while messages:
            steps.append(messages)
            yield from grid.send_and_receive(messages)
            messages = found.next_messages()

    messages = list(found.configure_train(1, start, ConfigRecord(), grid))
    found.asked(messages)
    new, _ = found.aggregate_train(1, replies(messages))
    return new, steps


def expected(start: ArrayRecord, name: str, lost=(), coverage="trainers", chains=CHAINS):
    """Equation 5 in float64, chain by chain."""
    old = start[name].numpy().astype(np.float64)
    top, bottom = np.zeros(SHAPE), 0.0
    for chain in chains:
        values, weight = old, 0.0
        for node in chain:
            if node in lost:
                continue
            if CAPACITIES[node] >= OWNERS[name]:
                values, weight = 0.5 * values + node, weight + EXAMPLES[node]
            elif coverage == "cohort":
                top, bottom = top + EXAMPLES[node] * old, bottom + EXAMPLES[node]
        top, bottom = top + weight * values, bottom + weight
    return top / bottom


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
def test_a_round_is_the_mean_of_its_chains(coverage):
    start, found = tensors("start"), strategy(coverage=coverage)
    new, steps = run_round(found, halving(), start)
    sent = [[message.metadata.dst_node_id for message in messages] for messages in steps]
    assert sent == [[1, 2], [3, 4], [5]]
    for name in OWNERS:
        wanted = expected(start, name, coverage=coverage)
        np.testing.assert_allclose(new[name].numpy(), wanted, rtol=1e-6, err_msg=name)


def test_each_client_is_sent_its_chains_model_cut_at_its_capacity():
    start, found = tensors("start"), strategy()
    _, steps = run_round(found, halving(), start)
    sent = {m.metadata.dst_node_id: m.content["arrays"] for step in steps for m in step}
    assert list(sent[3]) == ["front", "one", "two"] and list(sent[5]) == list(OWNERS)
    after_one = trained(1, start["one"].numpy())
    assert np.array_equal(sent[3]["one"].numpy(), after_one)
    assert np.array_equal(sent[5]["one"].numpy(), trained(3, after_one))
    assert np.array_equal(sent[5]["two"].numpy(), trained(3, start["two"].numpy()))
    assert np.array_equal(sent[5]["three"].numpy(), start["three"].numpy())  # nobody had it
    assert np.array_equal(sent[4]["one"].numpy(), trained(2, start["one"].numpy()))


def test_everyone_is_reported():
    found = strategy()
    _, steps = run_round(found, halving(), tensors("start"))
    report = found.report
    assert report.sampled == {str(node): c for node, c in CAPACITIES.items()}
    assert report.accepted.keys() == report.sampled.keys()
    assert not report.failed and not report.spare and report.trainers(3) == [5, 3, 2]
    for message in (message for step in steps for message in step):
        client = report.accepted[str(message.metadata.dst_node_id)]
        assert client.bytes_down == client.bytes_up == tensor_bytes(message)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("fails", "RuntimeError('out of battery')"),
        ("silent", "no reply in time"),
        ("broken", "front: found nan or inf"),
    ],
)
@pytest.mark.parametrize("lost", [1, 3, 4, 5])
def test_a_chain_goes_on_without_a_client_from_the_model_it_had(how, complaint, lost):
    start, found = tensors("start"), strategy()
    new, _ = run_round(found, halving(**{how: [lost]}), start)
    for name in OWNERS:
        wanted = expected(start, name, lost=[lost])
        np.testing.assert_allclose(new[name].numpy(), wanted, rtol=1e-6, err_msg=name)
    assert found.report.failed == {str(lost): complaint} and len(found.report.accepted) == 4


def test_a_round_in_which_all_fail_changes_nothing():
    found = strategy()
    new, steps = run_round(found, halving(fails=CAPACITIES), tensors("start"))
    assert new is None and len(steps) == 3 and len(found.report.failed) == 5


def test_a_tensor_without_trainers_stays_as_it_is():
    start, found = tensors("start"), strategy()
    new, _ = run_round(found, halving(fails=[4, 5]), start)
    assert np.array_equal(new["three"].numpy(), start["three"].numpy())
    assert not np.array_equal(new["two"].numpy(), start["two"].numpy())


@pytest.mark.parametrize("kappa", [0.5, 3.0])
def test_a_chain_counts_as_one_client_for_shrinkage(kappa):
    start, found = tensors("start"), strategy(shrinkage=kappa)
    new, _ = run_round(found, halving(), start)
    for name in OWNERS:
        old = start[name].numpy()
        trainers = sum(any(CAPACITIES[node] >= OWNERS[name] for node in chain) for chain in CHAINS)
        wanted = old + trainers / (trainers + kappa) * (expected(start, name) - old)
        np.testing.assert_allclose(new[name].numpy(), wanted, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("wire_dtype", "tolerance"), [("float16", 0.01), ("int8", 0.05)])
def test_changes_that_travel_coded_are_added_to_the_chains_model(wire_dtype, tolerance):
    """With these types the reply is a change to the model sent, with a scale for each tensor."""

    def coded(message: Message) -> Message:
        reply = halving()(message)
        if message.metadata.message_type == "train":
            assert all(a.dtype == "float16" for a in message.content["arrays"].values())
            arrays, scales = {}, {}
            for name, array in message.content["arrays"].items():
                new = reply.content["arrays"][name].numpy()
                change = new - array.numpy().astype(np.float32)
                scales[name] = float(np.abs(change).max()) / (127 if wire_dtype == "int8" else 1)
                change = change / scales[name]
                change = np.rint(change) if wire_dtype == "int8" else change
                arrays[name] = Array(change.astype(wire_dtype))
            reply.content["arrays"] = ArrayRecord(arrays)
            reply.content["scales"] = ConfigRecord(scales)
        return reply

    start, found = tensors("start"), strategy(wire_dtype=wire_dtype)
    new, _ = run_round(found, coded, start)
    assert not found.report.failed
    for name in OWNERS:
        assert new[name].dtype == "float32"
        wanted = expected(start, name)
        np.testing.assert_allclose(new[name].numpy(), wanted, atol=tolerance, err_msg=name)


def test_fedexp_takes_a_chain_for_a_client():
    start, found = tensors("start"), strategy(PartialFedExP, epsilon=0.0)
    new, _ = run_round(found, halving(), start)
    old = start["three"].numpy().astype(np.float64)
    both = [0.5 * old + 4 - old, 0.5 * old + 5 - old]
    shares = [40 / 90, 50 / 90]
    mean = sum(share * change for share, change in zip(shares, both, strict=True))
    squares = sum(s * np.square(c).sum() for s, c in zip(shares, both, strict=True))
    rate = max(1.0, squares / (2 * np.square(mean).sum()))
    np.testing.assert_allclose(new["three"].numpy(), old + rate * mean, rtol=1e-5)


cohorts = st.lists(
    st.tuples(st.integers(1, 3), st.floats(0.5, 500)), min_size=1, max_size=9
)  # (capacity, weight)


@settings(deadline=None)
@given(cohort=cohorts, coverage=st.sampled_from(["trainers", "cohort"]), kappa=st.floats(0, 9))
def test_chains_of_one_client_are_the_plain_mean(cohort, coverage, kappa):
    nodes = [Node(id, str(id), capacity) for id, (capacity, _) in enumerate(cohort)]
    current = {name: array.numpy() for name, array in tensors("start").items()}
    plain = PartialMean(coverage, kappa)
    relay = Relay(nodes, 1, current, PartialMean(coverage, kappa))
    relay._step = 1  # as if the messages had been sent
    for node, (capacity, weight) in zip(nodes, cohort, strict=True):
        names = [name for name, owner in OWNERS.items() if owner <= capacity]
        arrays = {name: array.numpy() for name, array in tensors(node.id, names).items()}
        plain.add(arrays, weight)
        relay.add(ClientUpdate(node.id, arrays, None, weight, metrics=None))
    mean = relay.result()
    assert mean.trainers == plain.trainers
    for name, old in current.items():
        np.testing.assert_allclose(mean.mean(name, old), plain.mean(name, old), atol=1e-6)


@settings(deadline=None)
@given(capacities=st.lists(st.integers(1, 6), max_size=40), length=st.integers(1, 9))
def test_chains_are_of_like_length_and_mixed(capacities, length):
    nodes = [Node(id, str(id), capacity) for id, capacity in enumerate(capacities)]
    dealt = [chain.nodes for chain in chains(nodes, length)]
    assert sorted(node.id for chain in dealt for node in chain) == list(range(len(nodes)))
    lengths = [len(chain) for chain in dealt] or [0]
    assert max(lengths) <= length and max(lengths) - min(lengths) < 2
    for chain in dealt:
        assert [node.capacity for node in chain] == sorted(node.capacity for node in chain)
    # No chain has two more of the clients from a capacity up than another one.
    for least in range(1, 7):
        strong = [sum(node.capacity >= least for node in chain) for chain in dealt]
        assert max(strong, default=0) - min(strong, default=0) < 2


def test_a_subclass_that_leaves_a_client_out_leaves_its_chain_the_rest():
    class Careful(PartialFedAvg):
        def configure_train(self, *arguments):
            for message in super().configure_train(*arguments):
                if message.metadata.dst_node_id != 2:
                    yield message

    start, found = tensors("start"), strategy(Careful)
    new, _ = run_round(found, halving(), start)
    assert "2" not in found.report.sampled and not found.report.failed
    for name in OWNERS:
        wanted = expected(start, name, lost=[2])
        np.testing.assert_allclose(new[name].numpy(), wanted, rtol=1e-6, err_msg=name)


def test_a_server_that_does_not_ask_the_later_clients_is_told():
    found, grid = strategy(), LocalGrid(halving(), CAPACITIES)
    messages = found.configure_train(1, tensors("start"), ConfigRecord(), grid)
    with pytest.raises(RuntimeError, match="relay: found clients that were not asked"):
        found.aggregate_train(1, grid.send_and_receive(messages))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secure_aggregation", True), ("dp_noise_multiplier", 1.0), ("max_update_norm", "3"),
        ("dp_sampling", "poisson"), ("over_sample", 1.5), ("client_moments", "server"),
    ],
)  # fmt: skip
def test_what_does_not_combine_with_a_relay_is_refused_before_a_run(key, value):
    run = Settings(relay=3, weighting="uniform", **{key: value})
    name = key.replace("_", "-")
    with pytest.raises(SettingsError, match=f"{name}: found {value!r}, wanted .* with relay"):
        check(run)
    with pytest.raises(SettingsError, match=f"{name}: found {value!r}, wanted .* with relay"):
        build(run, OWNERS)


@pytest.mark.parametrize("name", ["flwr.serverapp.strategy:FedAvg", "simulation.heterofl:HeteroFL"])
def test_strategies_without_a_relay_refuse_it(name):
    with pytest.raises(SettingsError, match="relay: found 3, wanted 1"):
        build(Settings(strategy=name, relay=3), OWNERS)


def test_two_rounds_of_real_clients(tmp_path, caplog):
    """Four devices of unlike capacity in chains of two, on recordings, from settings to a model."""
    folders = [
        write_folder(tmp_path / str(n), [(f"{i}.wav", "one two", "x", 0.7) for i in range(3)])
        for n in range(4)
    ]
    config = {
        **defaults(), "rounds": 2, "local-epochs": 1, "relay": 2, "min-train-nodes": 4,
        "min-nodes": 4, "data": "audiofolder", "round-timeout": 60.0, "vocabulary": "en",
        "output": str(tmp_path / "run"), "calibrate": "off",
    }  # fmt: skip
    seen: list[tuple[int, int]] = []

    def play(message: Message) -> Message:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "train":
            seen.append((message.content["config"]["server-round"], node))
            if seen[-1] == (2, 1):
                raise RuntimeError("out of battery")
        place = {"data-path": str(folders[node - 1]), "capacity": min(node, 3), "name": str(node)}
        return app(message, Context(1, node, place, RecordDict(), config))

    with caplog.at_level(logging.WARNING):
        folder = federate(LocalGrid(play, range(1, 5)), Context(1, 0, {}, RecordDict(), config))
    first, second = read_metrics(folder.metrics)
    for server_round in (1, 2):
        asked = [node for its_round, node in seen if its_round == server_round]
        assert asked[:2] == [2, 1] and sorted(asked[2:]) == [3, 4]
    assert first["sampled"] == first["answered"] == second["sampled"] == 4
    assert second["answered"] == 3 and "out of battery" in second["failures"]["1"]
    assert first["clients"]["num-examples"] == 12 and first["trainers-per-exit"] == [4, 3, 2]
    for record in (first, second):
        assert record["bytes-up"] == sum(n["bytes_up"] for n in record["nodes"].values())
    down = sum(client["bytes_down"] for client in first["nodes"].values())
    assert first["bytes-down"] == down < first["bytes-down-full"]
    assert folder.report.is_file() and (folder.model / "config.json").is_file()
