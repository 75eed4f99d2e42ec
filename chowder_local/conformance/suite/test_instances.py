"""Instances: created, read, changed, stopped, started and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance.drift import (
    answered,
    fits,
    invalid,
    is_recent,
    refused,
    rejected,
)
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

THINKING = "agents.defaults.thinkingDefault"
REGION = "europe"


def test_a_new_instance_is_provisioning(
    api: ContractClient, creation: dict[str, Any], began_at: datetime
) -> None:
    fits(creation, "Instance", "createInstance")
    assert creation["status"] == "provisioning"
    assert creation["model_provider"] == "anthropic"
    assert creation["sandbox_provider"] == "sandbox"
    assert creation["openclaw_version"] == "v1"
    assert creation["openclaw_config"] == {THINKING: "off"}
    nulls = ("sandbox_id", "gateway_url", "region", "error_message")
    assert [name for name in nulls if creation[name] is not None] == []
    assert is_recent(creation["created_at"], began_at)
    assert creation["organization_id"] == answered(api.get("organization"))["id"]


def test_a_running_instance_has_a_gateway(api: ContractClient, agent: str, judge: Judge) -> None:
    shown = answered(api.get(f"instances/{agent}"))
    assert (shown["id"], shown["status"], shown["error_message"]) == (agent, "running", None)
    assert shown["sandbox_id"]
    judge("gateway-url", shown["gateway_url"])


@pytest.mark.read_only
def test_a_status_is_a_part_of_the_instance(api: ContractClient, present: str) -> None:
    status = answered(api.get(f"instances/{present}/status"))
    shown = answered(api.get(f"instances/{present}"))
    assert status == {name: shown[name] for name in status}


@pytest.mark.read_only
def test_the_list_has_the_instance_unchanged(api: ContractClient, present: str) -> None:
    (found,) = [each for each in answered(api.get("instances")) if each["id"] == present]
    assert found == answered(api.get(f"instances/{present}"))


@pytest.mark.read_only
def test_an_instance_counts_for_the_limit(api: ContractClient, present: str) -> None:
    instances = answered(api.get("instances"))
    assert answered(api.get("organization"))["instance_count"] == len(instances)
    assert present in [each["id"] for each in instances]


def test_an_instance_can_be_renamed(api: ContractClient, agent: str) -> None:
    before = answered(api.get(f"instances/{agent}"))
    after = answered(api.patch(f"instances/{agent}", json={"name": "renamed"}))
    assert (after["id"], after["name"]) == (agent, "renamed")
    answered(api.patch(f"instances/{agent}", json={"name": before["name"]}))


def test_the_configuration_of_a_running_instance_can_be_changed(
    api: ContractClient, agent: str
) -> None:
    body = {"openclaw_config": {THINKING: "low"}}
    changed = answered(api.patch(f"instances/{agent}", json=body))
    assert changed["status"] == "running"
    assert changed["openclaw_config"][THINKING] == "low"


def test_an_invalid_configuration_is_refused(api: ContractClient, agent: str, judge: Judge) -> None:
    body = {"openclaw_config": {THINKING: {"no": "such thing"}}}
    answer = api.patch(f"instances/{agent}", json=body)
    judge("refused-overrides", answer.status_code)
    rejected(answer)
    kept = answered(api.get(f"instances/{agent}"))
    assert kept["openclaw_config"][THINKING] in {"off", "low"}


def test_a_system_prompt_is_set_as_in_the_guide(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    body = {"openclaw_config": {"agent": {"system_prompt": "Be brief."}}}
    judge("system-prompt", api.patch(f"instances/{agent}", json=body).status_code)


BREACHES: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "x" * 129),
    ("name", 5),
    ("name", None),
    ("model_provider", "nobody"),
    ("sandbox_provider", 5),
    ("openclaw_version", 5),
    ("openclaw_config", "text"),
    ("openclaw_config", ["list"]),
    ("region", 5),
]
"""Invalid values for the members of a new instance."""


def test_an_invalid_field_is_named(api: ContractClient) -> None:
    with every_row() as row:
        for field, value in BREACHES:
            with row(f"{field}={value!r}"):
                invalid(api.created(**{"name": "never made", field: value}), "body", field)


@pytest.mark.read_only
def test_a_body_that_is_no_object_is_refused(api: ContractClient) -> None:
    headers = {"Content-Type": "application/json"}
    with every_row() as row:
        for body in ("", "{", "nonsense", "[]", "null", "5"):
            with row(f"{body!r}"):
                invalid(api.post("instances", content=body, headers=headers), "body")


def test_an_instance_is_stopped_and_started(api: ContractClient, agent: str) -> None:
    refused(api.post(f"instances/{agent}/start"), 409)

    stopped = answered(api.post(f"instances/{agent}/stop"))
    assert (stopped["id"], stopped["status"]) == (agent, "stopped")
    assert api.status(agent) == "stopped"
    refused(api.post(f"instances/{agent}/stop"), 409)
    assert agent in [each["id"] for each in answered(api.get("instances"))]

    started = answered(api.post(f"instances/{agent}/start"))
    assert (started["id"], started["status"]) == (agent, "running")


def test_a_stopped_instance_takes_its_configuration_only(
    api: ContractClient, stopped: str, judge: Judge
) -> None:
    answer = api.message(stopped, input="Hello")
    refused(answer, 409)
    judge("message-errors", "error" in answer.json())
    judge("should-retry", answer.headers.get("X-Should-Retry"))
    refused(api.message(stopped, "a-session", input="Hello"), 409)
    for below in ("files", "channels", "skills"):
        judge("stopped-calls", api.get(f"instances/{stopped}/{below}").status_code)
    body = {"openclaw_config": {THINKING: "low"}}
    judge("configure-stopped", api.patch(f"instances/{stopped}", json=body).status_code)


def test_a_provisioning_instance_can_be_deleted(api: ContractClient, judge: Judge) -> None:
    created = api.created_or_skipped(name="deleted at once", region=REGION)
    judge("region", created["region"])
    judge("sandbox-provider", created["sandbox_provider"])
    judge("openclaw-version", created["openclaw_version"])
    instance_id = created["id"]
    answered(api.delete(f"instances/{instance_id}"))

    assert instance_id not in [each["id"] for each in answered(api.get("instances"))]
    assert answered(api.get(f"instances/{instance_id}"))["status"] == "terminated"
    rejected(api.post(f"instances/{instance_id}/stop"))
    rejected(api.post(f"instances/{instance_id}/start"))
