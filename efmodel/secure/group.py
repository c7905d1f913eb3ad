"""The clients of a round that share keys: who holds which block, and which masks they use."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from typing import Any

from efmodel.protocol import GROUP_CAPACITIES, GROUP_IDS, GROUP_MASK_KEYS, GROUP_SHARE_KEYS
from efmodel.secure.keys import agree, derive
from efmodel.secure.masks import Mask


@dataclass(frozen=True)
class Member:
    """One client of the group.

    Attributes
    ----------
    id : int
        Flower's id of its node.
    capacity : int
        It holds the blocks 0..capacity.
    mask_key, share_key : bytes
        Its public keys of this round, for masks and for shares.
    """

    id: int
    capacity: int
    mask_key: bytes
    share_key: bytes


@dataclass(frozen=True)
class Group:
    """The clients that share keys in a round, in the order of their ids."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Group":
        """Read the group from a message."""
        keys = (GROUP_IDS, GROUP_CAPACITIES, GROUP_MASK_KEYS, GROUP_SHARE_KEYS)
        columns = zip(*(config[key] for key in keys), strict=True)
        return cls(tuple(Member(*values) for values in columns))

    def to_config(self) -> dict[str, list[int] | list[bytes]]:
        """Return the group as a message carries it."""
        return {
            GROUP_IDS: [member.id for member in self.members],
            GROUP_CAPACITIES: [member.capacity for member in self.members],
            GROUP_MASK_KEYS: [member.mask_key for member in self.members],
            GROUP_SHARE_KEYS: [member.share_key for member in self.members],
        }

    @cached_property
    def by_id(self) -> dict[int, Member]:
        """The members by id."""
        return {member.id: member for member in self.members}

    @cached_property
    def points(self) -> dict[int, int]:
        """The point, from 1, at which each member holds its shares."""
        return {member.id: point for point, member in enumerate(self.members, start=1)}

    @property
    def threshold(self) -> int:
        """Shares that give a secret: more than half, so that no two disjoint sets can each do it.

        The server learns for each client either one of its masks or the other, never both.
        """
        return len(self.members) // 2 + 1

    def holders(self, block: int, ids: Iterable[int]) -> list[int]:
        """Return those of the members that hold a block."""
        return [id for id in ids if self.by_id[id].capacity >= block]

    def open_blocks(self, ids: Sequence[int], min_trainers: int) -> list[int]:
        """Return the blocks that at least ``min_trainers`` of the members hold: 0..e."""
        return list(takewhile(lambda block: len(self.holders(block, ids)) >= min_trainers, count()))

    def secrets(self, private: bytes, others: Iterable[int]) -> dict[int, bytes]:
        """Return what the client with that private key agrees on with each of the others."""
        return {id: agree(private, self.by_id[id].mask_key) for id in others}

    def pair_masks(
        self, id: int, secrets: Mapping[int, bytes], server_round: int, block: int
    ) -> list[Mask]:
        """Return the masks that a client adds to a block: one for each other client that holds it.

        What one of the two adds the other subtracts: in the sum of both, they are gone.

        Parameters
        ----------
        id : int
            The client.
        secrets : Mapping[int, bytes]
            Its secret with each other client that trains, see ``secrets``.
        server_round, block : int
            Where the masks are used.
        """
        return [
            Mask(derive(secrets[other], f"mask {server_round} {block}"), adds=id < other)
            for other in self.holders(block, secrets)
        ]


def self_mask(seed: bytes, server_round: int, block: int, adds: bool) -> Mask:
    """Return the mask that only one client knows, until others have given its seed away.

    It protects a client whose reply comes late, when its private key is known already.
    """
    return Mask(derive(seed, f"self {server_round} {block}"), adds)


def transport_key(private: bytes, public: bytes, server_round: int, sender: int, to: int) -> bytes:
    """Return the key, as Flower's ``encrypt`` wants it, of the shares from one client to another.

    Raises
    ------
    ValueError
        If ``public`` is no usable key.
    """
    key = derive(agree(private, public), f"shares {server_round} {sender} {to}")
    return base64.urlsafe_b64encode(key)
