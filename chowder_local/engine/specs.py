"""What Docker is asked for when a sandbox is made (pure)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docker.types import Ulimit

from chowder_local.core.domain import (
    FORMER_RELAY_HOSTNAME,
    GATEWAY_PORT,
    RELAY_HOSTNAME,
    Egress,
    SandboxId,
    SandboxSpec,
)
from chowder_local.core.errors.sandboxes import EgressUnavailable
from chowder_local.engine import confinement, labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chowder_local.engine.networks import SandboxNetworks

HOME = "/data"
STATE_DIR = f"{HOME}/.openclaw"
CA_FILE = "chowder-ca.pem"
AGENT_UID = 1000
CPU_SHARES = 1024
"""What a container has by default."""
WARM_CPU_SHARES = 256
"""A quarter of what any other sandbox gets, as long as others want to have it."""

JOB_MEMORY_MB = 512
JOB_PIDS = 64

# Engines differ in theirs, up to a billion files. A dump would fill the volume with memory.
ULIMITS = {"nofile": 16384, "core": 0}

CONFINED: Mapping[str, Any] = {
    "user": f"{AGENT_UID}:{AGENT_UID}",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
}
"""What every container of an agent, or of what an agent has written, runs without."""

RELAY_NAMES = (RELAY_HOSTNAME, FORMER_RELAY_HOSTNAME)

# Whether it runs is our business: when OpenClaw does not start, it must not have a model (that
# somebody pays for) repair it, nor update itself. What needs a restart restarts in its process.
_SUPERVISED = {"OPENCLAW_SUPERVISOR_MODE": "external", "OPENCLAW_NO_RESPAWN": "1"}


@dataclass(frozen=True)
class Limits:
    memory_mb: int
    cpus: float
    pids: int


@dataclass(frozen=True)
class SandboxTemplate:
    """What all sandboxes of one server have in common."""

    store_id: str
    image: str
    networks: SandboxNetworks
    limits: Limits
    ca_bundle: bytes | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """What the image runs on its own."""


def container_options(spec: SandboxSpec, template: SandboxTemplate) -> dict[str, Any]:
    """Arguments of the SDK's `containers.create`: no rights, bounded, only its volume writable.

    Raises EgressUnavailable.
    """
    environment = {**template.environment, **_SUPERVISED, "HOME": HOME}
    if template.ca_bundle is not None:
        ca_file = f"{STATE_DIR}/{CA_FILE}"
        environment |= {"NODE_EXTRA_CA_CERTS": ca_file, "SSL_CERT_FILE": ca_file}
    memory = f"{template.limits.memory_mb}m"
    return {
        "image": template.image,
        "name": spec.id,
        "hostname": "agent",
        "labels": labels.sandbox_labels(template.store_id, spec.id),
        "environment": environment,
        **CONFINED,
        "init": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108 - inside
        "mem_limit": memory,
        # Equal to the memory limit: a sandbox gets no swap, so that it cannot grind the host.
        "memswap_limit": memory,
        "cpu_shares": WARM_CPU_SHARES if spec.is_warm else CPU_SHARES,
        "nano_cpus": int(template.limits.cpus * 1e9),
        "pids_limit": template.limits.pids,
        "ulimits": [Ulimit(name=name, soft=most, hard=most) for name, most in ULIMITS.items()],
        **_way_out(spec.egress, template),
        "volumes": {str(spec.id): {"bind": HOME, "mode": "rw"}},
        # We restart what should run; Docker on its own would loop on a broken configuration.
        "restart_policy": {"Name": "no"},
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }


def job_options(
    sandbox_id: SandboxId, template: SandboxTemplate, command: Sequence[str]
) -> dict[str, Any]:
    """Arguments for a container that does one thing on a sandbox's volume while that is still.

    It is worth no more trust than the sandbox, and reaches nothing at all.
    """
    return {
        "image": template.image,
        "entrypoint": [*command],
        "command": [],
        "labels": labels.store_labels(template.store_id),
        "environment": {"HOME": HOME},
        **CONFINED,
        "stdin_open": True,
        "mem_limit": f"{JOB_MEMORY_MB}m",
        "memswap_limit": f"{JOB_MEMORY_MB}m",
        "nano_cpus": int(template.limits.cpus * 1e9),
        "pids_limit": JOB_PIDS,
        "network_mode": "none",
        "volumes": {str(sandbox_id): {"bind": HOME, "mode": "rw"}},
        # What it says would otherwise be kept on the engine's disk as well.
        "log_config": {"Type": "none"},
    }


def _way_out(egress: Egress, template: SandboxTemplate) -> dict[str, Any]:
    networks = template.networks
    if egress is Egress.ON:
        network = networks.open
        more: dict[str, Any] = {"ports": {f"{GATEWAY_PORT}/tcp": ("127.0.0.1", None)}}
        if networks.joined_by is not None:
            # The server reaches its own address.
            more = {"entrypoint": confinement.waiting_command(template.command), "command": []}
    elif networks.closed is None:
        raise EgressUnavailable(networks.problem or "there is no network for it.")
    else:
        network = networks.closed
        # Engines before 26 would ask the host's own name servers for it (CVE-2024-29018); those
        # of its own it can only ask from inside, where nobody answers.
        more = {
            "dns": ["127.0.0.1"],
            "entrypoint": confinement.waiting_command(template.command),
            "command": [],
        }
    hosts = dict.fromkeys(RELAY_NAMES, network.relay_address)
    return {"network": network.name, "extra_hosts": hosts, **more}


def fingerprint(image_id: str, template: SandboxTemplate) -> str:
    """A digest of all that sandboxes made in these surroundings have in common."""
    possible = list(Egress) if template.networks.closed is not None else [Egress.ON]
    specs = [SandboxSpec(SandboxId("any"), egress=egress) for egress in possible]
    files = {path: content.hex() for path, content in volume_files(specs[0], template).items()}
    made_of = [image_id, [container_options(spec, template) for spec in specs], files]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def volume_files(spec: SandboxSpec, template: SandboxTemplate) -> dict[str, bytes]:
    """All files that are put on the volume. The CA bundle is copied, not mounted: an engine
    in a virtual machine does not see every folder of the host.
    """
    ca_files = {} if template.ca_bundle is None else {CA_FILE: template.ca_bundle}
    return {**spec.files, **ca_files}


def tar_of_files(files: Mapping[str, bytes]) -> bytes:
    """A tar of files that only the agent can read and write; paths are relative to its state."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o600
            entry.uid = entry.gid = AGENT_UID
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
