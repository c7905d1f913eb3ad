"""Shamir's secret sharing: any ``threshold`` shares give the secret, fewer say nothing of it.

Shamir, "How to share a secret" (1979), over the integers modulo 2^255 - 19. A secret is a field
element in 32 bytes, which may serve as an X25519 private key. Flower's ``create_shares`` works in
GF(2^128), one bit at a time in Python: it takes 1.0 s to combine one key of 128 clients, and a
round has hundreds of secrets to combine.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**255 - 19
SHARE_BYTES = 32  # of a secret, and of a share of it


def new_secret() -> bytes:
    """Return a random secret."""
    return _bytes(secrets.randbelow(PRIME))


def split(secret: bytes, threshold: int, points: Sequence[int]) -> list[bytes]:
    """Return the share at each point, a whole number from 1."""
    coefficients = [_number(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_bytes(_value(coefficients, point)) for point in points]


def _value(coefficients: Sequence[int], point: int) -> int:
    """Return a polynomial's value, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def lagrange(points: Sequence[int]) -> dict[int, int]:
    """Return the factor of the share at each point when a secret is combined from these points."""
    factors = {}
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        factors[point] = above * pow(below, -1, PRIME) % PRIME
    return factors


def combine(shares: Mapping[int, bytes], factors: Mapping[int, int]) -> bytes:
    """Return the secret, given the share at each point and what ``lagrange`` gives for them."""
    return _bytes(sum(factors[point] * _number(share) for point, share in shares.items()) % PRIME)


def digests(bundle: bytes) -> bytes:
    """Return the SHA-256 of each share, or secret, of a bundle, one after another.

    Who holds it can tell later whether a share is the one that was dealt.
    """
    return b"".join(hashlib.sha256(share).digest() for share in unpack(bundle))


def unpack(bundle: bytes) -> list[bytes]:
    """Return the shares of a bundle, in which they stand one after another."""
    starts = range(0, len(bundle), SHARE_BYTES)
    return [bundle[start : start + SHARE_BYTES] for start in starts]


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _bytes(number: int) -> bytes:
    return number.to_bytes(SHARE_BYTES, "little")
