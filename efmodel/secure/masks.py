"""Masks: keystreams of AES-128 in counter mode, added to vectors modulo 2^32.

Whole numbers of 32 bits that a uniform mask was added to are uniform themselves: they say nothing
of the values below. (Flower's ``pseudo_rand_gen`` is no choice: it has a seed of 32 bits.)
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from flwr.common import NDArray

AES_BYTES = 16  # of a key, and of a block of the cipher
# Values of a vector that get all their masks before the next ones: 256 kB, so that they stay in the
# cache while the keystreams pass.
PIECE = 1 << 16
ZEROS = memoryview(bytes(4 * PIECE))


class Mask(NamedTuple):
    """A keystream to be added to a vector, or subtracted from it."""

    key: bytes  # used for one block in one round only
    adds: bool


def apply(masks: Sequence[Mask], vectors: Iterable[NDArray]) -> None:
    """Add and subtract all masks, in place.

    The vectors are masked as if they were one: the keystreams go on from each to the next.

    Parameters
    ----------
    masks : sequence of Mask
        The masks.
    vectors : iterable of NDArray
        uint32, each contiguous and of any shape.
    """
    streams = [(_keystream(mask.key), np.add if mask.adds else np.subtract) for mask in masks]
    scratch = np.empty(PIECE + AES_BYTES, "<u4")  # `update_into` may want room for one block more
    for vector in vectors:
        values = vector.reshape(-1)
        for start in range(0, values.size, PIECE):
            piece = values[start : start + PIECE]
            for stream, operation in streams:
                stream.update_into(ZEROS[: piece.nbytes], scratch.view(np.uint8).data)
                operation(piece, scratch[: piece.size], out=piece)


def _keystream(key: bytes) -> CipherContext:
    # The counter may start at zero: no key serves twice.
    return Cipher(AES(key[:AES_BYTES]), CTR(bytes(AES_BYTES))).encryptor()
