"""Options of the containers that Docker creates for sandboxes (pure)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docker.types import Ulimit

from chowder_local.core.domain import (
    GATEWAY_PORT,
    HOST_HOSTNAME,
    RELAY_HOSTNAME,
    Egress,
    SandboxId,
    SandboxSpec,
)
from chowder_local.core.errors.sandboxes import EgressUnavailable
from chowder_local.engine import confinement, labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    wait = {"entrypoint": confinement.waiting_command(template.command), "command": []}
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
