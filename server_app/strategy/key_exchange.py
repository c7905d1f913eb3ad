"""The stages of secure aggregation before the training: a round's clients agree on keys."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.serverapp import Grid

from efmodel.protocol import (
    CHECK_STAGE,
    CONFIG,
    ENCRYPTED_SHARES,
    KEYS_STAGE,
    MASK_KEY,
    REFUSED,
    SECRET_DIGESTS,
    SERVER_ROUND,
    SHARE_DIGESTS,
    SHARE_KEY,
    SHARES_STAGE,
)
from efmodel.secure import keys
from efmodel.secure.group import Group, Member
from efmodel.secure.shares import SHARE_BYTES, new_secret
from server_app.strategy.cohort import Cohort
from server_app.strategy.exchange import Traffic, exchange
from server_app.strategy.node import Node
from server_app.strategy.reply import BadReplyError, error_reason
from server_app.strategy.round_report import RoundReport

# Longest wait for the replies of a stage. They take a client a moment, but a slow device a minute
# to start a process, and a SuperLink a minute to notice that a node is gone.
STAGE_SECONDS = 600.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Dealt:
    """What a client sends in stage 2, in the order of the group; see ``efmodel.protocol``."""

    encrypted: list[bytes]
    digests: list[bytes]
    secret_digests: bytes


@dataclass
class KeyExchange:
    """The clients of one round, what they agreed on, and the messages beside the training.

    Attributes
    ----------
    grid : Grid
        Where the nodes are connected.
    server_round : int
        The number of the round.
    min_trainers : int
        Fewer clients do not begin.
    timeout : float
        Seconds to wait for the replies of a stage.
    report : RoundReport
        Where clients that fail are named.
    nodes : dict of int to Node
        The clients that are in the round, by id. Those that fail in a stage are removed.
    group : Group
        The clients that advertised keys, each of which holds a share of every other's secrets.
    dealt : dict of int to Dealt
        What each client dealt, by id.
    """

    grid: Grid
    server_round: int
    min_trainers: int
    timeout: float
    report: RoundReport
    nodes: dict[int, Node]
    group: Group = Group(())
    dealt: dict[int, Dealt] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        """The ids of the clients that are in the round, ascending."""
        return sorted(self.nodes)

    def run(self) -> None:
        """Let the clients agree on keys. ``nodes`` are then those that did; none if too few did."""
        self._collect_keys()
        if self._are_enough(self.min_trainers):
            self._deal_shares()
            self._settle(self._disputes())
            self._are_enough(max(self.min_trainers, self.group.threshold))

    def _collect_keys(self) -> None:
        """Stage 1: each client advertises its public keys of this round."""

        def read(node: Node, answer: ConfigRecord) -> Member:
            return Member(node.id, node.capacity, *(_key(answer, k) for k in (MASK_KEY, SHARE_KEY)))

        members = self._keep(KEYS_STAGE, dict.fromkeys(self.ids, {}), read)
        self.group = Group(tuple(members[id] for id in self.ids))

    def _deal_shares(self) -> None:
        """Stage 2: each client sends encrypted shares of its secrets for all others."""
        size = len(self.group.members)

        def read(node: Node, answer: ConfigRecord) -> Dealt:
            length = SHARE_BYTES * (node.capacity + 2)  # a private key, and a seed for each block
            return Dealt(
                bytes_list(answer, ENCRYPTED_SHARES, size),
                bytes_list(answer, SHARE_DIGESTS, size, length),
                _bytes(answer, SECRET_DIGESTS, length),
            )

        contents = dict.fromkeys(self.ids, self.group.to_config())
        self.dealt = self._keep(SHARES_STAGE, contents, read)

    def _disputes(self) -> set[tuple[int, int]]:
        """Stage 3: each client checks its shares; return (client, sender of a wrong share)."""
        contents = {}
        for place, id in enumerate(self.group.by_id):
            dealt = [self.dealt.get(sender) for sender in self.group.by_id]
            contents[id] = {
                ENCRYPTED_SHARES: [each.encrypted[place] if each else b"" for each in dealt],
                SHARE_DIGESTS: [each.digests[place] if each else b"" for each in dealt],
            }

        def read(node: Node, answer: ConfigRecord) -> list[int]:
            refused = answer.get(REFUSED)
            senders = refused if isinstance(refused, list) else [None]
            ids = [sender for sender in senders if isinstance(sender, int)]
            if ids != senders:
                raise BadReplyError(f"{REFUSED}: found {refused!r}, wanted a list of node ids")
            return ids

        refused = self._keep(CHECK_STAGE, {id: contents[id] for id in self.ids}, read)
        return {(id, sender) for id, senders in refused.items() for sender in senders}

    def _settle(self, disputes: set[tuple[int, int]]) -> None:
        """Leave out clients until no two of the others are in a dispute about a share.

        The first is the one in most disputes; of equals it is the sender.
        """
        while open := {pair for pair in disputes if self.nodes.keys() >= set(pair)}:
            senders = {sender for _, sender in open}
            count = Counter(id for pair in open for id in pair)
            worst = max(count, key=lambda id: (count[id], id in senders, id))
            others = {id for pair in open if worst in pair for id in pair} - {worst}
            names = ", ".join(sorted(self.nodes[id].name for id in others))
            self.leave_out(worst, CHECK_STAGE, f"found wrong shares between it and {names}")

    def leave_out(self, id: int, stage: str, reason: str) -> None:
        """Remove a client from the round, and name it."""
        self.report.leave_out(self.nodes.pop(id).name, f"{stage}: {reason}")

    def _are_enough(self, wanted: int) -> bool:
        """Return whether enough clients are left; if not, leave out all."""
        found = len(self.nodes)
        if found < wanted:
            for id in self.ids:
                reason = f"found {found} clients, wanted {wanted}"
                self.leave_out(id, "secure aggregation", reason)
        return found >= wanted

    def _keep(
        self,
        stage: str,
        contents: Mapping[int, Mapping[str, Any]],
        read: Callable[[Node, ConfigRecord], Answer],
    ) -> dict[int, Answer]:
        """Return the answers to a stage's queries, and leave out the clients without a good one."""
        answers, failures = self.ask(stage, contents, read, wanted=len(contents))
        for id, reason in failures.items():
            self.leave_out(id, stage, reason)
        return answers

    def ask(
        self,
        stage: str,
        contents: Mapping[int, Mapping[str, Any]],
        read: Callable[[Node, ConfigRecord], Answer],
        wanted: int,
    ) -> tuple[dict[int, Answer], dict[int, str]]:
        """Query clients, each with a content of its own, until ``wanted`` have answered.

        Returns
        -------
        answers : dict of int to Answer
            What ``read`` makes of each answer, by the client's id.
        failures : dict of int to str
            Why others have none. Where enough have, it names only those whose answer was bad.
        """
        messages = {
            self.nodes[id]: Message(
                RecordDict({CONFIG: ConfigRecord({SERVER_ROUND: self.server_round, **content})}),
                dst_node_id=id,
                message_type=f"query.{stage}",
            )
            for id, content in contents.items()
        }
        self.report.bytes_down += sum(map(_size, messages.values()))
        cohort = Cohort(messages, wanted)
        answers: dict[int, Answer] = {}
        failures: dict[int, str] = {}
        timeout = min(self.timeout, STAGE_SECONDS)
        for reply in exchange(self.grid, messages.values(), timeout, Traffic()):
            node = cohort.sender(reply)
            self.report.bytes_up += _size(reply)
            try:
                answers[node.id] = read(node, _content(reply))
            except BadReplyError as error:
                failures[node.id] = str(error)
            if len(answers) == wanted:
                break
        if len(answers) < wanted:
            missing = contents.keys() - answers.keys() - failures.keys()
            failures |= dict.fromkeys(missing, f"no answer within {timeout:.0f} s")
        return answers, failures


def _content(reply: Message) -> ConfigRecord:
    """Return the record of an answer."""
    if reply.has_error():
        raise BadReplyError(error_reason(reply))
    return reply.content.config_records.get(CONFIG, ConfigRecord())


def _size(message: Message) -> int:
    """Return the bytes of a stage's message; 0 for an error."""
    if message.has_error():
        return 0
    return int(recorddict_to_proto(message.content).ByteSize())


def _key(answer: ConfigRecord, name: str) -> bytes:
    """Return a public key with which others can agree on a secret."""
    value = _bytes(answer, name, keys.KEY_BYTES)
    try:
        keys.agree(new_secret(), value)
    except ValueError:
        raise BadReplyError(f"{name}: found {value.hex()}, wanted an X25519 key") from None
    return value


def _bytes(answer: ConfigRecord, name: str, length: int) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes) or len(value) != length:
        raise BadReplyError(f"{name}: found {_shown(value)}, wanted {length} bytes")
    return value


def bytes_list(
    answer: ConfigRecord, name: str, size: int, length: int | None = None
) -> list[bytes]:
    """Return a list of ``size`` bytes objects, each of ``length`` if it is given.

    Raises
    ------
    BadReplyError
        If the answer has none of that name.
    """
    value = answer.get(name)
    if not isinstance(value, list) or len(value) != size:
        raise BadReplyError(f"{name}: found {_shown(value)}, wanted a list of {size}")
    items = []
    for item in value:
        if not isinstance(item, bytes) or length not in (None, len(item)):
            raise BadReplyError(f"{name}: found {_shown(item)}, wanted {length} bytes")
        items.append(item)
    return items


def _shown(value: object) -> str:
    return (
        f"{type(value).__name__} of {len(value)}"
        if isinstance(value, bytes | list)
        else repr(value)
    )
