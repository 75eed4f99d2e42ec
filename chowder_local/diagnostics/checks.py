"""The checks of `doctor`, alone or in a running server: each bad finding has a cure."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chowder_local import __version__
from chowder_local.core.data_dir import abandoned_leases
from chowder_local.core.domain import RELAY_PORT, agent_capacity
from chowder_local.core.errors import ChowderError
from chowder_local.core.model_endpoints import models_in
from chowder_local.core.wording import size_of
from chowder_local.openclaw.shortcuts import SHORTCUTS, unproved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.settings import Settings
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.instances.monitoring.health import Health

MIN_DATA_BYTES = 200e6
MIN_ENGINE_BYTES = 1e9
IMAGE_BUILD_BYTES = 4e9
PROVIDER_TIMEOUT_S = 3.0
MAX_LISTED_MODELS = 8
SHIM_PREFIX = "io.containerd."
"""Docker finds runtimes with such a name by itself."""
RUNTIME_COST = (
    "gVisor's runsc takes 1.7 x the processor time for a boot and 1.5 x for a message, and allows "
    "no 'egress off'"
)


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The result of one check; `cure` says what to do, and is None if nothing is wrong."""

    subject: str
    level: Level
    words: str
    cure: str | None = None


def examine(
    settings: Settings,
    engine_facts: EngineFacts | ChowderError,
    images: Iterable[Finding],
    health: Mapping[str, Any] | None,
    server: Iterable[Finding],
) -> Iterator[Finding]:
    """Yields all findings about this machine and its server.

    `engine_facts` is an error if the engine cannot be used; `images` are the findings about the
    sandbox image. `health` is the server's own report, None if no server runs; `server` are the
    findings about it.
    """
    facts = None if isinstance(engine_facts, ChowderError) else engine_facts
    yield versions()
    yield from data_dir(settings)
    if isinstance(engine_facts, ChowderError):
        # The error's message contains its cure.
        yield Finding("engine", Level.FAIL, str(engine_facts))
    else:
        yield from engine(engine_facts)
        if settings.container_runtime is not None:
            yield runtime(settings.container_runtime, engine_facts)
    yield from images
    yield from disk(settings, facts)
    if facts is not None:
        counts = None if health is None else health.get("instances") or {}
        yield memory(facts, None if counts is None else counts.get("running", 0))
    yield from ports(settings, health)
    if health is not None:
        yield features(health)
    yield from server
    yield from test_runs(settings)


def versions() -> Finding:
    program = f"chowder-local {__version__}, Python {platform.python_version()}"
    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Finding("versions", Level.OK, f"{program}, {machine}")


def data_dir(settings: Settings) -> Iterator[Finding]:
    """Whether the data directory can be written and has its database, and whether other users can
    read its secrets.
    """
    folder = settings.data_dir
    if not folder.exists():
        parent = next(each for each in folder.parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("data directory", Level.OK, f"the first 'up' will create {folder}")
        else:
            cure = "Choose another one with --data-dir."
            yield Finding("data directory", Level.FAIL, f"{folder} cannot be created", cure)
    elif not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        cure = f"Fix its permissions (chown, chmod 700 {folder}), or use another --data-dir."
        yield Finding("data directory", Level.FAIL, f"{folder} cannot be written", cure)
    elif settings.has_lost_database:
        words = f"{settings.database_file} is missing or empty, but the directory has been in use"
        cure = "Put a copy of it back, or remove what is left with 'reset'."
        yield Finding("data directory", Level.FAIL, words, cure)
    elif exposed := list(_exposed(settings)):
        names = ", ".join(str(path) for path in exposed)
        yield Finding(
            "data directory", Level.WARN, f"other users can read {names}", f"chmod go-rwx {names}"
        )
    else:
        yield Finding("data directory", Level.OK, str(folder))


def disk(settings: Settings, facts: EngineFacts | None) -> Iterator[Finding]:
    """The free space for the store, and for the engine's images and volumes."""
    folder = next(p for p in (settings.data_dir, *settings.data_dir.parents) if p.exists())
    cure = "Free space, or choose another data directory with --data-dir."
    yield _free_space("disk, data", folder, MIN_DATA_BYTES, cure)
    # The folder is on the engine's machine. A virtual machine's is not visible from here.
    if facts is None or not facts.root_dir or not Path(facts.root_dir).is_dir():
        return
    root = Path(facts.root_dir)
    cure = "Free space: 'docker system df' shows what uses it."
    finding = _free_space("disk, engine", root, MIN_ENGINE_BYTES, cure)
    if finding.level is Level.OK and shutil.disk_usage(root).free < IMAGE_BUILD_BYTES:
        words = f"{finding.words}; an image build needs 4 GB"
        finding = Finding(finding.subject, Level.WARN, words, cure)
    yield finding
    yield from _disk_of_volumes(root)


def _disk_of_volumes(root: Path) -> Iterator[Finding]:
    """The free space for agents' files, if volumes are on a separate disk."""
    subject, folder = "disk, volumes", root / "volumes"
    try:
        if folder.stat().st_dev != root.stat().st_dev:
            cure = "Free space there, or delete agents: 'docker system df -v' shows their volumes."
            yield _free_space(subject, folder, MIN_ENGINE_BYTES, cure, ", where agents' files are")
    except FileNotFoundError:
        return
    except OSError:
        import psutil

        # Only root can read the engine's folder, but everybody can list the mounts.
        if any(Path(each.mountpoint) == folder for each in psutil.disk_partitions(all=True)):
            words = f"{folder} is a separate disk; only root can check it, with: sudo df {folder}"
            yield Finding(subject, Level.OK, words)


def _free_space(
    subject: str, folder: Path, min_bytes: float, cure: str, remark: str = ""
) -> Finding:
    free = shutil.disk_usage(folder).free
    words = f"{size_of(free)} free at {folder}{remark}"
    if free < min_bytes:
        return Finding(subject, Level.FAIL, words, cure)
    return Finding(subject, Level.OK, words)


def engine(facts: EngineFacts) -> Iterator[Finding]:
    """The engine's version, and whether it can limit agents."""
    words = f"{facts.version} (API {facts.api_version}) on {facts.system}, at {facts.address.url}"
    yield Finding("engine", Level.OK, f"{words}, from {facts.address.source}")
    if facts.own_container is not None:
        words = f"this is {facts.own_container[:12]}, which joins the networks of its sandboxes"
        yield Finding("container", Level.OK, words)
    if not (facts.has_memory_limit and facts.has_pids_limit):
        cure = "Enable the cgroup controllers memory and pids (rootless: systemd delegation)."
        yield Finding("limits", Level.WARN, "the engine cannot limit an agent's memory", cure)


def runtime(name: str, facts: EngineFacts) -> Finding:
    """Whether the engine has the runtime of CHOWDER_CONTAINER_RUNTIME."""
    if name in facts.runtimes or name.startswith(SHIM_PREFIX):
        return Finding("runtime", Level.OK, f"agents run under {name}; {RUNTIME_COST}")
    words = f"the engine has no runtime {name}, but {', '.join(facts.runtimes) or 'none by name'}"
    cure = "Add it to the engine's daemon.json, or unset CHOWDER_CONTAINER_RUNTIME."
    return Finding("runtime", Level.FAIL, words, cure)


def shortcuts(off: Mapping[str, str], openclaw_version: str | None) -> Iterator[Finding]:
    """Which uses of OpenClaw's inside do not fit its release, with what is done without each.

    `off` are the reasons by name; the version is None if the image does not say it.
    """
    cure = "Everything else works. A chowder-local that knows this OpenClaw has the shortcut again."
    for each in SHORTCUTS:
        if each.name in off:
            words = f"{each.name}: {off[each.name]}; so {each.plain_way}"
            yield Finding("shortcut", Level.WARN, words, cure)
    if openclaw_version is None:
        return
    if untried := [each for each in unproved(openclaw_version) if each.name not in off]:
        words = f"{len(untried)} fit OpenClaw {openclaw_version}, but are not proved for it"
        cure = (
            "If agents misbehave, use the OpenClaw that this version of chowder-local comes with."
        )
        yield Finding("shortcuts", Level.WARN, words, cure)
    elif not off:
        words = f"all {len(SHORTCUTS)} fit OpenClaw {openclaw_version}"
        yield Finding("shortcuts", Level.OK, words)


def memory(facts: EngineFacts, running_count: int | None) -> Finding:
    """How many agents fit in the memory of the engine's machine."""
    capacity = agent_capacity(facts.memory_bytes)
    words = (
        f"{size_of(facts.memory_bytes)} and {facts.cpu_count} processors: about {capacity} agents"
    )
    if running_count is not None:
        words += f", {running_count} running"
    cure = "Give the engine's machine more memory, or stop and remove agents."
    if capacity < 1:
        return Finding("memory", Level.FAIL, words, cure)
    if capacity < 2 or (running_count or 0) > capacity:
        return Finding("memory", Level.WARN, words, cure)
    return Finding("memory", Level.OK, words)


def test_runs(settings: Settings) -> Iterator[Finding]:
    """Agents of killed test runs, which only `reset --abandoned` or the next run can remove."""
    left = [
        f"{each.facts.get('name')} (process {each.facts.get('pid')}, "
        f"since {each.facts.get('began_at')}, {each.facts.get('base_url', 'in a container')})"
        for each in abandoned_leases(settings.leases_dir)
    ]
    if left:
        words = f"killed test runs may have left agents running: {', '.join(left)}"
        cure = "Remove them with 'reset --abandoned'; the next run of the pytest plugin does, too."
        yield Finding("test runs", Level.WARN, words, cure)


def provider(endpoint: Endpoint, *, is_named: bool) -> Finding:
    """Whether a provider answers, and its models. Only one that was named (`is_named`) must run."""
    # The server, which imports this module too, has another client.
    import httpx

    subject = f"provider {endpoint.name}"
    if endpoint.is_offline:
        return Finding(subject, Level.OK, "answered by the built-in offline model")
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.has_secret else {}
    try:
        response = httpx.get(f"{endpoint.url}/models", headers=headers, timeout=PROVIDER_TIMEOUT_S)
    except httpx.HTTPError as failure:
        if not is_named:
            words = f"not running at {endpoint.url}; models {endpoint.name}/… need it"
            return Finding(subject, Level.OK, words)
        why = str(failure) or type(failure).__name__
        words = f"nothing answers at {endpoint.url}: {why}"
        return Finding(subject, Level.WARN, words, endpoint.remedy)
    if response.is_success and (models := models_in(response.content)) is not None:
        names = ", ".join(f"{endpoint.name}/{model}" for model in models[:MAX_LISTED_MODELS])
        more = f" and {rest} more" if (rest := len(models) - MAX_LISTED_MODELS) > 0 else ""
        return Finding(subject, Level.OK, f"{endpoint.url} has {names or 'no models'}{more}")
    words = f"{endpoint.url}/models answers {response.status_code}, and lists no models"
    cure = "If messages fail too, check the URL, which usually ends in /v1, and the key."
    return Finding(subject, Level.WARN, words, cure)


def features(health: Mapping[str, Any]) -> Finding:
    """What the server can do besides the contract."""
    return Finding("features", Level.OK, ", ".join(health.get("features") or ()) or "none")


def ports(settings: Settings, health: Mapping[str, Any] | None) -> Iterator[Finding]:
    """The ports of a running server, or whether those that a server needs are free."""
    if health is not None:
        yield Finding("port, API", Level.OK, f"the server listens at {health.get('base_url')}")
        relay = (health.get("relay") or {}).get("url")
        yield Finding("port, relay", Level.OK, f"sandboxes reach the relay at {relay}")
        return
    problem = _bind_problem(settings.host, settings.port)
    if problem is None:
        yield Finding("port, API", Level.OK, f"{settings.port} on {settings.host} is free")
    else:
        words = f"{settings.port} on {settings.host}: {problem}"
        cure = f"Stop what uses it (ss -ltnp 'sport = :{settings.port}'), or choose another --port."
        yield Finding("port, API", Level.FAIL, words, cure)
    if _bind_problem("127.0.0.1", RELAY_PORT) is None:
        yield Finding("port, relay", Level.OK, f"{RELAY_PORT} is free")
    else:
        words = f"{RELAY_PORT} is in use"
        cure = "A first 'up' chooses another port; later ones need the port that they had."
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
            # The server sets this option, too: a connection in TIME_WAIT does not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as failure:
        return (failure.strerror or str(failure)).lower()
    return None


@dataclass(eq=False, repr=False)
class ServerDiagnosis:
    """Runs all checks for each report, with some calls to the engine."""

    settings: Settings
    health: Health
    engine_facts: Callable[[], Awaitable[EngineFacts]]

    async def report(self) -> tuple[dict[str, Any], list[Finding]]:
        """The server's health report, and all findings."""
        health = await self.health.report()
        pool = [_pool(health["pool"]), *_nodes(health["nodes"])]
        facts: EngineFacts | ChowderError
        images: list[Finding] = []
        try:
            facts = await self.engine_facts()
            images = list(_images(health))
        except ChowderError as failure:
            facts = failure
        checks = examine(self.settings, facts, images, health, pool)
        return health, await asyncio.to_thread(list, checks)


def _images(health: Mapping[str, Any]) -> Iterator[Finding]:
    if (problem := health["engine"]["error"]) is not None:
        # The error's message contains its cure.
        yield Finding("image", Level.FAIL, problem)
        return
    yield Finding("image", Level.OK, f"{health['image']} is there")
    if (off := health["shortcuts_off"]) is not None:
        yield from shortcuts(off, health["openclaw_version"])


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A finding for each machine of a swarm."""
    for node in nodes:
        subject, words = f"node, {node['name']}", f"{node['sandboxes']} sandboxes"
        if not node["is_linked"]:
            problem = node["problem"] or "its worker does not answer; see docker node ls"
            yield Finding(subject, Level.WARN, f"{words}; {problem}")
            continue
        free_gb = (node["available_bytes"] or 0) / 1e9
        drained = ", drained" if node["is_drained"] else ""
        yield Finding(subject, Level.OK, f"{words}, {free_gb:.1f} GB of memory free{drained}")


def _pool(pool: Mapping[str, Any]) -> Finding:
    words = f"{pool['ready']} of {pool['size']} warm sandboxes ready"
    if pool["error"] is not None:
        return Finding("pool", Level.WARN, f"{words}; {pool['error']}")
    return Finding("pool", Level.OK, words)
