"""A real TLS handshake with what ``ef-asr keys`` made."""

import ssl

import pytest

from server_app.keys import keys


def handshake(folder, authority, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(authority / "ca.crt"))
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(a, b, server_hostname=name),
        server.wrap_bio(b, a, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_the_certificate_holds_for_its_names_and_its_authority_only(tmp_path, capsys):
    keys(tmp_path / "a", ["asr.lan", "127.0.0.1"], ["kitchen"])
    keys(tmp_path / "b", ["asr.lan"])
    assert capsys.readouterr().out == f"flwr supernode register {tmp_path}/a/kitchen.pub\n"
    for private in ("ca.key", "server.key", "kitchen"):
        assert (tmp_path / "a" / private).stat().st_mode & 0o777 == 0o600
    handshake(tmp_path / "a", tmp_path / "a", "asr.lan")
    handshake(tmp_path / "a", tmp_path / "a", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "a", "other.lan")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "b", "asr.lan")
