"""``ef-asr keys``: a certificate authority, the SuperLink's certificate, a key pair per device."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CA_DAYS, SERVER_DAYS = 3650, 365  # how long certificates hold


def keys(
    folder: Annotated[Path, typer.Argument(help="Where keys are kept; what is there stays.")],
    name: Annotated[list[str], typer.Option(help="A DNS name or address of the SuperLink.")],
    device: Annotated[list[str] | None, typer.Option(help="A device's name; repeatable.")] = None,
) -> None:
    """Make what TLS and node authentication need; print how to register each device."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "ca.key").exists():
        own = ec.generate_private_key(ec.SECP384R1())
        _write(folder / "ca.crt", _certificate("EF-ASR CA", own, None, own, []))
        _write_key(folder / "ca.key", own, form.PrivateFormat.PKCS8)
    authority = form.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    issuer = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    assert isinstance(authority, ec.EllipticCurvePrivateKey)
    if not (folder / "server.key").exists():
        server = ec.generate_private_key(ec.SECP384R1())
        _write(folder / "server.pem", _certificate(name[0], server, issuer, authority, name))
        _write_key(folder / "server.key", server, form.PrivateFormat.PKCS8)
    for each in device or []:
        if not (folder / each).exists():
            pair = ec.generate_private_key(ec.SECP384R1())
            public = pair.public_key()
            line = public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
            _write(folder / f"{each}.pub", line + b"\n")
            _write_key(folder / each, pair, form.PrivateFormat.OpenSSH)
        print(f"flwr supernode register {folder / each}.pub")


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    names: list[str],
) -> bytes:
    """Return a PEM certificate, the authority's own where there is no ``issuer``."""
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC) - timedelta(hours=1)  # a device's clock may be slow
    days = SERVER_DAYS if issuer else CA_DAYS
    builder = (
        x509.CertificateBuilder(issuer.subject if issuer else called, called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA384()).public_bytes(form.Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, kind: form.PrivateFormat) -> None:
    _write(path, key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption()), 0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
