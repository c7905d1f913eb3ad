"""Relay: the clients of a round train in chains, each from the model that the one before it sent.

It is FedSeq (Zaccone et al., "Speeding up Heterogeneous Federated Learning with Sequentially
Trained Superclients", ICPR 2022, arXiv 2201.10899) for models that are cut. Where FedSeq puts
clients of unlike data into a chain, here it is clients of unlike capacity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.common import NDArray

from server_app.strategy.arrays import packed, tensor
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.reply import BadReplyError, ClientUpdate
from server_app.strategy.requests import Requests
from server_app.strategy.running_sums import NotFiniteError, largest


@dataclass
class Chain:
    """Clients that train one after the other, and the model that they pass on.

    Attributes
    ----------
    nodes : list of Node
        In the order in which they train.
    arrays : dict of str to NDArray
        The tensors that were trained so far, each as its last trainer sent it. All others are the
        round's.
    weights : dict of str to float
        The summed weights of each tensor's trainers.
    """

    nodes: list[Node]
    arrays: dict[str, NDArray] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


def chains(nodes: Iterable[Node], length: int) -> list[Chain]:
    """Deal the nodes into chains of at most ``length``, so that each chain has weak and strong.

    A chain goes from shallow to deep: its last client trains whatever the others trained, so that
    all layers of the chain's model were trained together.
    """
    deep_first = sorted(nodes, key=lambda node: -node.capacity)
    count = -(-len(deep_first) // length)
    return [Chain(deep_first[place::count][::-1]) for place in range(count)]


class Relay:
    """The chains of one round: whom to ask next, and the mean of what the chains ended with.

    A chain counts as one client. With theta_j^c as its last trainer sent tensor j, and W_j^c the
    summed weights of its trainers in chain c::

        theta_j <- sum_c W_j^c theta_j^c / sum_c W_j^c                                    (5)

    over the chains in which j had trainers. Coverage and shrinkage of ``PartialMean`` apply. Each
    chain's model is in memory until the round ends.

    Parameters
    ----------
    nodes : Iterable[Node]
        The cohort.
    length : int
        The most clients in a chain.
    current : Mapping[str, NDArray]
        The round's model.
    mean : PartialMean
        The empty mean over chains.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        length: int,
        current: Mapping[str, NDArray],
        mean: PartialMean,
    ) -> None:
        self.chains = chains(nodes, length)
        self._current = current
        self._mean = mean
        self._chain = {node.id: chain for chain in self.chains for node in chain.nodes}
        self._step = 0
        self._weight = 0.0  # of all clients

    def next_messages(self, requests: Requests) -> dict[Node, Message]:
        """Return the messages to the next client of each chain; none after the last step."""
        messages: dict[Node, Message] = {}
        for chain in self.chains:
            for node in chain.nodes[self._step : self._step + 1]:
                passed_on = {name: packed(values) for name, values in chain.arrays.items()}
                messages |= requests.messages([node], ArrayRecord(passed_on))
        self._step += 1
        return messages

    def add(self, update: ClientUpdate) -> None:
        """Put a client's tensors in the place of those that its chain had.

        Raises
        ------
        BadReplyError
            Naming a tensor with nan, inf or values too large to sum; then the chain stays as it is.
        """
        chain = self._chain[update.sender]
        arrays = {name: self._value(chain, update, name) for name in update.arrays}
        weights = {name: chain.weights.get(name, 0.0) + update.weight for name in arrays}
        try:
            for name, values in arrays.items():
                largest(name, tensor(values), weights[name])
        except NotFiniteError as error:
            raise BadReplyError(str(error)) from None
        chain.arrays |= arrays
        chain.weights |= weights
        self._weight += update.weight

    def _value(self, chain: Chain, update: ClientUpdate, name: str) -> NDArray:
        """Return the tensor that a client sent; where it sent a change, what that makes of it."""
        sent = update.arrays[name]
        if update.scales is None or name not in update.scales:
            return sent
        start = chain.arrays.get(name, self._current[name])
        change = np.multiply(sent, update.scales[name], dtype=np.float32)
        return np.asarray(start + change, dtype=start.dtype)

    def result(self) -> PartialMean:
        """Return the mean over the chains, (5).

        Raises
        ------
        RuntimeError
            If ``next_messages`` was not called until the chains' ends.
        """
        if any(len(chain.nodes) > self._step for chain in self.chains):
            raise RuntimeError("relay: found clients that were not asked, wanted a run's rounds")
        for chain in self.chains:
            for weight in set(chain.weights.values()):  # one for each exit
                names = [name for name, its in chain.weights.items() if its == weight]
                self._mean.add({name: chain.arrays[name] for name in names}, weight)
        self._mean.total = self._weight
        self._mean.clients = sum(bool(chain.weights) for chain in self.chains)
        return self._mean
