"""One message's task: the run config, the request, and the node that they are for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from flwr.app import ConfigRecord, Context, Message

from efmodel.protocol import CAPACITY, CONFIG, MODEL_CONFIG, SERVER_ROUND
from efmodel.settings import Settings

# Keys of the run config that a node's own config may set for this node.
NODE_KEYS = ("audio-mb", "memory-mb", "seconds-per-audio-second")


@dataclass(frozen=True)
class Task:
    """What a query or a training message asks of this node.

    Attributes
    ----------
    node_id : int
        Flower's id of this node.
    node_config : Mapping
        What the node is started with (``--node-config``); in a simulation ``partition-id`` and
        ``num-partitions``.
    settings : Settings
        The run config, with the node config's values for ``NODE_KEYS``.
    request : ConfigRecord
        The message's configuration; see :mod:`efmodel.protocol`.
    """

    node_id: int
    node_config: Mapping[str, Any]
    settings: Settings
    request: ConfigRecord

    @classmethod
    def of(cls, message: Message, context: Context) -> "Task":
        """Read a message and its context.

        Raises
        ------
        SettingsError
            If a key of the run config or of the node config has a wrong value.
        """
        node = context.node_config
        run_config = {**context.run_config, **{key: node[key] for key in NODE_KEYS if key in node}}
        settings = Settings.from_run_config(run_config)
        return cls(context.node_id, node, settings, message.content.config_records[CONFIG])

    @property
    def model_config(self) -> str:
        """The whole model's configuration, as JSON."""
        return str(self.request[MODEL_CONFIG])

    @cached_property
    def model_sizes(self) -> dict[str, Any]:
        """The whole model's configuration as plain values: no import of transformers."""
        sizes: dict[str, Any] = json.loads(self.model_config)
        return sizes

    @property
    def num_exits(self) -> int:
        """Exits of the whole model."""
        return len(self.model_sizes["exit_layers"])

    @property
    def requested_capacity(self) -> int:
        """The exit to train up to; a strategy that is not partial names none and sends all."""
        return cast(int, self.request.get(CAPACITY, self.num_exits))

    @property
    def server_round(self) -> int:
        """The number of the round, from 1."""
        return cast(int, self.request[SERVER_ROUND])

    @property
    def partition(self) -> tuple[int, int] | None:
        """The simulated node's number, from 0, and how many there are; None for a device."""
        if "partition-id" not in self.node_config:
            return None
        return int(self.node_config["partition-id"]), int(self.node_config["num-partitions"])

    @property
    def node_name(self) -> str:
        """The node's name in every run: its partition, its own name, or Flower's id."""
        own_name = self.node_config.get("name", self.node_id)
        return str(self.node_config.get("partition-id", own_name))
