"""Masks: AES in counter mode, added modulo 2^32."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from efmodel.secure.masks import PIECE, Mask, apply

KEY = bytes(range(32))


def keystream(values: int) -> np.ndarray:
    """Return the keystream by its definition (NIST SP 800-38A): counters, encrypted one by one."""
    counters = b"".join(count.to_bytes(16, "big") for count in range(-(-values // 4)))
    encrypted = Cipher(AES(KEY[:16]), ECB()).encryptor().update(counters)
    return np.frombuffer(encrypted, "<u4")[:values]


def test_vectors_are_masked_as_if_they_were_one():
    sizes = (1, PIECE + 3, 2 * PIECE, 5)
    vectors = [np.full(size, 7, np.uint32) for size in sizes]
    apply([Mask(KEY, adds=True)], vectors)
    wanted = keystream(sum(sizes)) + np.uint32(7)
    np.testing.assert_array_equal(np.concatenate(vectors), wanted)


def test_what_one_adds_the_other_subtracts():
    values = np.arange(12, dtype=np.uint32).reshape(3, 4)
    masked = values.copy()
    apply([Mask(KEY, adds=True), Mask(KEY[::-1], adds=False)], [masked])
    assert not np.array_equal(masked, values)
    apply([Mask(KEY, adds=False), Mask(KEY[::-1], adds=True)], [masked])
    np.testing.assert_array_equal(masked, values)
