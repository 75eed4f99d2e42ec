"""The nodes of a swarm, and the worker of each, as a manager knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import docker


@dataclass(frozen=True)
class WorkerPlace:
    """A running worker's container, and its address on the network that it shares with servers."""

    container_id: str
    address: str


@dataclass(frozen=True)
class Member:
    """A node; `worker` is None while none runs there."""

    id: str
    hostname: str
    is_up: bool
    is_drained: bool
    memory_bytes: int
    worker: WorkerPlace | None


def read_members(client: docker.DockerClient, service: str, network: str) -> list[Member]:
    """All nodes, with the tasks of the service of workers. Blocks; raises the SDK's errors."""
    # The SDK's types leave Swarm out.
    api: Any = client.api
    # That of a drained node is to end, and still runs.
    tasks = sorted(api.tasks({"service": service}), key=lambda task: str(task["CreatedAt"]))
    workers = {each["NodeID"]: place for each in tasks if (place := _place(each, network))}
    return [_member(each, workers) for each in api.nodes()]


def add_label(client: docker.DockerClient, node_id: str, name: str, value: str) -> None:
    """Adds a label to a node, unless it has it. Blocks; raises the SDK's errors."""
    node = client.nodes.get(node_id)
    spec = node.attrs["Spec"]
    if (spec.get("Labels") or {}).get(name) != value:
        node.update({**spec, "Labels": {**(spec.get("Labels") or {}), name: value}})


def _member(node: dict[str, Any], workers: dict[str, WorkerPlace]) -> Member:
    description = node.get("Description") or {}
    return Member(
        id=node["ID"],
        hostname=str(description.get("Hostname") or node["ID"]),
        is_up=node["Status"]["State"] == "ready",
        is_drained=node["Spec"]["Availability"] == "drain",
        memory_bytes=int((description.get("Resources") or {}).get("MemoryBytes") or 0),
        worker=workers.get(node["ID"]),
    )


def _place(task: dict[str, Any], network: str) -> WorkerPlace | None:
    if task["Status"]["State"] != "running":
        return None
    for attachment in task.get("NetworksAttachments") or ():
        if attachment["Network"]["Spec"]["Name"] == network:
            address, _, _ = attachment["Addresses"][0].partition("/")
            return WorkerPlace(task["Status"]["ContainerStatus"]["ContainerID"], address)
    return None
