"""What `doctor` looks at: each check gives findings, and each bad finding its cure."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from chowder_local import __version__
from chowder_local.core import leases
from chowder_local.core.domain import RELAY_PORT, places_in
from chowder_local.core.errors import ChowderError
from chowder_local.core.formatting import size_of
from chowder_local.core.model_endpoints import models_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts

LITTLE_DATA_BYTES = 200e6
LITTLE_ENGINE_BYTES = 4e9
NO_ENGINE_BYTES = 1e9
PROVIDER_TIMEOUT_S = 3.0
SHOWN_MODELS = 8


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `cure` says what to do about it, if anything."""

    subject: str
    level: Level
    words: str
    cure: str | None = None


def examine(
    settings: Settings,
    engine_facts: EngineFacts | ChowderError,
    image: Finding | None,
    health: Mapping[str, Any] | None,
    server: Iterable[Finding],
) -> Iterator[Finding]:
    """All that is found on this machine, from the ground up.

    `engine_facts` may be the error that the engine was not reached with; `health` is what the
    server says of itself, if it runs, and `server` is what was found out about it.
    """
    facts = None if isinstance(engine_facts, ChowderError) else engine_facts
    yield versions()
    yield from data_dir(settings)
    if isinstance(engine_facts, ChowderError):
        # The sentence of the error has its cure in it.
        yield Finding("engine", Level.FAIL, str(engine_facts))
    else:
        yield from engine(engine_facts)
    if image is not None:
        yield image
    yield from disk(settings, facts)
    if facts is not None:
        counts = None if health is None else health.get("instances") or {}
        yield memory(facts, None if counts is None else counts.get("running", 0))
    yield from ports(settings, health)
    yield from server
    yield from test_runs(settings)


def versions() -> Finding:
    words = f"chowder-local {__version__}, Python {platform.python_version()}, {platform.system()}"
    return Finding("versions", Level.OK, f"{words} {platform.release()} {platform.machine()}")


def data_dir(settings: Settings) -> Iterator[Finding]:
    """Whether data can be kept, and whether others can read it."""
    folder = settings.data_dir
    if not folder.exists():
        parent = next(above for above in folder.parents if above.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("data directory", Level.OK, f"{folder} will be made by the first 'up'")
        else:
            cure = "Choose another one with --data-dir."
            yield Finding("data directory", Level.FAIL, f"{folder} cannot be made", cure)
    elif not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        cure = f"Mend its permissions (chown, chmod 700 {folder}), or choose another: --data-dir."
        yield Finding("data directory", Level.FAIL, f"{folder} cannot be written", cure)
    elif exposed := list(_exposed(settings)):
        names = ", ".join(str(path) for path in exposed)
        yield Finding(
            "data directory", Level.WARN, f"others can read {names}", f"chmod go-rwx {names}"
        )
    else:
        yield Finding("data directory", Level.OK, str(folder))


def disk(settings: Settings, facts: EngineFacts | None) -> Iterator[Finding]:
    """Room for the store, and for image and volumes where the engine keeps them."""
    folder = next(p for p in (settings.data_dir, *settings.data_dir.parents) if p.exists())
    cure = "Make room, or choose another one with --data-dir."
    yield _free_space("disk, data", folder, LITTLE_DATA_BYTES, cure)
    # The folder is on the engine's machine: with a virtual one it is not to be seen from here.
    if facts is None or not facts.root_dir or not Path(facts.root_dir).is_dir():
        return
    root = Path(facts.root_dir)
    cure = "Make room: 'docker system df' shows what takes it."
    found = _free_space("disk, engine", root, NO_ENGINE_BYTES, cure)
    if found.level is Level.OK and shutil.disk_usage(root).free < LITTLE_ENGINE_BYTES:
        words = f"{found.words}; an image build needs 4 GB"
        found = Finding(found.subject, Level.WARN, words, cure)
    yield found
    yield from _disk_of_volumes(root)


def _disk_of_volumes(root: Path) -> Iterator[Finding]:
    """Room for agents' files, where volumes have a disk of their own."""
    subject, folder = "disk, volumes", root / "volumes"
    try:
        if folder.stat().st_dev != root.stat().st_dev:
            cure = "Make room there, or delete agents: 'docker system df -v' shows what they take."
            yield _free_space(subject, folder, NO_ENGINE_BYTES, cure, ", where agents' files are")
    except FileNotFoundError:
        return
    except OSError:
        import psutil

        # An engine's folder is root's; that something is mounted there everybody may know.
        if any(Path(each.mountpoint) == folder for each in psutil.disk_partitions(all=True)):
            words = f"{folder} is a disk of its own, which only root can look at: sudo df {folder}"
            yield Finding(subject, Level.OK, words)


def _free_space(
    subject: str, folder: Path, least_bytes: float, cure: str, remark: str = ""
) -> Finding:
    free = shutil.disk_usage(folder).free
    words = f"{size_of(free)} free at {folder}{remark}"
    if free < least_bytes:
        return Finding(subject, Level.FAIL, words, cure)
    return Finding(subject, Level.OK, words)


def engine(facts: EngineFacts) -> Iterator[Finding]:
    """An engine that answers, and what it can do for agents."""
    words = f"{facts.version} (API {facts.api_version}) on {facts.system}, at {facts.address.url}"
    yield Finding("engine", Level.OK, f"{words}, from {facts.address.source}")
    if facts.own_container is not None:
        words = f"we are in {facts.own_container[:12]}, which joins the networks of its sandboxes"
        yield Finding("container", Level.OK, words)
    if not (facts.has_memory_limit and facts.has_pids_limit):
        cure = "Enable the cgroup controllers memory and pids (rootless: systemd delegation)."
        yield Finding("limits", Level.WARN, "the engine cannot limit an agent's memory", cure)


def memory(facts: EngineFacts, running_count: int | None) -> Finding:
    """How many agents the engine's machine has memory for."""
    room = places_in(facts.memory_bytes)
    words = f"{size_of(facts.memory_bytes)} and {facts.cpu_count} processors: about {room} agents"
    if running_count is not None:
        words += f", {running_count} there now"
    cure = "Give the engine's machine more memory, or stop and remove agents."
    if room < 1:
        return Finding("memory", Level.FAIL, words, cure)
    if room < 2 or (running_count or 0) > room:
        return Finding("memory", Level.WARN, words, cure)
    return Finding("memory", Level.OK, words)


def test_runs(settings: Settings) -> Iterator[Finding]:
    """What test runs have left that were killed: nobody else has the keys of their agents."""
    left = [
        f"{each.facts.get('name')} (process {each.facts.get('pid')}, "
        f"since {each.facts.get('began_at')}, {each.facts.get('base_url', 'in a container')})"
        for each in leases.abandoned(settings.leases_dir)
    ]
    if left:
        words = f"agents of test runs that were killed may be running: {', '.join(left)}"
        cure = "The next run with the pytest plugin ends them, and 'reset --abandoned' does now."
        yield Finding("test runs", Level.WARN, words, cure)


def provider(endpoint: Endpoint, *, is_named: bool) -> Finding:
    """Whether it answers, and with which models; Ollama need not be there unless it was named."""
    subject = f"provider {endpoint.name}"
    if endpoint.is_offline:
        return Finding(subject, Level.OK, "answered by the built-in offline model")
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.has_secret else {}
    try:
        answer = httpx.get(f"{endpoint.url}/models", headers=headers, timeout=PROVIDER_TIMEOUT_S)
    except httpx.HTTPError as failure:
        if not is_named:
            words = f"not running at {endpoint.url}; models {endpoint.name}/… need it"
            return Finding(subject, Level.OK, words)
        why = str(failure) or type(failure).__name__
        words = f"nothing answers at {endpoint.url}: {why}"
        return Finding(subject, Level.WARN, words, endpoint.cure)
    if answer.is_success and (models := models_in(answer.content)) is not None:
        shown = ", ".join(f"{endpoint.name}/{model}" for model in models[:SHOWN_MODELS])
        more = f" and {len(models) - SHOWN_MODELS} more" if len(models) > SHOWN_MODELS else ""
        return Finding(subject, Level.OK, f"{endpoint.url} has {shown or 'no models'}{more}")
    words = f"{endpoint.url}/models answers {answer.status_code}, and lists no models"
    cure = "If messages fail too: such a URL mostly ends in /v1, and a key may be wanted."
    return Finding(subject, Level.WARN, words, cure)


def ports(settings: Settings, health: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Whether the API and the relay have, or can have, their ports."""
    if health is not None:
        yield Finding("port, API", Level.OK, f"the server listens at {health.get('base_url')}")
        relay = (health.get("relay") or {}).get("url")
        yield Finding("port, relay", Level.OK, f"sandboxes find the relay at {relay}")
        return
    problem = _bind_problem(settings.host, settings.port)
    if problem is None:
        yield Finding("port, API", Level.OK, f"{settings.port} on {settings.host} is free")
    else:
        words = f"{settings.port} on {settings.host}: {problem}"
        cure = f"Stop what has it (ss -ltnp 'sport = :{settings.port}'), or choose with --port."
        yield Finding("port, API", Level.FAIL, words, cure)
    if _bind_problem("127.0.0.1", RELAY_PORT) is None:
        yield Finding("port, relay", Level.OK, f"{RELAY_PORT} is free")
    else:
        words = f"{RELAY_PORT} is taken"
        cure = "A first 'up' chooses another by itself; later ones need the port they had."
        yield Finding("port, relay", Level.WARN, words, cure)


def _exposed(settings: Settings) -> Iterator[Path]:
    for path in (settings.secret_file, settings.default_key_file, settings.seed_file):
        if path.exists() and path.stat().st_mode & 0o077:
            yield path


def _bind_problem(host: str, port: int) -> str | None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # As the server does: an old connection in TIME_WAIT is no other listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as failure:
        return (failure.strerror or str(failure)).lower()
    return None
