"""Instances: created, read, changed, stopped, started and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.rows import every_row
from tests.conformance.shapes import (
    INSTANCE,
    INSTANCE_STATUS,
    answered,
    fits,
    invalid,
    is_recent,
    listed,
    refused,
)

if TYPE_CHECKING:
    from datetime import datetime

    from tests.conformance.client import Client


def test_a_new_instance_is_provisioning(
    api: Client, creation: dict[str, Any], began_at: datetime
) -> None:
    fits(creation, INSTANCE)
    assert creation["status"] == "provisioning"
    assert creation["model_provider"] == "anthropic"
    assert creation["sandbox_provider"] == "sandbox"
    assert creation["openclaw_version"] == "v1"
    assert creation["openclaw_config"] == {"agents.defaults.thinkingDefault": "off"}
    nulls = ("sandbox_id", "gateway_url", "region", "error_message")
    assert [name for name in nulls if creation[name] is not None] == []
    assert is_recent(creation["created_at"], began_at)
    assert creation["organization_id"] == answered(api.get("organization"), 200)["id"]


def test_a_running_instance_has_a_gateway(api: Client, agent: str) -> None:
    shown = answered(api.get(f"instances/{agent}"), 200, INSTANCE)
    assert (shown["id"], shown["status"], shown["error_message"]) == (agent, "running", None)
    assert shown["sandbox_id"]
    assert shown["gateway_url"].startswith("http")


def test_a_status_is_a_part_of_the_instance(api: Client, agent: str) -> None:
    status = answered(api.get(f"instances/{agent}/status"), 200, INSTANCE_STATUS)
    shown = answered(api.get(f"instances/{agent}"), 200)
    assert status == {name: shown[name] for name in INSTANCE_STATUS}


def test_the_list_has_the_instance_unchanged(api: Client, agent: str) -> None:
    (found,) = [each for each in listed(api.get("instances"), INSTANCE) if each["id"] == agent]
    assert found == answered(api.get(f"instances/{agent}"), 200)


def test_an_instance_counts_for_the_limit(api: Client, agent: str) -> None:
    count = answered(api.get("organization"), 200)["instance_count"]
    assert count == len(listed(api.get("instances"), INSTANCE))
    assert agent


def test_an_instance_can_be_renamed(api: Client, agent: str) -> None:
    before = answered(api.get(f"instances/{agent}"), 200)
    after = answered(api.patch(f"instances/{agent}", json={"name": "renamed"}), 200, INSTANCE)
    assert (after["id"], after["name"]) == (agent, "renamed")
    answered(api.patch(f"instances/{agent}", json={"name": before["name"]}), 200)


def test_the_configuration_of_a_running_instance_can_be_changed(api: Client, agent: str) -> None:
    body = {"openclaw_config": {"agents.defaults.thinkingDefault": "low"}}
    changed = answered(api.patch(f"instances/{agent}", json=body), 200, INSTANCE)
    assert changed["status"] == "running"
    assert changed["openclaw_config"]["agents.defaults.thinkingDefault"] == "low"


def test_an_invalid_configuration_is_refused(api: Client, agent: str) -> None:
    body = {"openclaw_config": {"agents.defaults.thinkingDefault": {"no": "such thing"}}}
    answer = api.patch(f"instances/{agent}", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    kept = answered(api.get(f"instances/{agent}"), 200)
    assert kept["openclaw_config"]["agents.defaults.thinkingDefault"] in {"off", "low"}


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


def test_an_invalid_field_is_named(api: Client) -> None:
    with every_row() as row:
        for field, value in BREACHES:
            with row(f"{field}={value!r}"):
                invalid(api.created(**{"name": "never made", field: value}), "body", field)


def test_an_instance_needs_a_name(api: Client) -> None:
    (problem,) = invalid(api.created(), "body", "name")
    assert problem["type"] == "missing"


def test_a_body_that_is_no_object_is_refused(api: Client) -> None:
    headers = {"Content-Type": "application/json"}
    with every_row() as row:
        for body in ("", "{", "nonsense", "[]", "null", "5"):
            with row(f"{body!r}"):
                invalid(api.post("instances", content=body, headers=headers), "body")


def test_an_instance_is_stopped_and_started(api: Client, agent: str) -> None:
    refused(api.post(f"instances/{agent}/start"), 409)

    stopped = answered(api.post(f"instances/{agent}/stop"), 200, INSTANCE)
    assert (stopped["id"], stopped["status"]) == (agent, "stopped")
    assert api.status(agent) == "stopped"
    refused(api.post(f"instances/{agent}/stop"), 409)
    assert agent in [each["id"] for each in listed(api.get("instances"), INSTANCE)]

    started = answered(api.post(f"instances/{agent}/start"), 200, INSTANCE)
    assert (started["id"], started["status"]) == (agent, "running")


def test_a_stopped_instance_refuses_messages_and_files(api: Client, stopped: str) -> None:
    refused(api.message(stopped, input="Hello"), 409)
    refused(api.message(stopped, "a-session", input="Hello"), 409)
    refused(api.get(f"instances/{stopped}/files"), 409)


def test_a_provisioning_instance_can_be_deleted(api: Client) -> None:
    answer = api.created(name="deleted at once")
    if answer.status_code == 402:
        pytest.skip(f"No second agent, which could be deleted: {answer.json()['detail']}")
    instance_id = answered(answer, 201, INSTANCE)["id"]
    answered(api.delete(f"instances/{instance_id}"), 204)

    assert instance_id not in [each["id"] for each in listed(api.get("instances"), INSTANCE)]
    after = api.get(f"instances/{instance_id}")
    if after.status_code != 404:
        assert answered(after, 200, INSTANCE)["status"] == "terminated"
    refused(api.post(f"instances/{instance_id}/stop"), 404, 409)
    refused(api.post(f"instances/{instance_id}/start"), 404, 409)
