"""Check whether this device can take part in a run; each check says what to do if it cannot."""

import http.client
import shutil
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography import x509
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

from client_app.cache.folder import writable_folder
from client_app.capacity import memory
from efmodel.settings import Settings

TIMEOUT = 10.0  # seconds for the server to answer
# Seconds that a node's clock may be ahead of or behind the SuperLink's; beyond, it is refused.
AHEAD, BEHIND = SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE
NEEDED_MB = 1000  # memory of a client: preset tiny, exit 1, recordings of 30 s
NEEDED_DISK_MB = 1000  # for messages and logs, in addition to the cache
OF_A_PROXY = (407, 502, 503, 504)  # HTTP statuses: it wants a password, or cannot reach the server
EXPIRES_SOON = 14 * 86400.0  # seconds before a certificate's end at which the doctor warns


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what was found, and what to do if that is wrong."""

    what: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Server:
    """The SuperLink, and how this device connects to it.

    Attributes
    ----------
    host, port : str, int
        The address.
    insecure : bool
        Whether the SuperNode is started with ``--insecure``.
    root_certificates : Path, optional
        The file that ``--root-certificates`` names; by default the system's certificates.
    """

    host: str
    port: int
    insecure: bool = False
    root_certificates: Path | None = None


def examine(server: Server | None, data_path: str) -> Iterator[Finding]:
    """Run the checks and yield their findings; checks that could only fail again are left out."""
    if server is not None:
        yield from examine_server(server)
    if data_path:
        yield data(data_path)
    yield free_memory()
    yield disk()


def examine_server(server: Server) -> Iterator[Finding]:
    """Check the connection to the SuperLink: proxy, address, TLS, certificate, clock."""
    where = f"{server.host}:{server.port}"
    through = proxy(server)
    if through is not None:
        yield through
    try:
        socket.create_connection((server.host, server.port), TIMEOUT).close()
    except OSError as error:
        if through is not None and not through.advice:
            yield Finding("server", f"{where} is reached through the proxy alone; no more is known")
        else:
            yield unreachable(server, error)
        return
    yield Finding("server", f"{where} accepts connections")
    certificate = served_certificate(server)
    yield protocol(server, certificate is not None)
    if certificate is not None:
        yield validity(certificate)
        if not server.insecure:
            yield trust(server)
    yield clock(server, certificate)


def unreachable(server: Server, error: OSError) -> Finding:
    """Return why no connection to the server can be made."""
    if isinstance(error, socket.gaierror):
        advice = "check the name in --superlink, and this device's DNS"
        return Finding("server", f"no address for {server.host} ({error.strerror})", advice)
    advice = (
        "is the SuperLink running, with --host 0.0.0.0, on this port, and does a firewall let "
        "this device through?"
    )
    return Finding("server", f"nothing answers at {server.host}:{server.port} ({error})", advice)


def proxy(server: Server) -> Finding | None:
    """Check the proxy through which the SuperNode will connect; None if it will use none."""
    scheme = "http" if server.insecure else "https"
    known = urllib.request.getproxies()
    address = known.get(scheme) or known.get("all")
    if not address or urllib.request.proxy_bypass(server.host):
        return None
    shown = address.rpartition("@")[2]  # without a password
    try:
        with httpx.Client(verify=_trusting_all(), timeout=TIMEOUT) as client:
            answer = client.head(f"{scheme}://{server.host}:{server.port}/")
        if answer.status_code in OF_A_PROXY:
            answer.raise_for_status()
    except (httpx.HTTPError, ImportError, ValueError) as error:  # no socksio; no such scheme
        name = f"{scheme}_proxy" if known.get(scheme) else "all_proxy"
        advice = (
            f"correct or unset {name.upper()} where the SuperNode is started, or add {server.host} "
            "to NO_PROXY there; as it is, the SuperNode would try again silently for ever"
        )
        return Finding("proxy", f"the server is not reached through {shown} ({error})", advice)
    return Finding("proxy", f"the server is reached through {shown}")


def served_certificate(server: Server) -> x509.Certificate | None:
    """Return the server's certificate, unverified; None if the server does not speak TLS."""
    try:
        with (
            socket.create_connection((server.host, server.port), TIMEOUT) as connection,
            _trusting_all().wrap_socket(connection, server_hostname=server.host) as wrapped,
        ):
            shown = wrapped.getpeercert(binary_form=True)
    except OSError:  # includes ssl.SSLError, closed connections and timeouts
        return None
    return x509.load_der_x509_certificate(shown) if shown else None


def _trusting_all() -> ssl.SSLContext:
    """Return a context that verifies nothing: for looking at a certificate, not for secrets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def protocol(server: Server, tls: bool) -> Finding:
    """Check that both sides use TLS, or neither does."""
    if server.insecure and tls:
        return Finding(
            "protocol",
            "the server speaks TLS, this SuperNode would speak plain (--insecure)",
            "start the SuperNode with --root-certificates CA.crt in place of --insecure; as it is, "
            "it would try again silently for ever",
        )
    if not server.insecure and not tls:
        return Finding(
            "protocol",
            "the server speaks plain, this SuperNode would speak TLS",
            "start the SuperLink with --ssl-certfile, --ssl-keyfile and --ssl-ca-certfile; "
            "--insecure on both sides is for tests in one room",
        )
    return Finding("protocol", "TLS" if tls else "plain, on both sides (--insecure)")


def validity(certificate: x509.Certificate) -> Finding:
    """Check the certificate's dates against this device's clock."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = datetime.now(UTC)
    span = f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if now < begin:
        advice = "this device's clock is probably behind, see the clock below; if it is right, wait"
        return Finding("certificate", f"{span}, not yet by this device's clock", advice)
    if now > end:
        advice = "make a new certificate on the server and start the SuperLink again"
        return Finding("certificate", f"{span}, expired by this device's clock", advice)
    if (end - now).total_seconds() < EXPIRES_SOON:
        return Finding("certificate", span, "it expires soon: make a new one on the server now")
    return Finding("certificate", span)


def trust(server: Server) -> Finding:
    """Verify the certificate's signature and name, as the SuperNode will."""
    roots = server.root_certificates
    try:
        context = ssl.create_default_context(cafile=str(roots) if roots else None)
    except OSError as error:
        advice = "copy the CA's certificate (ca.crt, never its key) from the server to this device"
        return Finding("trust", f"{roots} is no PEM certificate ({error})", advice)
    try:
        with (
            socket.create_connection((server.host, server.port), TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname=server.host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        advice = "give --root-certificates the CA that signed the server's certificate"
        if "mismatch" in error.verify_message or "not valid for" in error.verify_message:
            advice = f"make a certificate whose names include {server.host}, or use another name"
        elif "expired" in error.verify_message or "not yet" in error.verify_message:
            advice = "see the certificate's dates above"
        return Finding("trust", error.verify_message, advice)
    except OSError as error:
        return Finding("trust", f"the handshake failed ({error})", "run this check again")
    return Finding("trust", f"signed by {roots or 'an authority that this system trusts'}")


def clock(server: Server, certificate: x509.Certificate | None) -> Finding:
    """Check this device's clock against the Date header of the server's answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    if certificate is not None:
        connection = http.client.HTTPSConnection(
            server.host, server.port, timeout=TIMEOUT, context=_trusting_all()
        )
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().headers["Date"]
        ahead = time.time() - parsedate_to_datetime(date or "").timestamp()
    except (OSError, http.client.HTTPException, ValueError):
        advice = "check that the port is the SuperLink's, which answers HTTP with a date"
        return Finding("clock", "the server's answer has no date to compare with", advice)
    finally:
        connection.close()
    found = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if ahead > AHEAD - 1 or -ahead > BEHIND / 2:  # a header's date is up to a second old
        advice = (
            f"a SuperLink refuses nodes that are {AHEAD} s ahead or {BEHIND} s behind: turn on "
            "time synchronisation on both (timedatectl set-ntp true)"
        )
        return Finding("clock", found, advice)
    return Finding("clock", found)


def data(data_path: str) -> Finding:
    """Check the data folder: read it as a round will, without decoding the audio."""
    from efmodel.config import SAMPLE_RATE, preset
    from efmodel.speech import recordings, statistics, vocabulary

    try:
        corpus = recordings.audiofolder(Path(data_path).expanduser())
    except (recordings.DataError, OSError) as error:
        advice = (
            "a folder with metadata.jsonl: file_name, text, speaker (the documentation, Data, has "
            "other layouts)"
        )
        return Finding("data", str(error), advice)
    counts = statistics.count(
        corpus.train, vocabulary.of_preset("tiny"), preset("tiny"), to_train=True
    )
    seconds, skipped = sum(counts.seconds), len(counts.skipped.recordings)
    decoded_mb = seconds * SAMPLE_RATE * 4 / 1e6  # float32, all of it in memory
    found = (
        f"{len(counts.seconds)} utterances, {seconds / 60:.1f} minutes ({decoded_mb:.0f} MB when "
        f"decoded), {skipped} left out"
    )
    if not counts.seconds:
        return Finding("data", found, "ef-asr data FOLDER lists the reason for each")
    if skipped > len(counts.seconds):
        return Finding("data", found, "more is left out than used: see ef-asr data FOLDER")
    return Finding("data", found)


def free_memory() -> Finding:
    """Check the free memory."""
    free = memory.free_mb()
    found = f"{free:.0f} MB free"
    if free < NEEDED_MB:
        advice = (
            f"the smallest client needs about {NEEDED_MB} MB: stop other programs, lower "
            "max-seconds, and see ef-asr capacity"
        )
        return Finding("memory", found, advice)
    return Finding("memory", found)


def disk() -> Finding:
    """Check the free disk space of the cache folder, and that it can be written."""
    try:
        folder = writable_folder()
        free = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        advice = "make it writable for this user, or set XDG_CACHE_HOME to another folder"
        return Finding("disk", f"cannot write to {error.filename} ({error.strerror})", advice)
    found = f"{free:.0f} MB free for {folder}"
    if free < Settings.cache_mb + NEEDED_DISK_MB:
        wanted = f"cache-mb may take {Settings.cache_mb}, and {NEEDED_DISK_MB} should stay free"
        return Finding("disk", found, f"{wanted}: make room, or lower cache-mb in the run config")
    return Finding("disk", found)
