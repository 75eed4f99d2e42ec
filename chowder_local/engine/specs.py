"""Options of the containers that Docker creates for sandboxes, and their firewall rules."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from docker.errors import APIError
from docker.types import Ulimit

from chowder_local.core.domain import (
    GATEWAY_PORT,
    HOST_HOSTNAME,
    RELAY_HOSTNAME,
    Egress,
    SandboxId,
    SandboxSpec,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine import labels
from chowder_local.engine.container_exec import last_line, run_exec, run_privileged
from chowder_local.engine.networks import JOINED_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxInfo
    from chowder_local.engine.networks import SandboxNetworks

HOME = "/data"

STATE_DIR = f"{HOME}/.openclaw"

CA_FILE = "chowder-ca.pem"

AGENT_UID = 1000

CPU_SHARES = 1024
"""Docker's default."""

WARM_CPU_SHARES = 256
"""A quarter of another sandbox's share, while the processors are busy."""

JOB_MEMORY_MB = 512

JOB_PIDS = 64

# Engines' defaults differ, up to a billion files. A core dump would fill the volume.
ULIMITS = {"nofile": 16384, "core": 0}

CONFINED: Mapping[str, Any] = {
    "user": f"{AGENT_UID}:{AGENT_UID}",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
}
"""Restrictions of every container with an agent or an agent's files."""

# The server supervises OpenClaw: an OpenClaw that does not start must not let a paid model repair
# it, nor update itself. A restart that it needs happens within its process.
_SUPERVISED_ENVIRONMENT = {"OPENCLAW_SUPERVISOR_MODE": "external", "OPENCLAW_NO_RESPAWN": "1"}


@dataclass(frozen=True)
class Limits:
    memory_mb: int
    cpus: float
    pids: int


@dataclass(frozen=True)
class SandboxDefaults:
    """What a server's settings say about all sandboxes.

    `image_of` returns the image's tag for an `openclaw_version`; without it, all sandboxes are of
    the one image. `runtime` is a runtime of the engine; None for its own.
    """

    image: str
    limits: Limits
    ca_bundle: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    image_of: Callable[[str], str] | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class SandboxTemplate:
    """The options that all sandboxes of one server share."""

    store_id: str
    image: str
    networks: SandboxNetworks
    limits: Limits
    ca_bundle: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """The image's own entrypoint and command."""
    runtime: str | None = None


def container_options(spec: SandboxSpec, template: SandboxTemplate) -> dict[str, Any]:
    """Arguments for the SDK's `containers.create`, for a sandbox.

    Raises EgressUnavailable if `spec` wants an isolated network and the template has none.
    """
    environment = {**template.environment, **_SUPERVISED_ENVIRONMENT, "HOME": HOME}
    if template.ca_bundle is not None:
        ca_file = f"{STATE_DIR}/{CA_FILE}"
        environment |= {"NODE_EXTRA_CA_CERTS": ca_file, "SSL_CERT_FILE": ca_file}
    if template.runtime is not None:
        # OpenClaw's native file helper needs openat2, which gVisor has only since autumn 2026.
        environment["OPENCLAW_FS_SAFE_NATIVE_MODE"] = "off"
    memory = f"{template.limits.memory_mb}m"
    return {
        "image": template.image,
        "name": spec.id,
        "hostname": "agent",
        "labels": labels.sandbox_labels(template.store_id, spec.id),
        "environment": environment,
        **CONFINED,
        **_runtime_option(template),
        "init": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108 - inside
        "mem_limit": memory,
        # Equal to the memory limit, so that a sandbox cannot slow down the host by swapping.
        "memswap_limit": memory,
        "cpu_shares": WARM_CPU_SHARES if spec.is_warm else CPU_SHARES,
        "nano_cpus": int(template.limits.cpus * 1e9),
        "pids_limit": template.limits.pids,
        "ulimits": [Ulimit(name=name, soft=limit, hard=limit) for name, limit in ULIMITS.items()],
        **_network_options(spec.egress, template),
        "volumes": {str(spec.id): {"bind": HOME, "mode": "rw"}},
        # The server restarts sandboxes; Docker would loop on a broken configuration.
        "restart_policy": {"Name": "no"},
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }


def template_of(
    defaults: SandboxDefaults,
    store_id: str,
    networks: SandboxNetworks,
    image_config: Mapping[str, Any],
) -> SandboxTemplate:
    """The template of sandboxes on these networks; `image_config` is the image's own."""
    return SandboxTemplate(
        store_id,
        defaults.image,
        networks,
        defaults.limits,
        defaults.ca_bundle,
        defaults.environment,
        command_of(image_config),
        defaults.runtime,
    )


def command_of(image_config: Mapping[str, Any]) -> tuple[str, ...]:
    """An image's own entrypoint and command."""
    parts = (image_config.get(each) or () for each in ("Entrypoint", "Cmd"))
    return tuple(word for part in parts for word in part)


def job_options(
    sandbox_id: SandboxId, template: SandboxTemplate, command: Sequence[str]
) -> dict[str, Any]:
    """Arguments for a container that runs one program on the volume of a sandbox that does not run.

    It is trusted no more than the sandbox, and has no network.
    """
    return {
        "image": template.image,
        "entrypoint": [*command],
        "command": [],
        "labels": labels.store_labels(template.store_id),
        "environment": {"HOME": HOME},
        **CONFINED,
        **_runtime_option(template),
        "stdin_open": True,
        "mem_limit": f"{JOB_MEMORY_MB}m",
        "memswap_limit": f"{JOB_MEMORY_MB}m",
        "nano_cpus": int(template.limits.cpus * 1e9),
        "pids_limit": JOB_PIDS,
        "network_mode": "none",
        "volumes": {str(sandbox_id): {"bind": HOME, "mode": "rw"}},
        # Otherwise the engine would also keep the output on its disk.
        "log_config": {"Type": "none"},
    }


def _runtime_option(template: SandboxTemplate) -> dict[str, str]:
    return {} if template.runtime is None else {"runtime": template.runtime}


def _network_options(egress: Egress, template: SandboxTemplate) -> dict[str, Any]:
    networks = template.networks
    wait = {"entrypoint": waiting_command(template.command), "command": []}
    if egress is Egress.ON:
        network = networks.open
        more: dict[str, Any] = {"ports": {f"{GATEWAY_PORT}/tcp": ("127.0.0.1", None)}}
        if networks.joined_by is not None:
            # The server reaches the sandbox at the sandbox's own address, without a port.
            more = wait
    elif networks.closed is None:
        raise EgressUnavailable(networks.problem or "there is no isolated network.")
    else:
        network = networks.closed
        # Engines before 26 forward its queries to the host's name servers (CVE-2024-29018), but
        # those for a name server of its own only from inside, where none answers.
        more = {"dns": ["127.0.0.1"], **wait}
    hosts = {} if network.relay_address is None else {RELAY_HOSTNAME: network.relay_address}
    if egress is Egress.ON:
        hosts[HOST_HOSTNAME] = network.host_address
    return {"network": network.name, "extra_hosts": hosts, **more}


def fingerprint(image_id: str, template: SandboxTemplate) -> str:
    """A digest of the image, options and files of the sandboxes made from this template."""
    choices = list(Egress) if template.networks.closed is not None else [Egress.ON]
    specs = [SandboxSpec(SandboxId("any"), egress=egress) for egress in choices]
    files = {path: content.hex() for path, content in volume_files(specs[0], template).items()}
    parts = [image_id, [container_options(spec, template) for spec in specs], files]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def volume_files(spec: SandboxSpec, template: SandboxTemplate) -> dict[str, bytes]:
    """The content of each file to put on the volume, by its path.

    The CA bundle is copied, not mounted: an engine in a virtual machine may not see its folder.
    """
    ca_files = {} if template.ca_bundle is None else {CA_FILE: template.ca_bundle}
    return {**spec.files, **ca_files}


def tar_of_files(files: Mapping[str, bytes]) -> bytes:
    """A tar of files of the agent, with mode 0600; paths are relative to its state folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o600
            entry.uid = entry.gid = AGENT_UID
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


CONFINED_MARK = "/tmp/confined"  # noqa: S108 - in the sandbox, before anybody else runs there

# Five minutes, since a node of a swarm unpacks a large home meanwhile; nothing else runs inside.
# /tmp is empty at each start: a sandbox that another program starts ends, and is booted again.
_WAIT = f"""\
n=0
until [ -e {CONFINED_MARK} ]; do
    n=$((n + 1))
    if [ "$n" -gt 15000 ]; then echo "no firewall rules; the sandbox ends" >&2; exit 1; fi
    sleep 0.02
done
exec "$@"
"""


def waiting_command(command: Sequence[str]) -> list[str]:
    """A command that waits for the firewall rules and then runs `command` (pure)."""
    return ["sh", "-c", _WAIT, "sh", *command]


def needs_confinement(egress: Egress, networks: SandboxNetworks) -> bool:
    """Whether a sandbox needs firewall rules; else its network is enough."""
    return egress is Egress.OFF or networks.joined_by is not None


def confine(
    client: docker.DockerClient,
    container: Container,
    networks: SandboxNetworks,
    egress: Egress,
    relay_port: int | None,
) -> None:
    """Installs the rules in a waiting sandbox: it may call the relay, but no other sandbox. Blocks.

    Without egress it may call nothing else, because an internal network still leads to all
    listeners on this host. If the rules are refused, raises EgressUnavailable for a sandbox
    without egress, else EngineUnavailable.
    """
    is_closed = egress is Egress.OFF
    network = networks.closed if is_closed else networks.open
    if network is None or network.relay_address is None or relay_port is None:
        raise EgressUnavailable("the model relay does not listen yet; try again in a moment.")
    arguments = [network.relay_address, str(relay_port), str(GATEWAY_PORT), CONFINED_MARK]
    if not is_closed and network.addresses is not None:
        arguments.append(network.addresses[0])
    succeeded, output = run_privileged(client, container, "confine.py", *arguments)
    if succeeded:
        return
    reason = last_line(output)
    if is_closed:
        raise EgressUnavailable(f"firewall rules for the sandbox are refused: {reason}.")
    raise EngineUnavailable(
        f"This engine cannot isolate sandboxes from each other: {reason}. Run the server on the "
        "engine's machine itself, or its container with the host's network (--network host)."
    )


@dataclass(eq=False, repr=False)
class ConfinementChecks:
    """Checks whether firewall rules are in force in the sandboxes that need them. All calls block.

    A restart removes the rules, so each start of a sandbox is checked once.
    """

    client: docker.DockerClient

    def __post_init__(self) -> None:
        self._confined_starts: dict[str, str] = {}

    def mark(self, container: Container) -> None:
        """Records that the rules were installed since the container was started."""
        self._confined_starts[str(container.id)] = container.attrs["State"]["StartedAt"]

    def check(self, info: SandboxInfo, attributes: dict[str, Any]) -> SandboxInfo:
        """`info` with `is_confined` set; `attributes` are those of an inspection."""
        if not _needs_rules(info, attributes):
            return info
        key, start = attributes["Id"], attributes["State"]["StartedAt"]
        if self._confined_starts.get(key) != start:
            if not self._is_marked(key):
                return replace(info, is_confined=False)
            self._confined_starts[key] = start
        return info

    def check_row(self, info: SandboxInfo, row: dict[str, Any]) -> SandboxInfo:
        """As `check`, for a row of the engine's list, which lacks the time of the start."""
        if not _needs_rules(info, row):
            return info
        try:
            return self.check(info, self.client.api.inspect_container(row["Id"]))
        except APIError:
            # The container is being removed; the next list will not have it.
            return info

    def forget_all_but(self, rows: Sequence[dict[str, Any]]) -> None:
        listed = {row["Id"] for row in rows}
        for key in self._confined_starts.keys() - listed:
            self._confined_starts.pop(key, None)

    def _is_marked(self, container_id: str) -> bool:
        try:
            is_marked, _ = run_exec(self.client, container_id, ["test", "-e", CONFINED_MARK])
        except APIError:
            # The sandbox has ended meanwhile; the next check sees that.
            return True
        return is_marked


def _needs_rules(info: SandboxInfo, attributes: dict[str, Any]) -> bool:
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    is_joined = any(JOINED_MARK in name for name in networks)
    return info.state is SandboxState.RUNNING and (info.egress is Egress.OFF or is_joined)
