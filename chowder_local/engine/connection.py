"""Finding the container engine that a person really has, and opening a client to it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker
from docker.errors import DockerException
from docker.tls import TLSConfig
from requests.exceptions import RequestException

from chowder_local.core.addresses import is_loopback
from chowder_local.core.errors.sandboxes import EngineRemote, EngineSilent, EngineUnavailable
from chowder_local.engine.container_detection import is_in_container

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOW_TO_GET_ONE = (
    "Start Docker Desktop, OrbStack, Colima, Rancher Desktop or Podman, or install Docker Engine "
    "(Debian, Ubuntu: apt-get install docker.io), or set DOCKER_HOST."
)
HOW_TO_MOUNT_ONE = (
    "This is a container: give it the socket of the engine that runs it "
    "(-v /var/run/docker.sock:/var/run/docker.sock)."
)
HOW_TO_RESTART_ONE = (
    "It is there, but hangs: restart it (systemctl restart docker, or Docker Desktop's Restart). "
    "Agents boot again by themselves."
)
PROBE_TIMEOUT_S = 2.0
FIRST_ANSWER_S = 5.0
VERSION_TIMEOUT_S = 3.0
"""An engine that works says its version in a few milliseconds."""


@dataclass(frozen=True)
class EngineAddress:
    """Where the engine's API is, and how it was found."""

    url: str
    source: str
    cert_dir: Path | None = None
    """Folder with `ca.pem`, `cert.pem` and `key.pem`, when the engine wants TLS."""


def find_engine(env: Mapping[str, str]) -> EngineAddress:
    """The engine this machine's `docker` command would use, or else the first usual socket.

    An address that somebody chose (DOCKER_HOST, a docker context) is taken as it is, dead or
    alive: another engine than the chosen one would be a surprise.

    Raises EngineUnavailable, which names what was tried, and EngineRemote.
    """
    chosen = _from_docker_host(env) or _from_context(env)
    if chosen is not None:
        return _local_only(chosen)
    tried = {}
    for path in usual_sockets(env):
        address = EngineAddress(f"unix://{path}", f"the socket {path}")
        problem = _problem_with(address)
        if problem is None:
            return address
        tried[path] = problem
    raise EngineUnavailable(
        f"No container engine found. Tried {', '.join(f'{p} ({why})' for p, why in tried.items())}."
        f" {HOW_TO_MOUNT_ONE if is_in_container() else _cure(' '.join(tried.values()))}"
    )


def usual_sockets(env: Mapping[str, str]) -> Iterator[Path]:
    """Where engines put their sockets when nobody says otherwise, likeliest first."""
    home = _home(env)
    runtime = Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    yield Path("/var/run/docker.sock")
    yield home / ".docker/run/docker.sock"
    yield home / ".docker/desktop/docker.sock"
    yield home / ".colima/default/docker.sock"
    yield home / ".orbstack/run/docker.sock"
    yield home / ".rd/docker.sock"
    yield runtime / "docker.sock"
    yield runtime / "podman/podman.sock"
    yield Path("/run/podman/podman.sock")


def open_client(
    address: EngineAddress, timeout_s: float = 30.0, pool_size: int = 8
) -> docker.DockerClient:
    """A client of the engine, which the caller closes; the engine has answered before it returns.

    Raises EngineSilent with the reason and a cure.
    """
    # Asked first because the SDK leaks the socket of a connection that fails.
    if problem := _problem_with(address):
        raise EngineSilent(_does_not_answer(address, problem))
    try:
        client = docker.DockerClient(
            base_url=address.url,
            timeout=min(timeout_s, FIRST_ANSWER_S),  # type: ignore[arg-type]  # the stub says int, requests takes float
            max_pool_size=pool_size,
            tls=_tls(address.cert_dir),
        )
    except (DockerException, RequestException, OSError) as failure:
        raise EngineSilent(_does_not_answer(address, _reason(failure))) from failure
    client.api.timeout = timeout_s  # type: ignore[assignment]  # as above
    return client


@contextmanager
def engine_client(
    env: Mapping[str, str], refusal: str, timeout_s: float = 30.0
) -> Iterator[tuple[docker.DockerClient, EngineAddress]]:
    """A client of the engine that is found, closed with the block.

    Raises EngineRemote and EngineUnavailable; `refusal` begins the latter's words for what the SDK
    raises within the block.
    """
    address = find_engine(env)
    with closing(open_client(address, timeout_s)) as client:
        try:
            yield client, address
        except (DockerException, RequestException) as failure:
            raise EngineUnavailable(f"{refusal}: {failure}") from failure


def ask_version(address: EngineAddress) -> str:
    """The engine's name and version, asked on a new connection. Raises EngineSilent."""
    with closing(open_client(address, VERSION_TIMEOUT_S, pool_size=1)) as client:
        try:
            answer = client.version()
        except (DockerException, RequestException, OSError) as failure:
            raise EngineSilent(_does_not_answer(address, _reason(failure))) from failure
    platform = answer.get("Platform", {}).get("Name") or "Docker Engine"
    return f"{platform} {answer.get('Version', '')}".strip()


def _from_docker_host(env: Mapping[str, str]) -> EngineAddress | None:
    if not (host := env.get("DOCKER_HOST")):
        return None
    cert_dir = None
    if env.get("DOCKER_TLS_VERIFY"):
        cert_dir = Path(env.get("DOCKER_CERT_PATH") or _config_dir(env))
    return EngineAddress(host, "DOCKER_HOST", cert_dir)


def _from_context(env: Mapping[str, str]) -> EngineAddress | None:
    name = env.get("DOCKER_CONTEXT") or _read_json(_config_dir(env) / "config.json").get(
        "currentContext"
    )
    if not name or name == "default":
        return None
    # The docker command files a context under the digest of its name.
    folder = hashlib.sha256(str(name).encode()).hexdigest()
    contexts = _config_dir(env) / "contexts"
    meta = _read_json(contexts / "meta" / folder / "meta.json")
    host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
    if not host:
        raise EngineUnavailable(
            f"The docker context {name!r} does not exist or names no engine. "
            "Choose another with 'docker context use', or set DOCKER_HOST."
        )
    cert_dir = contexts / "tls" / folder / "docker"
    return EngineAddress(
        host, f"the docker context {name!r}", cert_dir if cert_dir.is_dir() else None
    )


def _local_only(address: EngineAddress) -> EngineAddress:
    parts = urlsplit(address.url)
    if parts.scheme in {"unix", "npipe", "http+unix"}:
        return address
    if parts.scheme in {"tcp", "http", "https"} and is_loopback(parts.hostname or ""):
        return address
    if parts.scheme in {"tcp", "http", "https", "ssh"}:
        raise EngineRemote(parts.hostname or address.url)
    raise EngineUnavailable(
        f"The engine address {address.url!r} (from {address.source}) is not understood. "
        "It should look like unix:///var/run/docker.sock."
    )


def _problem_with(address: EngineAddress) -> str | None:
    """Why no engine answers behind a socket; None if one listens, or if it is no socket."""
    scheme, _, path = address.url.partition("://")
    if scheme not in {"unix", "http+unix"}:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return "not there"
        except PermissionError:
            return "permission denied"
        except OSError:
            return "nothing listens"
    return None


def _does_not_answer(address: EngineAddress, reason: str) -> str:
    return (
        f"The container engine at {address.url} (from {address.source}) does not answer: "
        f"{reason}. {_cure(reason)}"
    )


def _tls(cert_dir: Path | None) -> TLSConfig | bool:
    if cert_dir is None:
        return False
    return TLSConfig(
        client_cert=(str(cert_dir / "cert.pem"), str(cert_dir / "key.pem")),
        ca_cert=str(cert_dir / "ca.pem"),
        verify=True,
    )


def _reason(failure: BaseException) -> str:
    """The innermost words, which are the system's own; the SDK wraps them four times."""
    seen: BaseException = failure
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return (getattr(seen, "strerror", None) or str(seen) or type(seen).__name__).rstrip(".")


def _cure(reason: str) -> str:
    if "permission denied" in reason.lower():
        return (
            "Add yourself to the group that owns the socket: sudo usermod -aG docker $USER, "
            "then log in again."
        )
    return HOW_TO_RESTART_ONE if "timed out" in reason.lower() else HOW_TO_GET_ONE


def _config_dir(env: Mapping[str, str]) -> Path:
    return Path(env.get("DOCKER_CONFIG") or _home(env) / ".docker")


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or Path.home())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
