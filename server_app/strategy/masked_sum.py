"""The sum of masked tensors, and how it is unmasked when the last one has come."""

from collections.abc import Mapping
from logging import INFO

import numpy as np
from flwr.app import ConfigRecord
from flwr.common import NDArray, log

from efmodel.protocol import BLOCK_WEIGHT, SHARES, SURVIVORS, UNMASK_STAGE
from efmodel.secure import shares
from efmodel.secure.group import self_mask
from efmodel.secure.masks import apply
from efmodel.secure.quantise import Quantiser
from server_app.strategy.key_exchange import KeyExchange, bytes_list
from server_app.strategy.node import Node
from server_app.strategy.partial_mean import PartialMean
from server_app.strategy.reply import BadReplyError, ClientUpdate


class UnmaskError(ValueError):
    """The sum of a round stays masked."""


class MaskedSum:
    """Adds masked tensors modulo 2^32, in place of ``fold.Fold``; nothing else of a reply is kept.

    Parameters
    ----------
    exchange : KeyExchange
        The round, after its clients agreed on keys.
    quantiser : Quantiser
        Of the clients in the round.
    tensors : Mapping[int, list of str]
        The names of each block's tensors that were asked for, its weight first.
    mean : PartialMean
        Takes the unmasked sums.
    dishonest : set of int
        Takes the ids of clients that dealt shares of nothing.
    """

    def __init__(
        self,
        exchange: KeyExchange,
        quantiser: Quantiser,
        tensors: Mapping[int, list[str]],
        mean: PartialMean,
        dishonest: set[int],
    ) -> None:
        self._exchange, self._group = exchange, exchange.group
        self._quantiser = quantiser
        self._tensors = tensors
        self._mean = mean
        self._dishonest = dishonest
        self._sums: dict[str, NDArray] = {}  # uint32
        self._weights: dict[int, int] = {}  # the quantised weight of each client that was added

    def add(self, update: ClientUpdate) -> None:
        """Add a client's masked tensors to the sums.

        Raises
        ------
        BadReplyError
            If the client did not agree on keys, or a tensor is missing.
        """
        if update.sender not in self._exchange.nodes:
            raise BadReplyError("found a reply of a client without keys in this round")
        capacity = self._exchange.nodes[update.sender].capacity
        wanted = {
            name for block in self._tensors if block <= capacity for name in self._tensors[block]
        }
        if missing := wanted - update.arrays.keys():
            raise BadReplyError(f"{min(missing)}: found no such tensor, wanted it masked")
        for name, array in update.arrays.items():
            if name not in self._sums:
                self._sums[name] = np.zeros(array.shape, np.uint32)
            total = self._sums[name]
            np.add(total, array, out=total)
        self._weights[update.sender] = self._quantiser.weight(update.weight)

    def result(self) -> PartialMean:
        """Return the mean of all clients; of no tensor if their sum cannot be unmasked."""
        survivors, report = sorted(self._weights), self._exchange.report
        try:
            blocks = self._blocks(survivors)
            secrets = self._secrets(survivors, blocks)
            lost = secrets.keys() - set(survivors)
            agreed = {id: self._group.secrets(secrets[id][0], survivors) for id in lost}
            for block in blocks:
                trainers, missing = (self._group.holders(block, ids) for ids in (survivors, lost))
                seeds = {id: secrets[id][block] for id in trainers}
                self._unmask(block, seeds, {id: agreed[id] for id in missing})
        except UnmaskError as error:
            report.reject_all(f"{UNMASK_STAGE}: {error}")
            return PartialMean(self._mean.coverage)
        self._mean.total = self._quantiser.real(sum(self._weights.values()))
        self._mean.clients = len(survivors)
        return self._mean

    def _blocks(self, survivors: list[int]) -> list[int]:
        """Return the blocks that enough survivors hold; log those that keep their values."""
        if len(survivors) < self._group.threshold:
            wanted = f"wanted at least {self._group.threshold} of {len(self._group.members)}"
            raise UnmaskError(f"found {len(survivors)} clients left, {wanted}")
        blocks = self._group.open_blocks(survivors, self._exchange.min_trainers)
        if not blocks:
            wanted = f"wanted secagg-min-trainers = {self._exchange.min_trainers}"
            raise UnmaskError(f"found {len(survivors)} clients left, {wanted}")
        if kept := self._tensors.keys() - set(blocks):
            log(INFO, "round %d: after lost clients, exits from %d keep their values: fewer than "
                "%d clients trained them", self._exchange.server_round, min(kept),
                self._exchange.min_trainers)  # fmt: skip
        return blocks

    def _secrets(self, survivors: list[int], blocks: list[int]) -> dict[int, list[bytes]]:
        """Return the secrets that unmask the sum, by client: of what ``_parts`` says."""
        parts = self._parts(survivors, blocks)
        answers = self._shares(survivors, parts)
        points = {id: self._group.points[id] for id in answers}
        factors = shares.lagrange(list(points.values()))
        secrets = {}
        for dealer, part in parts.items():
            columns = zip(*(answers[id][dealer] for id in answers), strict=True)
            secrets[dealer] = [
                shares.combine(dict(zip(points.values(), column, strict=True)), factors)
                for column in columns
            ]
            digests = self._exchange.dealt[dealer].secret_digests
            if not _are_dealt(secrets[dealer], digests, part):
                self._dishonest.add(dealer)
                name = self._exchange.nodes[dealer].name
                raise UnmaskError(f"found shares of {name} that are no shares of its secrets")
        return secrets

    def _parts(self, survivors: list[int], blocks: list[int]) -> dict[int, slice]:
        """Return the part of each client's bundle of secrets that is needed.

        Of a survivor these are the seeds of its own masks of the blocks, of a client that was lost
        its private key. Never both.
        """
        parts = dict.fromkeys(self._exchange.ids, slice(0, 1))
        for id in survivors:
            held = [block for block in blocks if block <= self._group.by_id[id].capacity]
            parts[id] = slice(1, 1 + len(held))
        return parts

    def _shares(
        self, survivors: list[int], parts: Mapping[int, slice]
    ) -> dict[int, dict[int, list[bytes]]]:
        """Ask survivors for their shares, until enough have answered; by holder and dealer."""

        def read(node: Node, answer: ConfigRecord) -> dict[int, list[bytes]]:
            bundles = bytes_list(answer, SHARES, len(self._group.members))
            held = {}
            for dealer, part in parts.items():
                held[dealer] = shares.unpack(bundles[self._group.points[dealer] - 1])
                digests = self._exchange.dealt[dealer].digests[self._group.points[node.id] - 1]
                if not _are_dealt(held[dealer], digests, part):
                    name = self._exchange.nodes[dealer].name
                    raise BadReplyError(f"found a wrong share of a secret of {name}")
            return held

        contents = {id: {SURVIVORS: survivors} for id in survivors}
        threshold = self._group.threshold
        answers, failures = self._exchange.ask(UNMASK_STAGE, contents, read, wanted=threshold)
        for id, reason in failures.items():
            name = self._exchange.nodes[id].name
            self._exchange.report.leave_out(name, f"{UNMASK_STAGE}: {reason}")
        if len(answers) < threshold:
            raise UnmaskError(f"found shares of {len(answers)} clients, wanted {threshold}")
        return answers

    def _unmask(
        self, block: int, seeds: Mapping[int, bytes], agreed: Mapping[int, Mapping[int, bytes]]
    ) -> None:
        """Unmask a block's sum, and hand it to the mean.

        Parameters
        ----------
        block : int
            The owner exit.
        seeds : Mapping[int, bytes]
            Of the survivors' own masks of the block.
        agreed : Mapping[int, Mapping[int, bytes]]
            What each client that was lost, and held the block, agreed on with each survivor.
        """
        server_round, group = self._exchange.server_round, self._group
        masks = [self_mask(seed, server_round, block, adds=False) for seed in seeds.values()]
        for id, secrets in agreed.items():
            # What a lost client would have added completes the survivors' masks to zero.
            masks += group.pair_masks(id, secrets, server_round, block)
        names = self._tensors[block]
        apply(masks, [self._sums[name] for name in names])
        weights = sum(self._weights[id] for id in seeds)
        found = int(self._sums[f"{BLOCK_WEIGHT}{block}"][0])
        if found != weights:
            raise UnmaskError(
                f"found weights of {found} in the sum of exit {block}, wanted {weights} as the "
                "metrics say: a client masked its tensors wrongly, or weighed them differently"
            )
        changes = {
            name: self._quantiser.mean(self._sums.pop(name), weights)
            for name in names
            if name != f"{BLOCK_WEIGHT}{block}"
        }
        self._mean.add_mean(changes, self._quantiser.real(weights), len(seeds))


def _are_dealt(found: list[bytes], digests: bytes, part: slice) -> bool:
    """Return whether shares, or secrets, are that part of a bundle with these digests."""
    return shares.digests(b"".join(found)) == b"".join(shares.unpack(digests)[part])
