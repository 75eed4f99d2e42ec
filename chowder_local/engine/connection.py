"""Finds the container engine of this machine and opens a client to it."""

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
from chowder_local.engine.self_container import is_in_container

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INSTALL_HINT = (
    "Start Docker Desktop, OrbStack, Colima, Rancher Desktop or Podman, or install Docker Engine "
    "(Debian, Ubuntu: apt-get install docker.io), or set DOCKER_HOST."
)
MOUNT_HINT = (
    "This is a container: mount the socket of the engine that runs it "
    "(-v /var/run/docker.sock:/var/run/docker.sock)."
)
RESTART_HINT = (
    "The engine hangs: restart it (systemctl restart docker, or Docker Desktop's Restart). "
    "Agents that have run before boot again by themselves."
)
PROBE_TIMEOUT_S = 2.0
FIRST_ANSWER_S = 5.0
VERSION_TIMEOUT_S = 3.0
"""A working engine answers in a few milliseconds."""


@dataclass(frozen=True)
class EngineAddress:
    """The URL of the engine's API; `source` names where the URL comes from."""

    url: str
    source: str
    cert_dir: Path | None = None
    """The folder with `ca.pem`, `cert.pem` and `key.pem` if the engine uses TLS."""


def find_engine(env: Mapping[str, str]) -> EngineAddress:
    """The engine that the `docker` command would use, else the first usual socket that listens.

    A chosen address (DOCKER_HOST, a docker context) is returned even if no engine listens there:
    the server never uses another engine than the chosen one.

    Raises EngineUnavailable if there is no engine or the address is invalid, and EngineRemote if
    the engine is on another machine.
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
        f" {MOUNT_HINT if is_in_container() else _cure(' '.join(tried.values()))}"
    )


def usual_sockets(env: Mapping[str, str]) -> Iterator[Path]:
    """The default sockets of the supported engines, the most likely first."""
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
    """A client whose engine has answered once; the caller closes it.

    Raises EngineSilent, with the reason and a remedy, if the engine does not answer.
    """
    # Probed first because the SDK leaks the socket of a failed connection.
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
    """A client of the engine that `find_engine` finds, closed with the block.

    Errors of the SDK within the block become EngineUnavailable; its message begins with `refusal`.
    Raises what `find_engine` and `open_client` raise.
    """
    address = find_engine(env)
    with closing(open_client(address, timeout_s)) as client:
        try:
            yield client, address
        except (DockerException, RequestException) as failure:
            raise EngineUnavailable(f"{refusal}: {failure}") from failure


def ask_version(address: EngineAddress) -> str:
    """The engine's name and version, over a new connection. Raises EngineSilent if none comes."""
    with closing(open_client(address, VERSION_TIMEOUT_S, pool_size=1)) as client:
        try:
            version = client.version()
        except (DockerException, RequestException, OSError) as failure:
            raise EngineSilent(_does_not_answer(address, _reason(failure))) from failure
    platform = version.get("Platform", {}).get("Name") or "Docker Engine"
    return f"{platform} {version.get('Version', '')}".strip()


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
    # The docker command names a context's folder by the digest of the context's name.
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
    """Why a Unix socket cannot be used; None if it can, or if the address is no Unix socket."""
    scheme, _, path = address.url.partition("://")
    if scheme not in {"unix", "http+unix"}:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return "no such socket"
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
    """The text of the innermost error, the system's own; the SDK wraps it four times."""
    cause: BaseException = failure
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).rstrip(".")


def _cure(reason: str) -> str:
    if "permission denied" in reason.lower():
        return (
            "Add yourself to the group that owns the socket: sudo usermod -aG docker $USER, "
            "then log in again."
        )
    return RESTART_HINT if "timed out" in reason.lower() else INSTALL_HINT


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
