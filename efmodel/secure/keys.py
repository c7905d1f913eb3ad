"""Key agreement: X25519 key pairs, and the keys that two clients derive from them."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_BYTES = 32  # of private, public and derived keys


def public_key(private: bytes) -> bytes:
    """Return the public key of a private key."""
    key = X25519PrivateKey.from_private_bytes(private).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(private: bytes, public: bytes) -> bytes:
    """Return the secret that only the owners of the two key pairs can compute.

    Raises
    ------
    ValueError
        If ``public`` is no X25519 key, or one with which every agreement gives zero.
    """
    other = X25519PublicKey.from_public_bytes(public)
    return X25519PrivateKey.from_private_bytes(private).exchange(other)


def derive(secret: bytes, purpose: str) -> bytes:
    """Return the key for a purpose that is derived from a secret (HKDF with SHA-256)."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"ef-asr {purpose}".encode()).derive(secret)
