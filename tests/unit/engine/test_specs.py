"""Options of the containers that Docker creates for sandboxes."""

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
    defaults: dict[str, Any] = {"networks": NETWORKS, "command": ("gateway", "--bind", "lan")}
    return SandboxTemplate(
        store_id="store-1",
        image="chowder-sandbox:1",
        limits=Limits(memory_mb=2048, cpus=1.5, pids=512),
        **defaults | options,
    )


def options(**changes: Any) -> dict[str, Any]:
    return container_options(SPEC, template(**changes))


def test_a_sandbox_has_no_rights_on_the_host() -> None:
    arguments = options()
    assert arguments["user"] == "1000:1000"
    assert arguments["cap_drop"] == ["ALL"]
    assert arguments["security_opt"] == ["no-new-privileges"]
    assert arguments["read_only"] is True
    assert not {"privileged", "cap_add", "devices", "pid_mode", "ipc_mode"} & arguments.keys()


def test_a_sandboxs_resources_are_limited() -> None:
    arguments = options()
    assert arguments["mem_limit"] == arguments["memswap_limit"] == "2048m"
    assert arguments["nano_cpus"] == 1_500_000_000
    assert arguments["pids_limit"] == 512
    assert arguments["log_config"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert arguments["ulimits"] == [
        {"Name": "nofile", "Soft": 16384, "Hard": 16384},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]


def test_a_sandbox_writes_only_to_its_volume_and_a_bounded_tmp() -> None:
    arguments = options()
    assert arguments["volumes"] == {"chowder-3f9c0a1b2c3d": {"bind": "/data", "mode": "rw"}}
    assert list(arguments["tmpfs"]) == ["/tmp"]
    assert "size=256m" in arguments["tmpfs"]["/tmp"]
    assert "nosuid" in arguments["tmpfs"]["/tmp"]


def test_the_gateway_is_published_on_a_free_port_of_the_loopback() -> None:
    assert options()["ports"] == {"18789/tcp": ("127.0.0.1", None)}


def test_the_model_relay_and_the_machine_have_a_hostname() -> None:
    arguments = options()
    hosts = {"relay.local": "172.20.0.1", "host.local": "host-gateway"}
    assert arguments["extra_hosts"] == hosts
    assert arguments["network"] == "chowder-store-1"


def test_without_egress_a_sandbox_is_on_the_closed_network_without_dns() -> None:
    spec = replace(SPEC, egress=Egress.OFF)
    closed, opened = container_options(spec, template()), options()
    assert closed["network"] == "chowder-store-1-closed"
    assert closed["extra_hosts"] == {"relay.local": "172.21.0.1"}
    assert closed["dns"] == ["127.0.0.1"]
    # An internal network publishes no ports.
    assert "ports" not in closed
    # No program runs before the firewall rules are installed.
    assert closed["entrypoint"][:2] == ["sh", "-c"]
    assert closed["entrypoint"][3:] == ["sh", "gateway", "--bind", "lan"]
    ours = {"network", "extra_hosts", "dns", "ports", "entrypoint", "command"}
    assert {name: closed[name] for name in closed.keys() - ours} == {
        name: opened[name] for name in opened.keys() - ours
    }


def test_on_a_joined_network_a_sandbox_publishes_nothing_and_waits_for_rules() -> None:
    joined = options(networks=SandboxNetworks(OPEN, CLOSED, joined_by="c0ffee"))
    assert "ports" not in joined
    assert joined["entrypoint"][3:] == ["sh", "gateway", "--bind", "lan"]
    ours = {"ports", "entrypoint", "command"}
    assert {name: joined[name] for name in joined.keys() - ours} == {
        name: options()[name] for name in options().keys() - ours
    }


def test_a_sandbox_without_egress_is_refused_without_a_closed_network() -> None:
    open_only = template(networks=SandboxNetworks(OPEN, None, "not on Linux."))
    with pytest.raises(EgressUnavailable, match=r"^Egress cannot be off here: not on Linux\.$"):
        container_options(replace(SPEC, egress=Egress.OFF), open_only)
    assert container_options(SPEC, open_only) == options()
    assert fingerprint("image", open_only) != fingerprint("image", template())


def test_a_sandbox_has_its_labels_and_its_name() -> None:
    arguments = options()
    assert arguments["name"] == "chowder-3f9c0a1b2c3d"
    assert arguments["labels"] == {
        "dev.chowder-local.store": "store-1",
        "dev.chowder-local.sandbox": "chowder-3f9c0a1b2c3d",
    }


def test_docker_never_restarts_a_sandbox_on_its_own() -> None:
    assert options()["restart_policy"] == {"Name": "no"}


def test_the_default_environment_has_no_secret_and_no_certificates() -> None:
    assert options()["environment"] == {
        "HOME": "/data",
        "OPENCLAW_SUPERVISOR_MODE": "external",
        "OPENCLAW_NO_RESPAWN": "1",
    }


def test_the_template_may_add_to_the_environment_but_not_change_it() -> None:
    environment = options(environment={"OPENCLAW_CLAWHUB_URL": "http://hub", "HOME": "/"})
    assert environment["environment"]["OPENCLAW_CLAWHUB_URL"] == "http://hub"
    assert environment["environment"]["HOME"] == "/data"
    assert volume_files(SPEC, template()) == {"openclaw.json": b"{}"}


def test_a_ca_bundle_is_put_on_the_volume_and_named_to_node_and_openssl() -> None:
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
def test_files_are_readable_by_the_agent_only(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of_files(files))) as tar:
        entries = tar.getmembers()
        unpacked = {entry.name: tar.extractfile(entry) for entry in entries}
        assert {name: file.read() for name, file in unpacked.items() if file} == files
    assert {(entry.uid, entry.gid, entry.mode) for entry in entries} <= {
        (AGENT_UID, AGENT_UID, 0o600)
    }


def test_a_single_file_is_read_and_a_folder_is_not() -> None:
    assert read_single_file(tar_of_files({"schema.json": b"{}"})) == b"{}"
    assert read_single_file(tar_of_files({})) is None
    folder = io.BytesIO()
    with tarfile.open(fileobj=folder, mode="w") as tar:
        entry = tarfile.TarInfo("schema.json")
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    assert read_single_file(folder.getvalue()) is None


def test_a_volume_job_has_a_sandboxs_rights_and_no_network() -> None:
    arguments = job_options(SPEC.id, template(), ("node", "--eval", "x"))
    alike = ("image", "user", "cap_drop", "security_opt", "read_only", "nano_cpus", "volumes")
    assert {name: arguments[name] for name in alike} == {name: options()[name] for name in alike}
    assert arguments["network_mode"] == "none"
    assert arguments["entrypoint"] == ["node", "--eval", "x"]
    assert arguments["mem_limit"] == arguments["memswap_limit"] == "512m"
    assert arguments["pids_limit"] == 64
    assert not {"privileged", "cap_add", "devices", "ports", "network"} & arguments.keys()


def test_a_volume_job_has_the_stores_label_but_no_sandboxs() -> None:
    labels = job_options(SPEC.id, template(), ("true",))["labels"]
    assert labels == {"dev.chowder-local.store": "store-1"}
