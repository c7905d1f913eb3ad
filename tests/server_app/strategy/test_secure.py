"""Secure aggregation of partial updates: exact sums, lost clients, liars, and what is learned."""

import gc
from types import FunctionType, ModuleType

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efmodel.protocol import (
    CONFIG,
    ENCRYPTED_SHARES,
    MASK_KEY,
    REFUSED,
    SECRET_DIGESTS,
    SHARE_DIGESTS,
    SHARE_KEY,
    SHARES,
)
from efmodel.secure import shares
from efmodel.secure.group import Group, Member, self_mask
from efmodel.secure.keys import public_key
from efmodel.secure.masks import apply
from efmodel.secure.quantise import Quantiser
from efmodel.settings import Settings, SettingsError
from server_app.strategy import PartialFedAvg, registry
from simulation.in_process_grid import LocalGrid
from tests.server_app.federation import OWNERS, drifting
from tests.server_app.secure_clients import (
    STAGES,
    Lost,
    SecureClients,
    lost_at,
    run_round,
    sent,
    start,
)

FOUR = {11: 1, 22: 2, 33: 3, 2**64 - 1: 3}  # ids are 64 bits without sign
FULL = {node: 3 for node in range(1, 6)}


def plain(capacities, examples=lambda node: 10, **options):
    """Return the model after a round in the clear."""
    return run_round(
        drifting(capacities, examples), capacities, secure_aggregation=False, **options
    )


def assert_close(found, wanted, names=OWNERS, atol=2e-6):
    for name in names:
        np.testing.assert_allclose(
            found[name].numpy(), wanted[name].numpy(), atol=atol, rtol=0, err_msg=name
        )


@st.composite
def rounds(draw):
    """Return capacities, examples, and the stages at which clients are lost."""
    ids = draw(st.lists(st.integers(1, 2**64 - 1), min_size=2, max_size=6, unique=True))
    capacities = {id: draw(st.integers(1, 3)) for id in ids}
    examples = {id: draw(st.integers(1, 1000)) for id in ids}
    stages = {id: draw(st.sampled_from((None, None, *STAGES))) for id in ids}
    return capacities, examples, {id: stage for id, stage in stages.items() if stage}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds(), st.sampled_from(["trainers", "cohort"]))
def test_secure_sums_are_plain_sums_whoever_is_lost(case, coverage):
    capacities, examples, lost = case
    clients = SecureClients(capacities, examples.get, lost_at(lost))
    _, new = run_round(clients, capacities, coverage=coverage)

    advertised = [id for id in capacities if lost.get(id) != "keys"]
    threshold = max(len(advertised) // 2 + 1, 3)
    trained = [id for id in capacities if lost.get(id) in ("unmask", None)]
    unmasking = [id for id in trained if id not in lost]
    training = [id for id in capacities if lost.get(id) not in ("keys", "shares", "check")]
    enough = min(len(training), len(trained)) >= threshold
    if not enough or len(unmasking) < len(advertised) // 2 + 1:
        assert new is None
        return
    trainers = {n: [id for id in trained if capacities[id] >= OWNERS[n]] for n in OWNERS}
    opened = [name for name in OWNERS if len(trainers[name]) >= 3]
    _, wanted = plain({id: capacities[id] for id in trained}, examples.get, coverage=coverage)
    quantiser = Quantiser(8.0, 1000.0, len(training))
    for name in OWNERS:
        if name in opened:
            weights = sum(quantiser.weight(examples[id]) for id in trainers[name])
            assert_close(new, wanted, [name], quantiser.step(weights) + 1e-6)
        else:
            assert_close(new, start(), [name], 0)


def lying(node: int, stage: str, lie) -> SecureClients:
    """Return five full clients, one of which changes its reply of a stage by ``lie``."""

    def fault(of: int, at: str, reply) -> None:
        if (of, at) == (node, stage):
            lie(reply.content[CONFIG] if stage != "train" else reply.content)

    return SecureClients(FULL, fault=fault)


def set_to(key: str, value):
    return lambda record: record.__setitem__(key, value)


def without(node: int) -> ArrayRecord:
    return plain({id: depth for id, depth in FULL.items() if id != node})[1]


@pytest.mark.parametrize(
    ("stage", "lie", "reason"),
    [
        ("keys", set_to("mask-key", b"short"), "keys: mask-key: found bytes of 5, wanted 32"),
        ("keys", set_to("share-key", bytes(32)), "wanted an X25519 key"),  # agrees on zero
        ("keys", set_to("share-key", 7), "keys: share-key: found 7"),
        ("shares", set_to(ENCRYPTED_SHARES, [b"nonsense"] * 5), "check: found wrong shares"),
        ("shares", set_to(ENCRYPTED_SHARES, [b""]), "shares: encrypted-shares: found list of 1"),
        ("shares", set_to(SHARE_DIGESTS, [bytes(160)] * 5), "check: found wrong shares"),
        ("shares", set_to(SHARE_DIGESTS, [b""] * 5), "shares: share-digests: found bytes of 0"),
        ("check", set_to(REFUSED, [1, 2, 3, 4]), "check: found wrong shares"),  # it accuses all
        ("check", set_to(REFUSED, "none"), "check: refused: found 'none'"),
        ("check", set_to(REFUSED, ["all"]), "check: refused: found ['all']"),
    ],
)
def test_a_liar_is_named_and_the_round_closes_without_it(stage, lie, reason):
    strategy, new = run_round(lying(5, stage, lie), FULL)
    assert reason in strategy.report.failed["5"]
    assert list(strategy.report.failed) == ["5"]
    assert sorted(strategy.report.accepted) == ["1", "2", "3", "4"]
    assert_close(new, without(5))


def flip(record) -> None:
    """Change one bit of the first share."""
    first, *others = record[SHARES]
    record[SHARES] = [bytes([first[0] ^ 1, *first[1:]]), *others]


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (flip, "unmask: found a wrong share of a secret of 1"),
        (set_to(SHARES, [b""] * 5), "unmask: found a wrong share of a secret of 1"),
        (set_to(SHARES, 3), "unmask: shares: found 3, wanted a list of 5"),
    ],
)
def test_a_wrong_share_is_not_used_and_its_sender_is_named(lie, reason):
    strategy, new = run_round(lying(1, "unmask", lie), FULL)
    assert strategy.report.failed == {"1": reason}
    assert_close(new, plain(FULL)[1])  # what it trained is in the sum, and correct


def test_shares_of_nothing_cost_one_round_and_their_sender_takes_part_no_more():
    """Its digests fit its shares, but the shares combine to something else than its secrets."""
    clients = lying(5, "shares", set_to(SECRET_DIGESTS, bytes(160)))
    strategy = PartialFedAvg(OWNERS, secure_aggregation=True, min_train_nodes=5, node_timeout=5.0)
    grid = LocalGrid(clients, FULL)
    failed = []
    for server_round in (1, 2):
        messages = strategy.configure_train(server_round, start(), ConfigRecord(), grid)
        new, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
        failed.append((new is None, dict(strategy.report.failed)))
    assert failed[0][0] and "found shares of 5 that are no shares" in failed[0][1]["1"]
    assert failed[1] == (False, {}) and "5" not in strategy.report.accepted


def test_wrongly_masked_tensors_cost_the_round():
    def garbage(content) -> None:
        content["arrays"]["one"] = Array(np.arange(6, dtype=np.uint32).reshape(2, 3))
        content["arrays"]["block-weight-1"] = Array(np.array([7], np.uint32))

    strategy, new = run_round(lying(5, "train", garbage), FULL)
    assert new is None and strategy.report.accepted == {}
    assert "a client masked its tensors wrongly" in strategy.report.failed["1"]


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda content: content["arrays"].pop("two"), "two: found no such tensor"),
        (lambda content: content["arrays"].update(two=start()["two"]), "two: found float32"),
        (lambda content: content["metrics"].pop("num-examples"), "num-examples: found None"),
    ],
)
def test_a_reply_that_is_not_masked_as_asked_is_left_out(lie, reason):
    strategy, new = run_round(lying(5, "train", lie), FULL)
    assert reason in strategy.report.failed["5"]
    assert_close(new, without(5))


def test_an_exit_with_too_few_trainers_is_neither_sent_nor_unmasked():
    clients = SecureClients(FOUR)
    _, new = run_round(clients, FOUR)
    _, wanted = plain(FOUR)
    assert_close(new, wanted, ["front", "one", "two"])
    assert_close(new, start(), ["three"], atol=0)  # two clients hold it
    for node in FOUR:
        assert "three" not in clients.seen[node, "train"]["arrays"]


def test_an_exit_that_loses_a_trainer_after_masking_stays_masked():
    """Nodes 2 to 4 sent exit 3; with 4 lost, two are left, and nobody gives its seeds away."""
    capacities = {1: 2, 2: 3, 3: 3, 4: 3, 5: 2}
    clients = SecureClients(capacities, fault=lost_at({4: "train"}))
    _, new = run_round(clients, capacities)
    assert_close(new, start(), ["three"], atol=0)
    assert_close(new, plain({1: 2, 2: 3, 3: 3, 5: 2})[1], ["front", "one", "two"])
    assert "three" in clients.seen[2, "train"]["arrays"]
    for (_, stage), content in clients.seen.items():
        if stage == "unmask":
            sizes = [len(bundle) // 32 for bundle in content[CONFIG][SHARES]]
            assert sizes == [3, 3, 3, 1, 3]  # exits 0 to 2 of each survivor, and a private key


def group_of(clients: SecureClients, capacities) -> Group:
    """Return the group as the server knows it, from the keys that it was sent."""
    keys = {node: clients.seen[node, "keys"][CONFIG] for node in sorted(capacities)}
    return Group(
        tuple(Member(n, capacities[n], k[MASK_KEY], k[SHARE_KEY]) for n, k in keys.items())
    )


def combined(clients: SecureClients, group: Group) -> dict[int, list[bytes]]:
    """Return all secrets that the server can combine from the shares that it was sent."""
    holders = [node for node in group.by_id if (node, "unmask") in clients.seen]
    points = {node: group.points[node] for node in holders}
    factors = shares.lagrange(list(points.values()))
    secrets = {}
    for place, dealer in enumerate(group.by_id):
        bundles = [clients.seen[node, "unmask"][CONFIG][SHARES][place] for node in holders]
        columns = zip(*map(shares.unpack, bundles), strict=True)
        secrets[dealer] = [
            shares.combine(dict(zip(points.values(), column, strict=True)), factors)
            for column in columns
        ]
    return secrets


def vectors_of(arrays: ArrayRecord, block: int) -> list[np.ndarray]:
    names = [f"block-weight-{block}", *sorted(n for n in OWNERS if OWNERS[n] == block)]
    return [arrays[name].numpy().copy() for name in names]


def assert_uniform(vectors: list[np.ndarray]) -> None:
    """Compare the half bytes with a uniform distribution: chi-square, 15 degrees of freedom."""
    octets = np.concatenate([vector.reshape(-1).view(np.uint8) for vector in vectors])
    found = np.bincount(np.concatenate([octets & 15, octets >> 4]), minlength=16)
    wanted = found.sum() / 16
    assert wanted > 100
    assert ((found - wanted) ** 2 / wanted).sum() < 70  # by chance once in 10^8 tests


def test_what_the_server_knows_of_one_client_is_uniform():
    """As sent; without the client's own masks, whose seeds it learns; and, of a client whose reply
    comes late, without the pairwise masks: it has learned that client's private key."""
    as_sent, without_own, late_without_pairs = [], [], []
    for _ in range(12):
        late = {}

        def too_late(node, stage, reply, late=late):
            if (node, stage) == (5, "train"):
                late[node] = sent(reply.content)["arrays"]
            if node == 5 and stage in ("train", "unmask"):
                raise Lost

        clients = SecureClients(FULL, fault=too_late)
        _, new = run_round(clients, FULL)
        assert_close(new, without(5))
        group = group_of(clients, FULL)
        secrets = combined(clients, group)
        assert public_key(secrets[5][0]) == group.by_id[5].mask_key and len(secrets[5]) == 1
        agreed = group.secrets(secrets[5][0], [1, 2, 3, 4])
        for block in range(4):
            for node in (1, 2, 3, 4):
                vectors = vectors_of(clients.seen[node, "train"]["arrays"], block)
                as_sent += [vector.copy() for vector in vectors]
                apply([self_mask(secrets[node][block], 1, block, adds=False)], vectors)
                without_own += vectors
            vectors = vectors_of(late[5], block)
            pairs = group.pair_masks(5, agreed, 1, block)
            apply([mask._replace(adds=not mask.adds) for mask in pairs], vectors)
            late_without_pairs += vectors
    for vectors in (as_sent, without_own, late_without_pairs):
        assert_uniform(vectors)


def test_a_round_keeps_nothing_of_one_client():
    """The strategy's sums are gone, and a client forgets its secrets with its last answer."""
    clients = SecureClients(FULL)
    strategy, _ = run_round(clients, FULL)
    assert all("secure-aggregation" not in context.state for context in clients.contexts.values())
    kept = gc_arrays(strategy)
    for (node, stage), content in clients.seen.items():
        if stage == "train":
            for name, array in content["arrays"].items():
                assert array.numpy().tobytes() not in kept, (node, name)


def gc_arrays(root: object) -> set[bytes]:
    """Return the bytes of all arrays that can be reached from an object."""
    seen, waiting, found = set(), [root], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        seen.add(id(each))
        if isinstance(each, np.ndarray):
            found.add(each.tobytes())
        waiting += gc.get_referents(each)
    return found


def test_a_client_answers_each_stage_once_and_only_in_order():
    clients = SecureClients(FULL)
    asked = {}

    def play(message):
        asked[message.metadata.dst_node_id, message.metadata.message_type] = message
        return clients(message)

    run_round(play, FULL)
    for kind in ("query.shares", "query.check", "train", "query.unmask"):
        with pytest.raises(Exception, match="secure aggregation: found round None after None"):
            clients(asked[1, kind])


def test_a_client_that_forgot_its_keys_is_left_out():
    """As a device that starts again between two stages."""
    clients = SecureClients(FULL)

    def play(message):
        if message.metadata.message_type == "query.check":
            clients.contexts[5].state.clear()
        return clients(message)

    strategy, new = run_round(play, FULL)
    assert "check" in strategy.report.failed["5"]
    assert_close(new, without(5))


def test_the_norm_bound_moves_to_the_client():
    options = {"max_update_norm": "0.2", "weighting": "uniform"}
    _, wanted = plain(FOUR, **options)
    strategy, new = run_round(SecureClients(FOUR), FOUR, **options)
    assert_close(new, wanted, ["front", "one", "two"])
    assert strategy.secure.value_range == 0.2
    assert np.abs(wanted["one"].numpy() - plain(FOUR)[1]["one"].numpy()).max() > 1e-3


def test_central_noise_is_added_to_the_unmasked_sum():
    options = {"max_update_norm": "0.2", "weighting": "uniform"}
    _, exact = run_round(SecureClients(FULL), FULL, **options)
    errors = []
    for _ in range(4):
        _, new = run_round(SecureClients(FULL), FULL, dp_noise_multiplier=2.0, **options)
        errors += [new[name].numpy() - exact[name].numpy() for name in OWNERS]
    deviation = 2.0 * 0.2 / 5  # z C / n
    assert np.std(errors) == pytest.approx(deviation, rel=0.35)  # 96 values: five sigma


def test_nan_is_named_by_the_client_itself():
    def broken(message):
        reply = drifting(FULL)(message)
        if message.metadata.dst_node_id == 5 and "arrays" in reply.content:
            reply.content["arrays"]["one"] = Array(np.full((2, 3), np.nan, np.float32))
        return reply

    clients = SecureClients(FULL)
    clients.train = broken
    strategy, new = run_round(clients, FULL)
    assert "one: found nan or inf" in strategy.report.failed["5"]
    assert_close(new, without(5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"wire_dtype": "float16"}, "wire-dtype: found 'float16', wanted float32"),
        ({"max_update_norm": "auto"}, "max-update-norm: found 'auto', wanted off or a number"),
        (
            {"strategy": "flwr.serverapp.strategy:FedAvg"},
            "secure-aggregation: found True, wanted False: the strategy",
        ),
        (
            {"clip_by": "tensor", "max_update_norm": "1.0"},
            "clip-by: found 'tensor', wanted update",
        ),
        (
            {"dp_sampling": "poisson", "weighting": "uniform"},
            "dp-sampling: found 'poisson', wanted fixed",
        ),
        ({"strategy": "partial-fedexp"}, "secure-aggregation: found true, wanted false"),
        (
            {"strategy": "simulation.heterofl:HeteroFL"},
            "secure-aggregation: found True, wanted False",
        ),
    ],
)
def test_what_does_not_combine_is_refused_before_a_run_starts(changes, reason):
    with pytest.raises(SettingsError, match=reason):
        registry.build(Settings(secure_aggregation=True, **changes), OWNERS)


def test_a_tensor_of_whole_numbers_is_refused():
    strategy = PartialFedAvg(OWNERS, secure_aggregation=True, min_train_nodes=5)
    arrays = ArrayRecord({**start(), "one": Array(np.zeros((2, 3), np.int64))})
    with pytest.raises(ValueError, match="one: found int64, wanted a floating tensor"):
        strategy.configure_train(1, arrays, ConfigRecord(), LocalGrid(SecureClients(FULL), FULL))
