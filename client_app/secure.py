"""A client's part in secure aggregation: keys, shares, their check, masked tensors, unmasking.

Each message starts a fresh process on a device, so what a client must remember within a round is in
its context's state, which stays on the device. The next round's keys overwrite it.
"""

from collections.abc import Callable
from logging import WARNING
from typing import cast

import numpy as np
from cryptography.fernet import InvalidToken
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import NDArray, log
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt

from client_app.task import Task
from efmodel.protocol import (
    ARRAYS,
    BLOCK_TENSORS,
    BLOCK_WEIGHT,
    CHECK_STAGE,
    CONFIG,
    ENCRYPTED_SHARES,
    KEYS_STAGE,
    MASK_KEY,
    MAX_UPDATE_NORM,
    MAX_WEIGHT,
    METRICS,
    NUM_EXAMPLES,
    PARTICIPANTS,
    REFUSED,
    SECRET_DIGESTS,
    SERVER_ROUND,
    SHARE_DIGESTS,
    SHARE_KEY,
    SHARES,
    SHARES_STAGE,
    SURVIVORS,
    UNMASK_STAGE,
    VALUE_RANGE,
    WEIGHTING,
)
from efmodel.secure import shares
from efmodel.secure.group import Group, self_mask, transport_key
from efmodel.secure.keys import public_key
from efmodel.secure.masks import apply
from efmodel.secure.quantise import Quantiser
from efmodel.weighting import examples_of, weight_of

# Record of the node's state, and its keys beside the group's.
STATE = "secure-aggregation"
DONE = "done"  # the last stage
TRAINED = "trained"  # the stage between CHECK_STAGE and UNMASK_STAGE
MASK_PRIVATE = "mask-private"
SHARE_PRIVATE = "share-private"
SEEDS = "seeds"  # of this client's own mask of each block
HELD = "held"  # bundles of shares, one from each client of the group; empty if it sent none


def advertise(task: Task, context: Context) -> ConfigRecord:
    """Stage 1: make this round's two key pairs, and return the public keys."""
    mask_private, share_private = shares.new_secret(), shares.new_secret()
    state = {MASK_PRIVATE: mask_private, SHARE_PRIVATE: share_private}
    context.state[STATE] = ConfigRecord(
        {SERVER_ROUND: task.server_round, DONE: KEYS_STAGE, **state}
    )
    return ConfigRecord({MASK_KEY: public_key(mask_private), SHARE_KEY: public_key(share_private)})


def share(task: Task, context: Context) -> ConfigRecord:
    """Stage 2: split this client's secrets, and return the shares, encrypted for each client.

    The secrets are the private key of its pairwise masks, and the seed of its own mask of each
    block that it holds. The shares for a client make a bundle.

    Raises
    ------
    ValueError
        If the group is too small, or has other keys of this client than it advertised.
    """
    state = _state(task, context, after=KEYS_STAGE)
    private, share_private = cast(bytes, state[MASK_PRIVATE]), cast(bytes, state[SHARE_PRIVATE])
    group = Group.of(task.request)
    me = group.by_id.get(task.node_id)
    if me is None or (me.mask_key, me.share_key) != tuple(
        map(public_key, (private, share_private))
    ):
        raise ValueError("keys: found others in the group, wanted those of this client")
    if len(group.members) < task.settings.secagg_min_trainers:
        wanted = f"wanted secagg-min-trainers = {task.settings.secagg_min_trainers}"
        raise ValueError(f"keys: found {len(group.members)} clients, {wanted}")
    seeds = [shares.new_secret() for _ in range(me.capacity + 1)]
    points = list(group.points.values())
    split = [shares.split(secret, group.threshold, points) for secret in (private, *seeds)]
    bundles = [b"".join(of_client) for of_client in zip(*split, strict=True)]
    encrypted, held = [], []
    for member, bundle in zip(group.members, bundles, strict=True):
        mine = member is me
        key = transport_key(share_private, member.share_key, task.server_round, me.id, member.id)
        encrypted.append(b"" if mine else encrypt(key, bundle))
        held.append(bundle if mine else b"")
    context.state[STATE] = ConfigRecord(
        {**state, **group.to_config(), DONE: SHARES_STAGE, SEEDS: seeds, HELD: held}
    )
    return ConfigRecord(
        {
            ENCRYPTED_SHARES: encrypted,
            SHARE_DIGESTS: [shares.digests(bundle) for bundle in bundles],
            SECRET_DIGESTS: shares.digests(b"".join((private, *seeds))),
        }
    )


def check(task: Task, context: Context) -> ConfigRecord:
    """Stage 3: decrypt the shares for this client, and name senders whose shares are wrong.

    A share is wrong if it cannot be decrypted, or is not what its digest says.
    """
    state = _state(task, context, after=SHARES_STAGE)
    group, private = Group.of(state), cast(bytes, state[SHARE_PRIVATE])
    held, refused = list(cast(list[bytes], state[HELD])), []
    encrypted = cast(list[bytes], task.request[ENCRYPTED_SHARES])
    digests = cast(list[bytes], task.request[SHARE_DIGESTS])
    for place, member in enumerate(group.members):
        if not encrypted[place]:  # its own, or those of a client that sent none
            continue
        key = transport_key(private, member.share_key, task.server_round, member.id, task.node_id)
        try:
            bundle = decrypt(key, encrypted[place])
        except InvalidToken:
            bundle = b""
        if bundle and shares.digests(bundle) == digests[place]:
            held[place] = bundle
        else:
            refused.append(member.id)
    context.state[STATE] = ConfigRecord({**state, DONE: CHECK_STAGE, HELD: held})
    return ConfigRecord({REFUSED: refused})


def masked(task: Task, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Stage 4, a mod around the training: mask the trained tensors.

    The reply's tensors are uint32: for each block that enough clients hold, the client's weighted
    change of each tensor, and its weight. The client's keys serve one such reply.

    Raises
    ------
    ValueError
        If a client takes part whose shares this one does not hold, or if a trained tensor holds
        nan or inf.
    """
    state = _state(task, context, after=CHECK_STAGE)
    group, ids = Group.of(state), cast(list[int], task.request[PARTICIPANTS])
    held = dict(zip(group.by_id, cast(list[bytes], state[HELD]), strict=True))
    if len(set(ids)) < group.threshold or not all(held.get(id) for id in ids):
        raise ValueError(f"participants: found {ids}, wanted clients that sent their shares")
    capacity = group.by_id[task.node_id].capacity
    blocks = group.open_blocks(ids, task.settings.secagg_min_trainers)[: capacity + 1]
    start = next(iter(message.content.array_records.values()))
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    context.state[STATE] = ConfigRecord({**state, DONE: TRAINED, PARTICIPANTS: ids})
    vectors = _vectors(task.request, start, reply, blocks, capacity, clients=len(ids))
    others = [id for id in ids if id != task.node_id]
    secrets = group.secrets(cast(bytes, state[MASK_PRIVATE]), others)
    seeds = cast(list[bytes], state[SEEDS])
    for block, arrays in vectors.items():
        masks = group.pair_masks(task.node_id, secrets, task.server_round, block)
        masks.append(self_mask(seeds[block], task.server_round, block, adds=True))
        apply(masks, arrays.values())
    reply.content[ARRAYS] = ArrayRecord(
        {name: Array(array) for arrays in vectors.values() for name, array in arrays.items()}
    )
    return reply


def _vectors(
    request: ConfigRecord,
    start: ArrayRecord,
    reply: Message,
    blocks: list[int],
    capacity: int,
    clients: int,
) -> dict[int, dict[str, NDArray]]:
    """Return the quantised weight and changes of each block, not masked yet."""
    trained = reply.content.array_records[ARRAYS]
    number = {key: cast(float, request[key]) for key in (VALUE_RANGE, MAX_WEIGHT, MAX_UPDATE_NORM)}
    quantiser = Quantiser(number[VALUE_RANGE], number[MAX_WEIGHT], clients)
    metrics = reply.content.metric_records[METRICS]
    examples = examples_of(metrics, NUM_EXAMPLES)
    weight = weight_of(str(request[WEIGHTING]), metrics, examples, capacity)
    if weight > quantiser.max_weight:
        log(WARNING, "weight: found %g, it counts as secagg-max-weight = %g", weight,
            quantiser.max_weight)  # fmt: skip
    whole = quantiser.weight(weight)
    changes = {
        name: array.numpy().astype(np.float32) - start[name].numpy()
        for name, array in trained.items()
    }
    rounding = quantiser.rounding(sum(change.size for change in changes.values()), whole)
    factor = shrinking(changes, number[MAX_UPDATE_NORM], rounding)
    vectors: dict[int, dict[str, NDArray]] = {}
    for block in blocks:
        vectors[block] = {f"{BLOCK_WEIGHT}{block}": np.array([whole], np.uint32)}
        for name in cast(list[str], request[f"{BLOCK_TENSORS}{block}"]):
            vectors[block][name] = quantiser.quantise(changes.pop(name) * factor, whole)
    return vectors


def shrinking(changes: dict[str, NDArray], bound: float, rounding: float) -> np.float32:
    """Return the factor that brings a client's change to an L2 norm of ``bound`` once rounded.

    Parameters
    ----------
    changes : dict of str to NDArray
        The change of each tensor.
    bound : float
        0: none.
    rounding : float
        The largest norm of what rounding will add.

    Raises
    ------
    ValueError
        Naming the tensor that holds nan or inf.
    """
    squares = 0.0
    for name, change in changes.items():
        squares += float(np.square(change, dtype=np.float64).sum())
        if not np.isfinite(squares):
            raise ValueError(f"{name}: found nan or inf")
    norm, limit = squares**0.5, max(0.0, bound - rounding)
    return np.float32(limit / norm if bound and norm > limit else 1.0)


def unmask(task: Task, context: Context) -> ConfigRecord:
    """Stage 5: return the shares that unmask the sum over the survivors, and forget the rest.

    Of a survivor these are the seeds of its own masks, for blocks that enough survivors hold; of a
    client that was lost, its private key. Never both.

    Raises
    ------
    ValueError
        If too few clients survived, or they are not those of this client's round.
    """
    state = _state(task, context, after=TRAINED)
    group, ids = Group.of(state), cast(list[int], state[PARTICIPANTS])
    survivors = cast(list[int], task.request[SURVIVORS])
    alive = set(survivors)
    if not (task.node_id in alive <= set(ids) and len(alive) >= group.threshold):
        wanted = f"wanted at least {group.threshold} of {ids}"
        raise ValueError(f"survivors: found {survivors}, {wanted}")
    blocks = group.open_blocks(sorted(alive), task.settings.secagg_min_trainers)
    answer = []
    for id, bundle in zip(group.by_id, cast(list[bytes], state[HELD]), strict=True):
        private, *seeds = shares.unpack(bundle) or [b""]
        opened = b"".join(seed for block, seed in enumerate(seeds) if block in blocks)
        answer.append(opened if id in alive else private if id in ids else b"")
    del context.state[STATE]
    return ConfigRecord({SHARES: answer})


def _state(task: Task, context: Context, after: str) -> ConfigRecord:
    """Return what this client remembers of the round, if its last stage was ``after``."""
    state = context.state.config_records.get(STATE, ConfigRecord())
    if (state.get(SERVER_ROUND), state.get(DONE)) != (task.server_round, after):
        found = f"found round {state.get(SERVER_ROUND)!r} after {state.get(DONE)!r}"
        wanted = f"wanted round {task.server_round} after {after!r}"
        raise ValueError(f"secure aggregation: {found}, {wanted}")
    return state


Stage = Callable[[Task, Context], ConfigRecord]
STAGES: dict[str, Stage] = {
    KEYS_STAGE: advertise,
    SHARES_STAGE: share,
    CHECK_STAGE: check,
    UNMASK_STAGE: unmask,
}


def answering(stage: Stage) -> ClientAppCallable:
    """Return what the ClientApp does with the query of a stage."""

    def answer(message: Message, context: Context) -> Message:
        record = stage(Task.of(message, context), context)
        return Message(RecordDict({CONFIG: record}), reply_to=message)

    return answer
