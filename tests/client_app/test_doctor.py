"""``ef-asr doctor`` against real sockets: TLS, plain, expired, wrong, nothing."""

import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from client_app import doctor
from client_app.capacity import memory
from client_app.commands import doctor as command
from tests.conftest import write_folder

DAY = timedelta(days=1)


def ef_asr_doctor(*arguments: object):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(autouse=True)
def strong_device(monkeypatch):
    """This machine may be busy or full: what these tests are about is the way to the server."""
    monkeypatch.setattr(doctor, "NEEDED_MB", 1)
    monkeypatch.setattr(doctor, "NEEDED_DISK_MB", -10_000)


def write_certificates(folder, begin=-DAY, end=300 * DAY, host="127.0.0.1"):
    """Write ca.crt, and server.crt and server.key, which it signed."""
    now = datetime.now(UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    for name, key in keys.items():
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 900 * DAY if name == "ca" else now + begin)
            .not_valid_after(now + 900 * DAY if name == "ca" else now + end)
            .add_extension(x509.BasicConstraints(name == "ca", None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False
            )
        )  # fmt: skip
        signed = builder.sign(keys["ca"], hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        keys["server"].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def serving(folder=None, ahead=0.0, status=404):
    """Serve HTTP, over TLS with the certificates in ``folder``; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return super().date_time_string(datetime.now().timestamp() + ahead)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The machine that runs the tests may have one."""
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("HTTPS_PROXY", "http://someone:secret@127.0.0.1:9"),
        ("all_proxy", "http://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTPS_PROXY", "nonsense://127.0.0.1:9"),
    ],
)
def test_a_proxy_that_does_not_work_is_found_unless_it_is_not_used(
    tmp_path, monkeypatch, name, address
):
    write_certificates(tmp_path)
    roots = tmp_path / "ca.crt"
    monkeypatch.setenv(name, address)
    with serving(tmp_path) as server:
        done = ef_asr_doctor("--superlink", server, "--root-certificates", roots)
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        without = ef_asr_doctor("--superlink", server, "--root-certificates", roots)
    assert done.exit_code == 1
    assert "WRONG  proxy: the server is not reached through " in done.stdout
    assert f"unset {name.upper()} where the SuperNode is started" in done.stdout
    assert "secret" not in done.stdout
    assert without.exit_code == 0 and "proxy:" not in without.stdout


def test_a_proxy_that_works_is_said(monkeypatch):
    with serving() as server, serving() as address:  # a plain request goes to a proxy as it is
        monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
        done = ef_asr_doctor("--superlink", server, "--insecure")
    assert done.exit_code == 0, done.stdout
    assert f"ok  proxy: the server is reached through http://{address}" in done.stdout


def test_a_proxy_that_cannot_reach_the_server_is_found(monkeypatch):
    with serving() as server, serving(status=502) as address:
        monkeypatch.setenv("HTTP_PROXY", f"http://{address}")
        done = ef_asr_doctor("--superlink", server, "--insecure")
    assert done.exit_code == 1 and "WRONG  proxy: the server is not reached" in done.stdout
    assert "502 Bad Gateway" in done.stdout


def test_all_is_well(tmp_path):
    write_certificates(tmp_path)
    data = write_folder(tmp_path / "d", [("a.wav", "one", "x", 1.0), ("b.wav", "two", "x", 2.0)])
    roots = tmp_path / "ca.crt"
    with serving(tmp_path) as address:
        done = ef_asr_doctor(
            "--superlink", address, "--root-certificates", roots, "--data-path", data
        )
    assert done.exit_code == 0, done.stdout
    for line in (
        "protocol: TLS", "certificate: valid from", f"trust: signed by {roots}", "clock: ",
        "data: 2 utterances, 0.1 minutes (0 MB when decoded), 0 left out", "memory:", "disk:",
    ):  # fmt: skip
        assert f"ok  {line}" in done.stdout


def test_plain_to_tls_would_try_for_ever(tmp_path):
    write_certificates(tmp_path)
    with serving(tmp_path) as address:
        done = ef_asr_doctor("--superlink", address, "--insecure")
    assert done.exit_code == 1
    assert "WRONG  protocol: the server speaks TLS, this SuperNode would speak plain" in done.stdout
    assert "it would try again silently for ever" in done.stdout


def test_tls_to_plain_and_plain_to_plain():
    with serving() as address:
        done = ef_asr_doctor("--superlink", address)
        assert done.exit_code == 1
        assert "WRONG  protocol: the server speaks plain, this SuperNode would speak TLS" in (
            done.stdout
        )
        assert "trust" not in done.stdout
        assert ef_asr_doctor("--superlink", address, "--insecure").exit_code == 0


@pytest.mark.parametrize(
    ("certificate", "found"),
    [
        ({"begin": -9 * DAY, "end": -DAY}, "expired by this device's clock"),
        ({"begin": DAY}, "not yet by this device's clock"),
        ({"end": 3 * DAY}, "it expires soon"),
        ({"host": "10.9.8.7"}, "whose names include 127.0.0.1"),
    ],
)
def test_a_certificate_that_will_not_do(tmp_path, certificate, found):
    write_certificates(tmp_path, **certificate)
    with serving(tmp_path) as address:
        done = ef_asr_doctor("--superlink", address, "--root-certificates", tmp_path / "ca.crt")
    assert done.exit_code == 1 and found in done.stdout


def test_another_authority_and_a_file_that_is_none(tmp_path):
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path)
    write_certificates(tmp_path / "other")
    (tmp_path / "no.crt").write_text("no")
    with serving(tmp_path) as address:
        for roots, found in (
            (tmp_path / "other" / "ca.crt", "give --root-certificates the CA that signed"),
            (tmp_path / "no.crt", "is no PEM certificate"),
            (tmp_path / "none.crt", "is no PEM certificate"),
        ):
            done = ef_asr_doctor("--superlink", address, "--root-certificates", roots)
            assert done.exit_code == 1 and "WRONG  trust" in done.stdout and found in done.stdout


@pytest.mark.parametrize(
    ("ahead", "found"),
    [
        (3600, "WRONG  clock: 3"),
        (-3600, "WRONG  clock: 3"),
        (-9, "WRONG  clock:"),
        (9, "ok  clock"),
    ],
)
def test_a_clock_that_is_off(tmp_path, ahead, found):
    """What a node may be behind is more than what it may be ahead: Flower's own limits."""
    write_certificates(tmp_path)
    with serving(tmp_path, ahead) as address:
        done = ef_asr_doctor("--superlink", address, "--root-certificates", tmp_path / "ca.crt")
    assert done.exit_code == found.startswith("WRONG")
    line = next(line for line in done.stdout.splitlines() if "clock:" in line)
    assert found in line and ("behind" if ahead > 0 else "ahead of") in line
    assert ("set-ntp true" in done.stdout) == found.startswith("WRONG")


def test_nothing_listens_or_has_no_name_or_is_no_address():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, but it does not listen
        done = ef_asr_doctor("--superlink", f"127.0.0.1:{unheard.getsockname()[1]}")
    assert done.exit_code == 1 and "WRONG  server: nothing answers at 127.0.0.1" in done.stdout
    done = ef_asr_doctor("--superlink", "no-such-host.invalid:8000")
    assert done.exit_code == 1 and "no address for no-such-host.invalid" in done.stdout
    done = ef_asr_doctor("--superlink", "8000")
    assert done.exit_code == 2 and "wanted HOST:PORT" in done.stderr


def test_a_data_folder_that_is_broken_or_of_no_use(tmp_path):
    done = ef_asr_doctor("--data-path", tmp_path / "none")
    assert done.exit_code == 1 and "WRONG  data: data-path: found no folder" in done.stdout
    folder = write_folder(tmp_path / "d", [("a.wav", "one", "x", 1.0), ("b.wav", "one", "x", 1.0)])
    (folder / "a.wav").write_bytes(b"no")
    (folder / "b.wav").unlink()
    done = ef_asr_doctor("--data-path", folder)
    assert done.exit_code == 1 and "data: 0 utterances" in done.stdout
    (folder / "metadata.jsonl").write_text("{")
    done = ef_asr_doctor("--data-path", folder)
    assert done.exit_code == 1 and "line 1: found no JSON" in done.stdout


def test_too_little_memory_or_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED_MB", 10**9)
    monkeypatch.setattr(doctor, "NEEDED_DISK_MB", 10**12)
    done = ef_asr_doctor()
    assert done.exit_code == 1
    assert f"{memory.free_mb():.0f}"[0].isdigit() and "WRONG  memory:" in done.stdout
    assert "WRONG  disk:" in done.stdout and "lower cache-mb" in done.stdout
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "cannot write to" in ef_asr_doctor().stdout
