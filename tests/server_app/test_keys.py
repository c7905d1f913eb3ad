"""Real TLS handshakes with what ``ef-asr keys`` made."""

import ssl

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from server_app.keys import KeysError, make_keys


def handshake(folder, authority, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(authority / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
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


def test_the_certificate_holds_for_its_names_and_its_authority_only(tmp_path):
    make_keys(tmp_path / "a", ["asr.lan", "127.0.0.1"], ["kitchen"])
    make_keys(tmp_path / "b", ["asr.lan"], [])
    for private in ("ca.key", "server.key", "kitchen", "superexec.secret"):
        assert (tmp_path / "a" / private).stat().st_mode & 0o777 == 0o600
    handshake(tmp_path / "a", tmp_path / "a", "asr.lan")
    handshake(tmp_path / "a", tmp_path / "a", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "a", "other.lan")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "b", "asr.lan")


def test_a_device_is_added_and_what_is_there_stays_until_it_is_renewed(tmp_path):
    make_keys(tmp_path, ["asr.lan"], ["kitchen"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == [
        "ca.crt", "ca.key", "kitchen", "kitchen.pub", "server.key", "server.pem",
        "superexec.secret",
    ]  # fmt: skip
    added = make_keys(tmp_path, ["asr.lan"], ["kitchen", "hall"])
    assert added == [tmp_path / "hall", tmp_path / "hall.pub"]
    renewed = make_keys(tmp_path, ["new.lan"], ["kitchen"], renew=True)
    server = {"server.key", "server.pem"}  # a superexec that runs keeps its secret
    assert {path.name for path in renewed} == {*server, "kitchen", "kitchen.pub"}
    assert all(path.read_bytes() != before[path.name] for path in renewed)
    assert (tmp_path / "ca.crt").read_bytes() == before["ca.crt"]
    handshake(tmp_path, tmp_path, "new.lan")


def test_a_device_s_two_keys_belong_together(tmp_path):
    make_keys(tmp_path, [], ["kitchen"])
    private = load_ssh_private_key((tmp_path / "kitchen").read_bytes(), None)
    public = load_ssh_public_key((tmp_path / "kitchen.pub").read_bytes())
    assert private.public_key() == public
    assert not (tmp_path / "server.pem").exists()


@pytest.mark.parametrize("name", ["ca", "server", "../kitchen", "a.pub", ""])
def test_a_device_cannot_take_another_file_s_name(tmp_path, name):
    with pytest.raises(KeysError, match="device: found"):
        make_keys(tmp_path, ["asr.lan"], [name])
    assert not list(tmp_path.iterdir())
