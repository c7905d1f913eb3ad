"""What a round's training requests carry: the tensors that a client's capacity needs."""

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common import NDArray

from efmodel import wire
from efmodel.protocol import CAPACITY, FROZEN_SET, SECOND_MOMENTS, SERVER_ROUND, WIRE_DTYPE
from server_app.strategy.arrays import packed
from server_app.strategy.cohort import FrozenTensors
from server_app.strategy.node import Node


class Requests:
    """Makes the requests of each round.

    Parameters
    ----------
    owner_exits : Mapping[str, int]
        ``{tensor name: shallowest exit that needs it}``.
    wire_dtype : str
        How tensors travel, see ``efmodel.wire``.
    frozen : FrozenTensors
        The tensors that nobody trains.
    keys : tuple of str
        Names of a request's tensors and of its configuration.
    """

    def __init__(
        self,
        owner_exits: Mapping[str, int],
        wire_dtype: str,
        frozen: FrozenTensors,
        keys: tuple[str, str],
    ) -> None:
        self.owner_exits = owner_exits
        self.wire_dtype = wire_dtype
        self.frozen = frozen
        self.keys = keys
        self.config = ConfigRecord()
        self.sent = ArrayRecord()  # this round's model in the type that is sent
        # Second moments of the clients' optimizers, by tensor; None if they keep none.
        self.second_moments: Mapping[str, NDArray] | None = None

    def start_round(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord) -> None:
        """Take this round's model, and the configuration that all of its requests carry."""
        self.config = ConfigRecord({**config, SERVER_ROUND: server_round})
        self.sent = wire.for_sending(arrays, self.wire_dtype)

    def tensors(self, capacity: int, leaving_out: frozenset[str]) -> ArrayRecord:
        """Return the tensors of the model of a client of that capacity, as they are sent."""
        return ArrayRecord(
            {
                name: array
                for name, array in self.sent.items()
                if self.owner_exits[name] <= capacity and name not in leaving_out
            }
        )

    def trained(self, capacity: int) -> ArrayRecord:
        """Return the tensors that a client of that capacity trains and returns."""
        return self.tensors(capacity, leaving_out=self.frozen.names)

    def messages(
        self, nodes: Iterable[Node], passed_on: ArrayRecord | None = None
    ) -> dict[Node, Message]:
        """Return the message for each node; equal requests share their content.

        Parameters
        ----------
        nodes : Iterable[Node]
            Whom to ask.
        passed_on : ArrayRecord, optional
            Tensors that take the place of the round's, see ``relay``.
        """
        kinds = {node: (node.capacity, self.frozen.held_by(node)) for node in nodes}
        contents = {kind: self.content(*kind) for kind in kinds.values()}
        newer = wire.for_sending(passed_on or ArrayRecord(), self.wire_dtype)
        for content in contents.values():
            arrays = content.array_records[self.keys[0]]
            arrays.update({name: array for name, array in newer.items() if name in arrays})
        return {
            node: Message(contents[kind], dst_node_id=node.id, message_type=MessageType.TRAIN)
            for node, kind in kinds.items()
        }

    def content(self, capacity: int, holds_frozen: bool) -> RecordDict:
        """Return the request for clients of a capacity that hold the frozen tensors, or do not."""
        config = ConfigRecord({**self.config, CAPACITY: capacity})
        if self.wire_dtype != "float32":
            config[WIRE_DTYPE] = self.wire_dtype
        if self.frozen.names:
            config[FROZEN_SET] = self.frozen.key(self.sent, capacity)
        left_out = self.frozen.names if holds_frozen else frozenset()
        arrays_key, config_key = self.keys
        content = RecordDict({arrays_key: self.tensors(capacity, left_out), config_key: config})
        if self.second_moments is not None:
            content[SECOND_MOMENTS] = ArrayRecord(
                {
                    name: packed(self.second_moments[name])
                    for name in self.trained(capacity)
                    if name in self.second_moments
                }
            )
        return content
