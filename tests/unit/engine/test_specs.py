"""What Docker is asked for when a sandbox is made."""

import io
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from chowder_local.core.domain import Egress, SandboxId, SandboxSpec
from chowder_local.core.errors.sandboxes import EgressUnavailable
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks
from chowder_local.engine.specs import (
    AGENT_UID,
    CA_FILE,
    Limits,
    SandboxTemplate,
    container_options,
    fingerprint,
    job_options,
    tar_of_files,
    volume_files,
)
from chowder_local.engine.volume_archives import read_single_file

SPEC = SandboxSpec(SandboxId("chowder-3f9c0a1b2c3d"), {"openclaw.json": b"{}"})


OPEN = SandboxNetwork("chowder-store-1", "172.20.0.1", "172.20.0.1")
CLOSED = SandboxNetwork("chowder-store-1-closed", "172.21.0.1", "172.21.0.1")
NETWORKS = SandboxNetworks(OPEN, CLOSED)


def template(**options: Any) -> SandboxTemplate:
    known: dict[str, Any] = {"networks": NETWORKS, "command": ("gateway", "--bind", "lan")}
    return SandboxTemplate(
        store_id="store-1",
        image="chowder-sandbox:1",
        limits=Limits(memory_mb=2048, cpus=1.5, pids=512),
        **known | options,
    )


def options(**surroundings: Any) -> dict[str, Any]:
    return container_options(SPEC, template(**surroundings))


def test_a_sandbox_has_no_rights_on_the_host() -> None:
    asked = options()
    assert asked["user"] == "1000:1000"
    assert asked["cap_drop"] == ["ALL"]
    assert asked["security_opt"] == ["no-new-privileges"]
    assert asked["read_only"] is True
    assert not {"privileged", "cap_add", "devices", "pid_mode", "ipc_mode"} & asked.keys()


def test_a_sandbox_can_use_up_no_more_of_the_host_than_it_may() -> None:
    asked = options()
    assert asked["mem_limit"] == asked["memswap_limit"] == "2048m"
    assert asked["nano_cpus"] == 1_500_000_000
    assert asked["pids_limit"] == 512
    assert asked["log_config"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert asked["ulimits"] == [
        {"Name": "nofile", "Soft": 16384, "Hard": 16384},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]


def test_a_sandbox_writes_to_its_own_volume_and_a_bounded_tmp_alone() -> None:
    asked = options()
    assert asked["volumes"] == {"chowder-3f9c0a1b2c3d": {"bind": "/data", "mode": "rw"}}
    assert list(asked["tmpfs"]) == ["/tmp"]
    assert "size=256m" in asked["tmpfs"]["/tmp"]
    assert "nosuid" in asked["tmpfs"]["/tmp"]


def test_the_gateway_is_published_on_this_machine_only_at_a_free_port() -> None:
    assert options()["ports"] == {"18789/tcp": ("127.0.0.1", None)}


def test_the_model_relay_is_found_by_one_name_wherever_it_is() -> None:
    asked = options()
    # The second is what the configurations of older agents have.
    assert asked["extra_hosts"] == {"relay.local": "172.20.0.1", "relay.internal": "172.20.0.1"}
    assert asked["network"] == "chowder-store-1"


def test_without_egress_it_is_where_nothing_leads_out_and_asks_no_name_server() -> None:
    spec = replace(SPEC, egress=Egress.OFF)
    closed, opened = container_options(spec, template()), options()
    assert closed["network"] == "chowder-store-1-closed"
    assert closed["extra_hosts"] == {"relay.local": "172.21.0.1", "relay.internal": "172.21.0.1"}
    assert closed["dns"] == ["127.0.0.1"]
    # It would publish nothing, and does not seem to.
    assert "ports" not in closed
    # Nothing that an agent has left runs before the way to this host is closed, too.
    assert closed["entrypoint"][:2] == ["sh", "-c"]
    assert closed["entrypoint"][3:] == ["sh", "gateway", "--bind", "lan"]
    ours = {"network", "extra_hosts", "dns", "ports", "entrypoint", "command"}
    assert {name: closed[name] for name in closed.keys() - ours} == {
        name: opened[name] for name in opened.keys() - ours
    }


def test_beside_a_server_in_a_container_it_publishes_nothing_and_waits_for_its_rules() -> None:
    joined = options(networks=SandboxNetworks(OPEN, CLOSED, joined_by="c0ffee"))
    assert "ports" not in joined
    assert joined["entrypoint"][3:] == ["sh", "gateway", "--bind", "lan"]
    ours = {"ports", "entrypoint", "command"}
    assert {name: joined[name] for name in joined.keys() - ours} == {
        name: options()[name] for name in options().keys() - ours
    }


def test_an_engine_that_cannot_keep_it_in_says_so_instead_of_letting_it_out() -> None:
    lacking = template(networks=SandboxNetworks(OPEN, None, "it is a ship."))
    with pytest.raises(EgressUnavailable, match=r"^Egress cannot be off here: it is a ship\.$"):
        container_options(replace(SPEC, egress=Egress.OFF), lacking)
    assert container_options(SPEC, lacking) == options()
    assert fingerprint("image", lacking) != fingerprint("image", template())


def test_a_sandbox_is_found_again_by_its_labels_and_its_name() -> None:
    asked = options()
    assert asked["name"] == "chowder-3f9c0a1b2c3d"
    assert asked["labels"] == {
        "dev.chowder-local.store": "store-1",
        "dev.chowder-local.sandbox": "chowder-3f9c0a1b2c3d",
    }


def test_docker_never_restarts_a_sandbox_on_its_own() -> None:
    assert options()["restart_policy"] == {"Name": "no"}


def test_the_environment_holds_no_secret_and_no_certificates_unless_they_are_given() -> None:
    assert options()["environment"] == {
        "HOME": "/data",
        "OPENCLAW_SUPERVISOR_MODE": "external",
        "OPENCLAW_NO_RESPAWN": "1",
    }


def test_the_surroundings_may_add_to_the_environment_but_not_take_from_it() -> None:
    environment = options(environment={"OPENCLAW_CLAWHUB_URL": "http://hub", "HOME": "/"})
    assert environment["environment"]["OPENCLAW_CLAWHUB_URL"] == "http://hub"
    assert environment["environment"]["HOME"] == "/data"
    assert volume_files(SPEC, template()) == {"openclaw.json": b"{}"}


def test_given_certificates_are_put_on_the_volume_and_named_to_node_and_openssl() -> None:
    environment = options(ca_bundle=b"PEM")["environment"]
    path = "/data/.openclaw/chowder-ca.pem"
    assert environment["NODE_EXTRA_CA_CERTS"] == environment["SSL_CERT_FILE"] == path
    assert volume_files(SPEC, template(ca_bundle=b"PEM")) == {
        "openclaw.json": b"{}",
        CA_FILE: b"PEM",
    }


@pytest.mark.parametrize(
    "files", [{}, {"openclaw.json": b'{"a": 1}', "agents/main/agent/x.json": b"", "big": b"x" * 99}]
)
def test_files_are_packed_so_that_only_the_agent_reads_them(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of_files(files))) as tar:
        entries = tar.getmembers()
        unpacked = {entry.name: tar.extractfile(entry) for entry in entries}
        assert {name: file.read() for name, file in unpacked.items() if file} == files
    assert {(entry.uid, entry.gid, entry.mode) for entry in entries} <= {
        (AGENT_UID, AGENT_UID, 0o600)
    }


def test_a_file_is_unpacked_and_a_folder_is_none() -> None:
    assert read_single_file(tar_of_files({"schema.json": b"{}"})) == b"{}"
    assert read_single_file(tar_of_files({})) is None
    folder = io.BytesIO()
    with tarfile.open(fileobj=folder, mode="w") as tar:
        entry = tarfile.TarInfo("schema.json")
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    assert read_single_file(folder.getvalue()) is None


def test_what_runs_beside_a_sandbox_has_no_more_rights_and_reaches_nothing() -> None:
    asked = job_options(SPEC.id, template(), ("node", "--eval", "x"))
    alike = ("image", "user", "cap_drop", "security_opt", "read_only", "nano_cpus", "volumes")
    assert {name: asked[name] for name in alike} == {name: options()[name] for name in alike}
    assert asked["network_mode"] == "none"
    assert asked["entrypoint"] == ["node", "--eval", "x"]
    assert asked["mem_limit"] == asked["memswap_limit"] == "512m"
    assert asked["pids_limit"] == 64
    assert not {"privileged", "cap_add", "devices", "ports", "network"} & asked.keys()


def test_what_runs_beside_a_sandbox_is_found_by_a_sweep_and_taken_for_no_sandbox() -> None:
    labels = job_options(SPEC.id, template(), ("true",))["labels"]
    assert labels == {"dev.chowder-local.store": "store-1"}
