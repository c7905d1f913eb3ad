"""Keys: certificate authority, SuperLink certificate, and a key pair for each device."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from efmodel.errors import UserError

CA_DAYS, SERVER_DAYS = 3650, 365  # validity of the certificates

Key = ec.EllipticCurvePrivateKey


class KeysError(UserError):
    """A device name that cannot be used."""


def make_keys(
    folder: Path, names: list[str], devices: list[str], renew: bool = False
) -> list[Path]:
    """Make the files for TLS and node authentication, and return the files written.

    Existing files stay, so that a device can be added later. ``renew`` replaces the server's
    certificate and the key pairs of the named devices, but not the authority, which all devices
    have a copy of.

    Parameters
    ----------
    folder : Path
        Gets ``ca.crt`` and ``ca.key``; ``server.pem``, ``server.key``, and ``superexec.secret``,
        with which a superexec signs in at its SuperLink; and for each device its private key NAME
        and its public key NAME.pub. Only the owner may read private files.
    names : list of str
        DNS names and addresses by which devices reach the SuperLink. Empty: no certificate.
    devices : list of str
        Names of devices.

    Raises
    ------
    KeysError
        If a device name is a path, or the name of another file.
    """
    for device in devices:
        if device in ("ca", "server", "") or Path(device).name != device or "." in device:
            wanted = "a name without dots and slashes, other than ca and server"
            raise KeysError(f"device: found {device!r}, wanted {wanted}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written: list[Path] = []
    if not (folder / "ca.key").exists():
        key = ec.generate_private_key(ec.SECP384R1())
        written += _write_pair(folder / "ca.key", key, folder / "ca.crt", _authority(key))
    if names and (renew or not (folder / "server.key").exists()):
        authority = form.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(authority, Key)
        issuer = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = _server(names, key, issuer, authority)
        written += _write_pair(folder / "server.key", key, folder / "server.pem", certificate)
        secret = folder / "superexec.secret"
        if not secret.exists():
            written.append(_write_private(secret, secrets.token_bytes(32)))
    for device in devices:
        if renew or not (folder / device).exists():
            key = ec.generate_private_key(ec.SECP384R1())
            public = key.public_key()
            line = public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b"\n"
            written += _write_pair(folder / device, key, folder / f"{device}.pub", line)
    return written


def _authority(key: Key) -> bytes:
    """Return the authority's certificate, signed by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EF-ASR authority")])
    return _sign(
        _certificate(name, name, key, CA_DAYS, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True),
        key,
    )


def _server(names: list[str], key: Key, issuer: x509.Certificate, authority: Key) -> bytes:
    """Return the server's certificate for its names, signed by the authority."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    alternatives = x509.SubjectAlternativeName([_alternative_name(each) for each in names])
    return _sign(
        _certificate(issuer.subject, name, key, SERVER_DAYS, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(alternatives, critical=False),
        authority,
    )


def _certificate(
    issuer: x509.Name, subject: x509.Name, key: Key, days: int, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(hours=1)  # a device's clock may be slow
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, signer: Key) -> bytes:
    return builder.sign(signer, hashes.SHA384()).public_bytes(form.Encoding.PEM)


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_pair(private: Path, key: Key, public: Path, content: bytes) -> list[Path]:
    """Write a private key, and its public key or certificate."""
    device = public.suffix == ".pub"  # a SuperNode reads the OpenSSH format, a SuperLink PKCS #8
    kind = form.PrivateFormat.OpenSSH if device else form.PrivateFormat.PKCS8
    _write_private(private, key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()))
    public.write_bytes(content)
    return [private, public]


def _write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return path
