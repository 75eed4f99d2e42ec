"""Which engine is found in which environment, and the errors if there is none."""

import hashlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chowder_local.core.errors.sandboxes import EngineRemote, EngineUnavailable
from chowder_local.engine import connection
from chowder_local.engine.connection import (
    EngineAddress,
    ask_version,
    find_engine,
    open_client,
    usual_sockets,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A socket's path has room for about a hundred characters; pytest's folders are longer.
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.fixture
def env(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    def only_below_home(env: dict[str, str]) -> Iterator[Path]:
        return (path for path in usual_sockets(env) if not path.is_absolute())

    # The machine's own engine must not decide what a test sees.
    monkeypatch.setattr(connection, "usual_sockets", only_below_home)
    return {"HOME": str(home), "XDG_RUNTIME_DIR": "run"}


def listening(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


def put_context(home: Path, name: str, host: str, *, has_tls: bool = False) -> Path:
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker/contexts/meta" / folder / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    certificates = home / ".docker/contexts/tls" / folder / "docker"
    if has_tls:
        certificates.mkdir(parents=True)
    return certificates


def test_docker_host_overrides_everything(home: Path, env: dict[str, str]) -> None:
    put_context(home, "colima", "unix:///colima.sock")
    env |= {"DOCKER_HOST": "unix:///chosen.sock", "DOCKER_CONTEXT": "colima"}
    assert find_engine(env) == EngineAddress("unix:///chosen.sock", "DOCKER_HOST")


def test_docker_host_with_tls_says_where_the_certificates_are(env: dict[str, str]) -> None:
    env |= {"DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1"}
    assert find_engine(env).cert_dir == Path(".docker")
    assert find_engine({**env, "DOCKER_CERT_PATH": "/certs"}).cert_dir == Path("/certs")


def test_the_current_context_is_used(home: Path, env: dict[str, str]) -> None:
    put_context(home, "colima", "unix:///colima.sock")
    (home / ".docker/config.json").write_text('{"currentContext": "colima"}')
    assert find_engine(env) == EngineAddress("unix:///colima.sock", "the docker context 'colima'")


def test_docker_context_overrides_the_current_context(home: Path, env: dict[str, str]) -> None:
    certificates = put_context(home, "other", "unix:///other.sock", has_tls=True)
    put_context(home, "colima", "unix:///colima.sock")
    (home / ".docker/config.json").write_text('{"currentContext": "colima"}')
    found = find_engine({**env, "DOCKER_CONTEXT": "other"})
    assert (found.url, found.cert_dir) == ("unix:///other.sock", certificates)


def test_docker_config_sets_the_folder_of_the_contexts(home: Path, env: dict[str, str]) -> None:
    put_context(home, "colima", "unix:///colima.sock")
    (home / ".docker").rename(home / "moved")
    env |= {"DOCKER_CONFIG": str(home / "moved"), "DOCKER_CONTEXT": "colima"}
    assert find_engine(env).url == "unix:///colima.sock"


def test_an_unknown_context_is_refused_by_name(env: dict[str, str]) -> None:
    with pytest.raises(EngineUnavailable, match="docker context 'gone' does not exist"):
        find_engine({**env, "DOCKER_CONTEXT": "gone"})


@pytest.mark.parametrize("config", ["", "[]", '{"currentContext": "default"}', "{}"])
def test_without_a_chosen_context_the_usual_sockets_are_tried(
    home: Path, env: dict[str, str], config: str
) -> None:
    with closing(listening(home / ".orbstack/run/docker.sock")):
        (home / ".docker").mkdir()
        (home / ".docker/config.json").write_text(config)
        found = find_engine(env)
    assert found.url == "unix://.orbstack/run/docker.sock"
    assert found.source == "the socket .orbstack/run/docker.sock"


def test_a_socket_without_a_listener_is_skipped(home: Path, env: dict[str, str]) -> None:
    listening(home / ".colima/default/docker.sock").close()
    with closing(listening(home / "run/podman/podman.sock")):
        assert find_engine(env).url == "unix://run/podman/podman.sock"


def test_the_error_without_an_engine_names_the_sockets_and_a_remedy(
    home: Path, env: dict[str, str]
) -> None:
    listening(home / ".rd/docker.sock").close()
    with pytest.raises(EngineUnavailable) as refused:
        find_engine(env)
    message = str(refused.value)
    assert ".rd/docker.sock (nothing listens)" in message
    assert ".colima/default/docker.sock (no such socket)" in message
    assert "Docker Desktop" in message
    assert "DOCKER_HOST" in message


def test_a_forbidden_socket_names_the_group_as_the_remedy(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_problem_with", lambda address: "permission denied")
    with pytest.raises(EngineUnavailable, match="usermod -aG docker"):
        find_engine(env)


def test_a_forbidden_socket_is_reported_as_such(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    with pytest.raises(EngineUnavailable, match=r"docker\.sock \(permission denied\)"):
        find_engine(env)


@pytest.mark.parametrize("url", ["tcp://10.0.0.7:2375", "ssh://me@build.example", "tcp://docker"])
def test_an_engine_on_another_machine_is_refused(env: dict[str, str], url: str) -> None:
    with pytest.raises(EngineRemote, match="on another machine"):
        find_engine({**env, "DOCKER_HOST": url})


@pytest.mark.parametrize(
    "url", ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://[::1]:2375", "unix:///a.sock"]
)
def test_an_engine_on_this_machine_is_accepted(env: dict[str, str], url: str) -> None:
    assert find_engine({**env, "DOCKER_HOST": url}).url == url


def test_an_address_without_a_known_scheme_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(EngineUnavailable, match="is not understood"):
        find_engine({**env, "DOCKER_HOST": "/var/run/docker.sock"})


def test_in_a_container_the_remedy_is_a_mount(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "is_in_container", lambda: True)
    with pytest.raises(EngineUnavailable, match=r"-v /var/run/docker\.sock:/var/run/docker\.sock"):
        find_engine(env)


def test_home_and_runtime_folder_have_defaults() -> None:
    sockets = list(usual_sockets({}))
    assert Path.home() / ".rd/docker.sock" in sockets
    assert Path(f"/run/user/{os.getuid()}/docker.sock") in sockets


def test_the_error_for_an_engine_that_is_down_has_address_and_cause(
    tmp_path: Path,
) -> None:
    address = EngineAddress(f"unix://{tmp_path}/no.sock", "DOCKER_HOST")
    with pytest.raises(EngineUnavailable) as refused:
        open_client(address)
    assert f"{tmp_path}/no.sock (from DOCKER_HOST) does not answer: no such socket" in str(
        refused.value
    )


def test_missing_certificates_are_an_error_of_the_connection(tmp_path: Path) -> None:
    address = EngineAddress("tcp://127.0.0.1:1", "DOCKER_HOST", tmp_path)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        open_client(address)


def test_an_invalid_response_is_an_error_of_the_connection() -> None:
    def serve_one(server: socket.socket) -> None:
        server.accept()[0].close()  # the probe, which sends nothing
        peer, _ = server.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with (
        tempfile.TemporaryDirectory() as short,
        closing(listening(Path(short) / "engine.sock")) as server,
    ):
        server.settimeout(5)
        thread = threading.Thread(target=serve_one, args=(server,))
        thread.start()
        with pytest.raises(EngineUnavailable, match=r"does not answer: .*500"):
            open_client(EngineAddress(f"unix://{short}/engine.sock", "test"), timeout_s=5)
        thread.join()


def test_opening_a_client_asks_for_the_version() -> None:
    answer = b'{"ApiVersion": "1.45"}'

    def serve_one(server: socket.socket) -> None:
        server.accept()[0].close()  # the probe, which sends nothing
        peer, _ = server.accept()
        with peer:
            assert peer.recv(65536).startswith(b"GET /version")
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            peer.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer))

    with (
        tempfile.TemporaryDirectory() as short,
        closing(listening(Path(short) / "engine.sock")) as server,
    ):
        server.settimeout(5)
        thread = threading.Thread(target=serve_one, args=(server,))
        thread.start()
        client = open_client(EngineAddress(f"unix://{short}/engine.sock", "test"), timeout_s=5)
        thread.join()
    assert client.api.api_version == "1.45"
    client.close()


@pytest.mark.parametrize("ask", [lambda address: open_client(address, timeout_s=0.1), ask_version])
def test_an_engine_that_hangs_is_reported_as_such(
    ask: Callable[[EngineAddress], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "VERSION_TIMEOUT_S", 0.1)
    with (
        tempfile.TemporaryDirectory() as short,
        # The kernel makes a connection that is not accepted, and never answers it.
        closing(listening(Path(short) / "engine.sock")),
        pytest.raises(EngineUnavailable, match=r"timed out.* hangs: restart it"),
    ):
        ask(EngineAddress(f"unix://{short}/engine.sock", "test"))
