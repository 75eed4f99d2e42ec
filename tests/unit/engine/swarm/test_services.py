"""A sandbox as a Swarm service."""

from __future__ import annotations

import pytest

from chowder_local.core.domain import AGENT_MEMORY_BYTES, Egress, SandboxId, SandboxSpec
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import specs
from chowder_local.engine.swarm.engine import NETWORKS
from chowder_local.engine.swarm.services import NODE_LABEL, image_label, service_spec

IMAGE_ID = "sha256:" + "a1" * 32
SPEC = SandboxSpec(SandboxId("chowder-1"))
LIMITS = specs.Limits(memory_mb=2048, cpus=1.5, pids=512)
TEMPLATE = specs.SandboxTemplate("store", "image:1", NETWORKS, LIMITS, command=("openclaw", "run"))


def options(egress: Egress = Egress.ON) -> dict[str, object]:
    return specs.container_options(SandboxSpec(SPEC.id, egress=egress), TEMPLATE)


def test_a_service_has_all_limits_and_hardening_of_a_container() -> None:
    task = service_spec(options(), IMAGE_ID, None)["TaskTemplate"]
    container = task["ContainerSpec"]
    assert container["CapabilityDrop"] == ["ALL"]
    assert container["Privileges"] == {"NoNewPrivileges": True}
    assert container["ReadOnly"] is True
    assert container["Init"] is True
    assert container["User"] == "1000:1000"
    assert container["Hosts"] == ["host-gateway host.local"]
    assert {"Name": "core", "Soft": 0, "Hard": 0} in container["Ulimits"]
    assert task["Resources"]["Limits"] == {
        "MemoryBytes": 2048 * 1024 * 1024,
        "NanoCPUs": 1_500_000_000,
        "Pids": 512,
    }
    assert task["Resources"]["Reservations"]["MemoryBytes"] == AGENT_MEMORY_BYTES
    assert task["RestartPolicy"] == {"Condition": "none"}


def test_its_files_are_on_a_volume_with_our_labels() -> None:
    mounts = service_spec(options(), IMAGE_ID, None)["TaskTemplate"]["ContainerSpec"]["Mounts"]
    volume, tmp = mounts
    assert (volume["Source"], volume["Target"]) == ("chowder-1", "/data")
    assert volume["VolumeOptions"]["Labels"]["dev.chowder-local.sandbox"] == "chowder-1"
    assert tmp["VolumeOptions"]["DriverConfig"]["Options"] == {
        "type": "tmpfs", "device": "tmpfs", "o": "nosuid,nodev,size=256m,mode=1777",
    }  # fmt: skip


def test_it_goes_where_the_image_is_or_to_the_node_that_has_its_files() -> None:
    new = service_spec(options(), IMAGE_ID, None)
    assert new["TaskTemplate"]["Placement"]["Constraints"] == [
        f"node.labels.{image_label(IMAGE_ID)}==there"
    ]
    assert NODE_LABEL not in new["Labels"]
    places = service_spec(options(), IMAGE_ID, None, ["n3"])["TaskTemplate"]["Placement"]
    assert places["Constraints"][1:] == ["node.id!=n3"]
    again = service_spec(options(), IMAGE_ID, "n2")
    assert again["TaskTemplate"]["Placement"]["Constraints"] == ["node.id==n2"]
    assert again["Labels"][NODE_LABEL] == "n2"


def test_its_command_waits_until_the_node_has_completed_it() -> None:
    container = service_spec(options(), IMAGE_ID, None)["TaskTemplate"]["ContainerSpec"]
    assert container["Command"][0] == "sh"
    assert container["Command"][-2:] == ["openclaw", "run"]


def test_without_egress_it_asks_no_name_server_but_the_engines_own() -> None:
    closed = service_spec(options(Egress.OFF), IMAGE_ID, None)["TaskTemplate"]["ContainerSpec"]
    assert closed["DNSConfig"] == {"Nameservers": ["127.0.0.1"]}


def test_an_option_that_a_swarm_cannot_give_is_refused_instead_of_dropped() -> None:
    with pytest.raises(EngineUnavailable, match="these options: cgroup_parent"):
        service_spec({**options(), "cgroup_parent": "/other"}, IMAGE_ID, None)
