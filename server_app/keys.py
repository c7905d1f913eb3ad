"""Keys: a certificate authority, the SuperLink's certificate, and a key pair per device."""

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

CA_DAYS, SERVER_DAYS = 3650, 365  # how long certificates hold

Key = ec.EllipticCurvePrivateKey


class KeysError(ValueError):
    """Keys that cannot be made as asked."""


def make_keys(
    folder: Path, names: list[str], devices: list[str], renew: bool = False
) -> list[Path]:
    """Make what TLS and node authentication need, and return what was written.

    What is there stays, so that a device can be added later; ``renew`` makes the server's
    certificate and the named devices' pairs anew (the authority stays: devices know it).

    Parameters
    ----------
    folder : Path
        Holds ``ca.crt`` and ``ca.key``; ``server.pem``, ``server.key`` and ``superexec.secret``, by
        which a SuperLink knows its superexec; and for each device its private key NAME and its
        public one NAME.pub. What is private is readable by its owner only.
    names : list of str
        DNS names and addresses by which devices reach the SuperLink; none: no server certificate.
    devices : list of str
        Names of devices.

    Raises
    ------
    KeysError
        If a device has the name of another file, or a path for a name.
    """
    for device in devices:
        if device in ("ca", "server", "") or Path(device).name != device or "." in device:
            raise KeysError(f"device: found {device!r}, wanted a name of its own without dots")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written: list[Path] = []
    if not (folder / "ca.key").exists():
        own = ec.generate_private_key(ec.SECP384R1())
        written += _write_pair(folder / "ca.key", own, folder / "ca.crt", _authority(own))
    if names and (renew or not (folder / "server.key").exists()):
        authority = form.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(authority, Key)
        issuer = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        own = ec.generate_private_key(ec.SECP384R1())
        certificate = _server(names, own, issuer, authority)
        written += _write_pair(folder / "server.key", own, folder / "server.pem", certificate)
        secret = folder / "superexec.secret"
        if not secret.exists():
            written.append(_write_private(secret, secrets.token_bytes(32)))
    for device in devices:
        if renew or not (folder / device).exists():
            own = ec.generate_private_key(ec.SECP384R1())
            public = own.public_key()
            line = public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b"\n"
            written += _write_pair(folder / device, own, folder / f"{device}.pub", line)
    return written


def _authority(own: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EF-ASR authority")])
    return _sign(
        _certificate(name, name, own, CA_DAYS, own.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True),
        own,
    )


def _server(names: list[str], own: Key, issuer: x509.Certificate, authority: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    alternatives = x509.SubjectAlternativeName([_general(each) for each in names])
    return _sign(
        _certificate(issuer.subject, name, own, SERVER_DAYS, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(alternatives, critical=False),
        authority,
    )


def _certificate(
    issuer: x509.Name, subject: x509.Name, own: Key, days: int, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(hours=1)  # a device's clock may be slow
    return (
        x509.CertificateBuilder(issuer, subject, own.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
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


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_pair(private: Path, key: Key, public: Path, content: bytes) -> list[Path]:
    """Write a private key, and what the world may see of it."""
    device = public.suffix == ".pub"  # a SuperNode reads OpenSSH's form, a SuperLink PKCS #8
    kind = form.PrivateFormat.OpenSSH if device else form.PrivateFormat.PKCS8
    _write_private(private, key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()))
    public.write_bytes(content)
    return [private, public]


def _write_private(path: Path, content: bytes) -> Path:
    """Write what nobody else may ever have read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return path
