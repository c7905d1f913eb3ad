"""The interface of a strategy in a run: Flower's, and what rounds and checkpoints need besides."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.common import NDArray
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from server_app.strategy.cohort import Nodes
from server_app.strategy.node import Node
from server_app.strategy.round_report import RoundReport

if TYPE_CHECKING:  # both need torch and transformers, which take seconds to import
    from efmodel.config import EarlyExitConfig
    from efmodel.model.early_exit import EarlyExitForCTC


class RunStrategy(Strategy):
    """Base of every strategy that a run can use. ``registry.build`` returns nothing else.

    Subclass ``PartialFedAvg`` to write a partial strategy; ``WholeModel`` adapts Flower's own.

    Attributes
    ----------
    nodes : Nodes
        The nodes that the server has queried.
    report : RoundReport
        What happened in the last round; complete when ``aggregate_train`` returns.
    moments : dict[str, dict[str, NDArray]]
        What a server optimizer remembers: ``{kind: {tensor name: values}}``. Checkpoints keep it.
    """

    nodes: Nodes
    report: RoundReport
    moments: dict[str, dict[str, NDArray]]

    def check_nodes(self, grid: Grid, request: ConfigRecord) -> None:
        """Check before the first round that the nodes can do what this strategy asks of them.

        By default every node can.

        Parameters
        ----------
        grid : Grid
            Where the nodes are connected.
        request : ConfigRecord
            The model description that a query carries.

        Raises
        ------
        SettingsError
            If a node cannot.
        """

    def asked(self, messages: list[Message]) -> None:
        """Note the messages that a round really sends, before the first one is sent.

        The ``configure_train`` of a subclass may leave out or replace some of its parent's. By
        default there is nothing to note.
        """

    def next_messages(self) -> list[Message]:
        """Return the messages that follow in the round, once the replies to the last ones are in.

        They are asked for until there are none. ``aggregate_train`` reads the replies to all of
        them as one stream. By default none follow.
        """
        return []

    def restore(self, moments: Mapping[str, Mapping[str, NDArray]], nodes: Iterable[Node]) -> None:
        """Continue from a checkpoint, as if the run had never stopped."""
        self.moments = {kind: dict(tensors) for kind, tensors in moments.items()}
        self.nodes.met = {node.id: node for node in nodes}

    def moment(self, kind: str, name: str, like: NDArray) -> NDArray:
        """Return a tensor's moment of a kind; zeros before its first step."""
        moments = self.moments.setdefault(kind, {})
        return moments[name] if name in moments else np.zeros_like(like)

    def result(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return the model to evaluate and save; training goes on from ``arrays``.

        It is called when a round has ended. By default it is the same model.
        """
        return arrays

    def models_to_score(self, model: "EarlyExitForCTC") -> "list[EarlyExitForCTC]":
        """Return the models that the server evaluates, each at all of its exits.

        It is called in another thread, while the next round trains.

        Parameters
        ----------
        model : EarlyExitForCTC
            The whole model, with this round's weights.
        """
        return [model]

    def client_models(self, config: "EarlyExitConfig") -> "list[EarlyExitConfig]":
        """Return the model that a client of each capacity trains, shallow to deep.

        Empty, the default, where a client trains the whole model cut at its exit.
        """
        return []
