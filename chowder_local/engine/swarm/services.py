"""Sandboxes as Swarm services, one each, and their containers on a node."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from chowder_local.core.domain import AGENT_MEMORY_BYTES, SandboxId
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import labels, volume_archives
from chowder_local.engine.containers import OwnedResources
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.threads import ensure_awaited

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import docker
    from docker.models.containers import Container

    from chowder_local.core.domain import SandboxInfo, SandboxSpec
    from chowder_local.engine import specs
    from chowder_local.engine.networks import SandboxNetworks

NODE_LABEL = "dev.chowder-local.node"
"""The id of the node that has a sandbox's volume."""

AGENT_CPUS = 0.05
"""What Swarm reserves: agents mostly wait."""

PLACE_TIMEOUT_S = 60.0
PLACE_INTERVAL_S = 0.05
_ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})

# Swarm's API lacks these options, so the node's worker applies them once the container waits.
_DONE_ON_THE_NODE = frozenset({"cpu_shares", "memswap_limit", "network", "ports"})


@dataclass(frozen=True)
class Placed:
    """Where a sandbox's container is."""

    node_id: str
    container_id: str


def service_spec(
    options: Mapping[str, Any], image_id: str, node_id: str | None, away: Iterable[str] = ()
) -> dict[str, Any]:
    """The service of a sandbox with these arguments of `containers.create` (pure).

    With a `node_id` it is placed there, else where there is room and the image, but not on nodes
    that are `away`: Swarm notices that later. Raises EngineUnavailable for an option that neither
    Swarm nor a worker can give a sandbox.
    """
    left = {name: value for name, value in options.items() if name not in _DONE_ON_THE_NODE}
    memory_bytes = _bytes(left.pop("mem_limit"))
    (volume,), (tmp,) = left.pop("volumes").items(), left.pop("tmpfs").items()
    entrypoint, command = left.pop("entrypoint", None), left.pop("command", None)
    log_config, restart_policy = left.pop("log_config"), left.pop("restart_policy")
    wanted = dict(left.pop("labels"))
    name, dns = left.pop("name"), left.pop("dns", None)
    hosts = left.pop("extra_hosts")
    container: dict[str, Any] = {
        # The image is named by its id: for a tag, each node would ask a registry first.
        "Image": image_id,
        "Hostname": left.pop("hostname"),
        "Labels": wanted,
        "Env": [f"{name}={value}" for name, value in left.pop("environment").items()],
        "User": left.pop("user"),
        "CapabilityDrop": left.pop("cap_drop"),
        "Privileges": {"NoNewPrivileges": left.pop("security_opt") == ["no-new-privileges"]},
        "ReadOnly": left.pop("read_only"),
        "Init": left.pop("init"),
        "Ulimits": [dict(each) for each in left.pop("ulimits")],
        "Mounts": [_volume(volume, wanted), _tmpfs(*tmp)],
        **({"Command": entrypoint} if entrypoint else {}),
        **({"Args": command} if command else {}),
        **({"Hosts": [f"{address} {host}" for host, address in hosts.items()]} if hosts else {}),
        **({"DNSConfig": {"Nameservers": dns}} if dns else {}),
    }
    left.pop("image")
    limits = {
        "MemoryBytes": memory_bytes,
        "NanoCPUs": left.pop("nano_cpus"),
        "Pids": left.pop("pids_limit"),
    }
    if left or restart_policy != {"Name": "no"}:
        names = ", ".join(sorted(left)) or "restart_policy"
        raise EngineUnavailable(f"Swarm cannot give a sandbox these options: {names}.")
    places = [f"node.id=={node_id}"]
    if node_id is None:
        places = [f"node.labels.{image_label(image_id)}==there", *(f"node.id!={x}" for x in away)]
    return {
        "Name": str(name),
        "Labels": wanted | ({NODE_LABEL: node_id} if node_id else {}),
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {
                "Limits": limits,
                "Reservations": {
                    "MemoryBytes": min(AGENT_MEMORY_BYTES, memory_bytes),
                    "NanoCPUs": int(AGENT_CPUS * 1e9),
                },
            },
            # The server starts sandboxes again; Swarm would put them on nodes without their files.
            "RestartPolicy": {"Condition": "none"},
            "LogDriver": {"Name": log_config["Type"], "Options": log_config["Config"]},
            # The worker connects them to their node's own network.
            "Networks": [{"Target": "bridge"}],
            "Placement": {"Constraints": places},
        },
        "Mode": {"Replicated": {"Replicas": 1}},
    }


def image_label(image_id: str) -> str:
    """The label of nodes that have an image."""
    return f"dev.chowder-local.image-{image_id.removeprefix('sha256:')[:12]}"


class SwarmServices:
    """The services of one data directory, through a manager's engine. All calls block."""

    def __init__(self, client: docker.DockerClient, store_id: str) -> None:
        # The SDK's types leave Swarm out.
        self._api: Any = client.api
        self._store_id = store_id

    def start(self, spec: dict[str, Any]) -> Placed:
        """Creates a service, in place of one that Swarm never placed, and waits for its container.

        Then it stays on that node. Raises EngineUnavailable if Swarm does not start it.
        """
        name = SandboxId(spec["Name"])
        self.remove(name)
        ensure_awaited()
        made = self._api.create_service(
            spec["TaskTemplate"], name=name, labels=spec["Labels"], mode=spec["Mode"]
        )
        try:
            placed = self._placed(str(made["ID"]))
        except EngineUnavailable:
            # Swarm would keep the service, and start it when nobody waits for it any more.
            self.remove(name)
            raise
        self._place(name, placed.node_id, {})
        return placed

    def _placed(self, service_id: str) -> Placed:
        deadline_s = time.monotonic() + PLACE_TIMEOUT_S
        while True:
            ensure_awaited()
            task = next(iter(self._api.tasks({"service": service_id})), None)
            status = {} if task is None else task["Status"]
            state = status.get("State")
            if task is not None and state == "running":
                return Placed(task["NodeID"], status["ContainerStatus"]["ContainerID"])
            reason = str(status.get("Err") or status.get("Message") or "no node has taken it")
            if state in _ENDED or time.monotonic() >= deadline_s:
                raise EngineUnavailable(f"Swarm could not start a sandbox: {reason}.")
            if state == "pending" and "insufficient resources" in reason:
                raise EngineUnavailable(f"No node has room for a sandbox: {reason}.")
            # In a thread; Swarm has no events for the states of tasks.
            time.sleep(PLACE_INTERVAL_S)

    def park(self, sandbox_id: SandboxId, node_id: str) -> None:
        """Notes that a sandbox that does not run has its volume on another node now."""
        self._place(sandbox_id, node_id, {"mode": {"Replicated": {"Replicas": 0}}})

    def _place(self, name: str, node_id: str, more: dict[str, Any]) -> None:
        """Keeps it on that node. Swarm leaves a task there as it is."""
        ensure_awaited()
        found = self._api.inspect_service(name)
        spec, version = found["Spec"], found["Version"]["Index"]
        spec["TaskTemplate"]["Placement"]["Constraints"] = [f"node.id=={node_id}"]
        wanted = {"labels": {**spec["Labels"], NODE_LABEL: node_id}, "mode": spec["Mode"]} | more
        self._api.update_service(
            found["ID"], version, spec["TaskTemplate"], name=spec["Name"], **wanted
        )

    def nodes_of_sandboxes(self) -> dict[SandboxId, str]:
        """The node of each sandbox that has a service."""
        found = self._api.services(labels.store_filter(self._store_id))
        all_labels = (each["Spec"].get("Labels") or {} for each in found)
        return {
            SandboxId(each[labels.SANDBOX]): each[NODE_LABEL]
            for each in all_labels
            if labels.SANDBOX in each and NODE_LABEL in each
        }

    def remove(self, sandbox_id: SandboxId) -> None:
        """Removes the service, if it is ours; its container ends a moment later."""
        try:
            found = self._api.inspect_service(sandbox_id)
        except NotFound:
            return
        if not labels.is_of_store(found["Spec"].get("Labels"), self._store_id):
            raise EngineUnavailable(
                f"The service {sandbox_id} was created by another program and is left alone. "
                "Remove or rename it."
            )
        ensure_awaited()
        try:
            self._api.remove_service(sandbox_id)
        except APIError as refused:
            if refused.status_code != HTTPStatus.NOT_FOUND:
                raise


def _volume(volume: tuple[str, Mapping[str, str]], wanted: Mapping[str, str]) -> dict[str, Any]:
    name, mount = volume
    return {
        "Type": "volume",
        "Source": name,
        "Target": mount["bind"],
        "VolumeOptions": {"Labels": dict(wanted)},
    }


def _tmpfs(target: str, text: str) -> dict[str, Any]:
    """Swarm's own mounts of this type let no program run there, so it is a volume without a name.

    It is in memory, too, and ends with the container.
    """
    options = text.split(",")
    kept = [each for each in options if each not in {"rw", "exec"}]
    driver = {"type": "tmpfs", "device": "tmpfs", "o": ",".join(kept)}
    return {
        "Type": "volume",
        "Target": target,
        "VolumeOptions": {"NoCopy": True, "DriverConfig": {"Name": "local", "Options": driver}},
    }


def _bytes(text: str) -> int:
    return int(text.removesuffix("m")) * 1024 * 1024


class TaskContainers(OwnedResources):
    """The resources that bear this data directory's labels, on one node. All calls block."""

    def find(self, sandbox_id: SandboxId) -> Container | None:
        """The sandbox's newest container; None if there is none."""
        wanted = labels.sandbox_labels(self.store_id, sandbox_id)
        filters = {"label": [f"{name}={value}" for name, value in wanted.items()]}
        rows = self._client.api.containers(all=True, filters=filters)
        for row in sorted(rows, key=lambda each: int(each["Created"]), reverse=True):
            try:
                container = self._client.containers.get(row["Id"])
            except NotFound:
                continue
            ensure_awaited()
            return container
        return None


class NodeEngine(DockerEngine):
    """One server's view of a node's engine, through the node's worker."""

    resources = TaskContainers

    async def prepare_node(self, defaults: specs.SandboxDefaults, worker: str) -> SandboxNetworks:
        """As `prepare`; `worker` is the id of the container through which sandboxes are reached.

        It stays on their networks when the server leaves.
        """
        return await self._prepare(defaults, lambda: self._networks.ensure(worker))

    async def admit(self, spec: SandboxSpec, container_id: str) -> SandboxInfo:
        """Lets a container begin that Swarm has started, as `boot` does with one that it creates.

        Raises EgressUnavailable as `boot` does.
        """
        template = await self.templates.template(spec.openclaw_version)
        admit = partial(self._starts.admit, spec, template, container_id)
        return await self._run("admit", admit, sandbox_id=spec.id, image=template.image)

    async def discard(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox's container, if it exists; the volume stays."""
        await self._run("remove", partial(self._own.discard, sandbox_id), sandbox_id=sandbox_id)

    async def put_volume(self, sandbox_id: SandboxId, tar: IO[bytes]) -> None:
        """Makes a sandbox's volume of a tar as `read_home` reads it."""
        put = partial(
            volume_archives.put_volume, self._own, sandbox_id, self.templates.own().image, tar
        )
        await self._run("write the home of", put, sandbox_id=sandbox_id)
