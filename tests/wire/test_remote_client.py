"""What a hostile server cannot do to those who pull from it, on real sockets."""

from __future__ import annotations

import gzip
import re
import socketserver
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chowder_local.client import remote as remote_client
from chowder_local.client.remote import RemoteClient
from chowder_local.core.errors.process import ApiRefused, RemoteFailed, ServerSilent
from chowder_local.seeding import home as seeding_home
from chowder_local.seeding import pull as seeding_pull
from chowder_local.seeding.home import FileIndex
from chowder_local.seeding.pull import Pull
from chowder_local.seeding.remote import find_instance
from tests.scripted.hostile import PIECE, json_response, response, response_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from chowder_local.core.errors import ChowderError

    Pieces = Callable[[], Iterable[bytes]]

AGENT = {
    "id": "i1",
    "name": "support",
    "status": "running",
    "model_provider": "anthropic",
    "openclaw_config": {},
}
KEY = "chd_org_planted"


def entry(name: str, **more: Any) -> dict[str, Any]:
    plain = {"is_dir": False, "size": 3, "mod_time": "2026-01-01T00:00:00Z", "permissions": "-rw-"}
    return {"name": name, **plain, **more}


def listing(*entries: dict[str, Any]) -> bytes:
    return json_response({"path": ".", "entries": entries})


class Hostile(socketserver.ThreadingTCPServer):
    """Answers each request with the pieces of the first pattern that is in its target."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers: dict[str, Pieces | bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(socketserver.StreamRequestHandler):
    server: Hostile

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n")).decode()
        self.server.requests.append(head)
        target = head.split()[1]
        found = next(
            (each for pattern, each in self.server.answers.items() if re.search(pattern, target)),
            response(b'{"detail": "Nothing."}', status="404 Not Found"),
        )
        try:
            for piece in [found] if isinstance(found, bytes) else found():
                self.wfile.write(piece)
        except OSError:
            # The client has left.
            return


@pytest.fixture
def hostile() -> Iterator[Callable[[dict[str, Pieces | bytes]], Hostile]]:
    servers = []

    def start(answers: dict[str, Pieces | bytes]) -> Hostile:
        servers.append(server := Hostile({"instances$": json_response([AGENT]), **answers}))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small bounds, which are met within moments."""
    monkeypatch.setattr(remote_client, "PAUSES_S", (0.001,))
    monkeypatch.setattr(remote_client, "HEAD_TIMEOUT_S", 0.5)
    monkeypatch.setattr(remote_client, "MAX_JSON_BYTES", 1024 * 1024)
    monkeypatch.setattr(seeding_home, "GROWTH_BYTES", 1024 * 1024)
    monkeypatch.setattr(seeding_home, "MAX_DEPTH", 5)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corp")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem, key_file = folder / "corp.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem, key_file


def pull(server: Hostile, folder: Path) -> Pull:
    with RemoteClient(server.url, KEY) as client:
        found = find_instance(client, "support")
        copy = Pull(client, found, "support", folder, FileIndex(), lambda _: None)
        copy.plan()
        copy.take(keeps_ours=False)
        copy.note_rest()
    return copy


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Pieces:
    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            yield piece
            time.sleep(pause_s)

    return pieces


HEAD = response_head()
UNZIPPED = gzip.compress(bytes(10_000_000))
REFUSED: dict[str, tuple[Pieces | bytes, type[ChowderError], str]] = {
    "an endless list": (endless(HEAD, b"[" + b"{}," * 20_000), RemoteFailed, "more than 1,048,576"),
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 999), ServerSilent, ""),
    "a head that comes byte by byte": (
        endless(b"HTTP/1.1 200 OK\r\n", b"A", 0.02), RemoteFailed, "too slowly",
    ),
    "a body that comes byte by byte": (endless(HEAD, b" ", 0.02), RemoteFailed, "too slowly"),
    "endless informational answers": (
        endless(b"", b"HTTP/1.1 103 Early\r\n\r\n", 0.001), RemoteFailed, "too slowly",
    ),
    "a compressed body": (
        response(UNZIPPED).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1),
        RemoteFailed, "compressed",
    ),
    "nesting without end": (response(b"[" * 500_000), RemoteFailed, "does not answer as"),
    "too many values": (response(b"[" + b"0," * 300_000 + b"0]"), RemoteFailed, "does not"),
    "other types": (json_response([{**AGENT, "name": ["x"]}]), RemoteFailed, "0.name: Input"),
    "an object for a list": (json_response({"instances": []}), RemoteFailed, "valid list"),
    "text": (response(b"<html>", "text/html"), RemoteFailed, "valid list"),
    "429 for ever, and a wait of years": (
        response(b"{}", status="429 No").replace(b"Content-T", b"Retry-After: 0\r\nContent-T"),
        ApiRefused, "429",
    ),
    "a body that is cut": (response(b"[" * 100).replace(b"100", b"200"), ServerSilent, ""),
    "an error of a million letters": (
        response(b'{"detail": "%s"}' % (b"x" * 900_000), status="400 No"), ApiRefused, "x" * 100,
    ),
    "an error of another shape": (
        response(b'{"detail": [7]}', status="400 No"), ApiRefused, "7",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_none_ends_the_command_soon(
    name: str, hostile: Callable[..., Hostile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_client, "MAX_VALUES", 100_000)
    pieces, error, message = REFUSED[name]
    server = hostile({"instances$": pieces})
    with RemoteClient(server.url, KEY) as client, pytest.raises(error) as failed:
        client.instances()
    assert message in str(failed.value)
    assert len(str(failed.value)) < 2_500
    assert len(server.requests) <= 2


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(
    hostile: Callable[..., Hostile],
) -> None:
    other = hostile({})
    moved = b"HTTP/1.1 307 Moved\r\nLocation: %s/instances\r\nContent-Length: 0\r\n\r\n"
    server = hostile({"instances$": moved % other.url.encode()})
    with RemoteClient(server.url, KEY) as client, pytest.raises(RemoteFailed, match="redirects"):
        client.instances()
    assert other.requests == []


def test_names_that_lead_elsewhere_and_links_write_nothing_outside(
    hostile: Callable[..., Hostile], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    home = tmp_path / "support" / "home" / "workspace"
    home.mkdir(parents=True)
    (home / "planted").symlink_to(outside)
    (home / "file.md").symlink_to(outside / "file.md")
    names = ["..", ".", "", "../x", "/etc/x", "a/b", "nul\0", "\ud800", "bad\ufffd", "n" * 300]
    deep = listing(entry("evil.md"), *(entry(each) for each in names))
    server = hostile(
        {
            "path=workspace%2Fplanted": listing(entry("evil.md")),
            "path=workspace%2F": deep,
            "path=workspace": listing(
                *(entry(each) for each in names),
                *(entry(each, is_dir=True) for each in ["..", "../..", "planted", "ok", ".GIT"]),
                entry("file.md"),
            ),
            "download": response(b"abc"),
        }
    )
    copy = pull(server, tmp_path / "support")
    assert list(outside.iterdir()) == []
    found = [each for each in tmp_path.rglob("*") if each.is_file() and not each.is_symlink()]
    inside = {each.relative_to(tmp_path).as_posix() for each in found}
    assert inside == {
        "support/seed.yaml",
        "support/seen.json",
        "support/home/workspace/file.md",
        "support/home/workspace/ok/evil.md",
    }
    notes = "\n".join(copy.notes)
    assert "'workspace/../x': its name cannot be copied" in notes
    assert "a folder above it is a link that leads elsewhere" in notes


def test_a_file_without_end_is_left_and_the_disk_keeps_its_room(
    hostile: Callable[..., Hostile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = response_head("application/octet-stream")
    server = hostile({"path=workspace$": listing(entry("a")), "download": endless(head, PIECE)})
    with pytest.raises(RemoteFailed, match="more than 1,048,579 bytes"):
        pull(server, tmp_path / "support")
    home = tmp_path / "support/home"
    assert sum(each.stat().st_size for each in home.rglob("*") if each.is_file()) == 0
    server.answers["path=workspace$"] = listing(entry("a", size=10**15))
    with pytest.raises(RemoteFailed, match="Free space"):
        pull(server, tmp_path / "support")
    # Many that are small in their listing.
    many = [entry(f"{number}") for number in range(40)]
    server.answers |= {"path=workspace$": listing(*many), "download": response(bytes(1_000_000))}
    monkeypatch.setattr(seeding_pull, "MAX_BYTES", 3_000_000)
    with pytest.raises(RemoteFailed, match="have grown"):
        pull(server, tmp_path / "support")
    sizes = [each.stat().st_size for each in home.rglob("*") if each.is_file()]
    assert sum(sizes) <= 3_000_000


def test_folders_without_end_are_left(hostile: Callable[..., Hostile], tmp_path: Path) -> None:
    server = hostile({"files": listing(entry("deeper", is_dir=True))})
    with pytest.raises(RemoteFailed, match="more than 5 deep"):
        pull(server, tmp_path / "support")


def test_more_files_than_a_folder_can_be_committed_with_are_left(
    hostile: Callable[..., Hostile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding_home, "MAX_FILES", 99)
    server = hostile({"files": listing(*(entry(f"{number}") for number in range(100)))})
    with pytest.raises(RemoteFailed, match="more than 99 files"):
        pull(server, tmp_path / "support")


def test_a_certificate_must_be_of_a_known_authority_or_of_the_ca_bundle(
    tmp_path: Path, hostile: Callable[..., Hostile]
) -> None:
    certificate, key = make_certificate(tmp_path)
    server = hostile({})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with RemoteClient(url, KEY) as client, pytest.raises(RemoteFailed, match="CERTIFICATE_VERIFY"):
        client.instances()
    assert server.requests == []
    with RemoteClient(url, KEY, certificate) as client:
        assert client.instances() == [AGENT]
