"""Operations that only the local server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from tests.api.conftest import Api


async def test_health_needs_no_key(http: Api) -> None:
    await http.world.placed(InstanceStatus.RUNNING)
    answer = await http.get("/local/health", key=None)
    assert answer.status_code == 200
    report = answer.json()
    assert report["status"] == "ok"
    assert report["engine"] == {"reachable": True, "version": "Scripted 1.0", "error": None}
    assert report["instances"]["running"] == 1


async def test_health_answers_while_the_engine_does_not(http: Api) -> None:
    http.world.engine.failing["version"] = EngineUnavailable("The engine is on holiday.")
    answer = await http.get("/local/health", key=None)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_a_server_that_answers_is_ready(http: Api) -> None:
    answer = await http.get("/local/ready", key=None)
    assert (answer.status_code, answer.json()) == (200, {"ready": True})


async def test_a_log_is_plain_text_with_the_requested_lines(http: Api) -> None:
    instance = await http.world.created()
    http.world.engine.log = "".join(f"line {number}\n" for number in range(300))
    path = f"/local/instances/{instance.id}/logs"
    usual, short = await http.get(path), await http.get(f"{path}?tail=2")
    assert usual.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(usual.text.splitlines()) == 200
    assert short.text == "line 298\nline 299"


@pytest.mark.parametrize("follow", ["1", "true", "YES"])
async def test_a_log_can_be_followed(http: Api, follow: str) -> None:
    instance = await http.world.created()
    http.world.engine.log = "one\ntwo\n"
    answer = await http.get(f"/local/instances/{instance.id}/logs?tail=1&follow={follow}")
    assert answer.text == "two\n"
    assert http.world.engine.made("follow_log") == 1


@pytest.mark.parametrize(
    ("failure", "status"),
    [(SandboxMissing("It is gone."), 404), (EngineUnavailable("It is away."), 502)],
)
async def test_a_log_that_cannot_be_followed_is_an_error_response(
    http: Api, failure: ChowderError, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await http.world.created()
    http.world.engine.failing["follow_log"] = failure
    answer = await http.get(f"/local/instances/{instance.id}/logs?follow=true")
    assert (answer.status_code, answer.json()) == (status, {"detail": str(failure)})
    assert "defect" not in caplog.text


@pytest.mark.parametrize("follow", ["0", "false", "no"])
async def test_a_log_is_not_followed_by_default(shared: Api, agent: Instance, follow: str) -> None:
    await shared.get(f"/local/instances/{agent.id}/logs?follow={follow}")
    assert shared.world.engine.made("follow_log") == 0


@pytest.mark.parametrize("tail", ["0", "-1", "1.5", "all", "", "100001", "٣x", "9" * 5000])
async def test_an_invalid_number_of_lines_is_a_422(shared: Api, agent: Instance, tail: str) -> None:
    answer = await shared.get(f"/local/instances/{agent.id}/logs", params={"tail": tail})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["query", "tail"]
    assert set(problem) == {"loc", "msg", "type"}


@pytest.mark.parametrize("follow", ["", "maybe", "2"])
async def test_a_follow_that_is_neither_true_nor_false_is_a_422(
    shared: Api, agent: Instance, follow: str
) -> None:
    answer = await shared.get(f"/local/instances/{agent.id}/logs", params={"follow": follow})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["query", "follow"], "bool_parsing")


async def test_the_gateway_has_an_address_and_a_token(shared: Api, agent: Instance) -> None:
    answer = await shared.get(f"/local/instances/{agent.id}/gateway")
    assert answer.json() == {
        "gateway_url": shared.world.engine.address(agent.sandbox_id),
        "token": shared.world.secret_box.gateway_token(agent.sandbox_id),
    }


@pytest.mark.parametrize("what", ["gateway", "logs", "logs?follow=true"])
async def test_a_deleted_instance_has_no_log_and_no_gateway(http: Api, what: str) -> None:
    instance = await http.world.created()
    await http.call("DELETE", f"/v1/instances/{instance.id}")
    answer = await http.get(f"/local/instances/{instance.id}/{what}")
    words = {"detail": "Instance is terminated, but must be alive for this."}
    assert (answer.status_code, answer.json()) == (409, words)


async def test_an_instances_egress_is_shown_and_set(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}"
    view: dict[str, Any] = {"id": instance.id, "name": "Ada", "status": "running"}
    view |= {"hibernate": True, "is_hibernated": False, "node": None}
    usual = view | {"egress": None, "egress_in_force": "on"}
    assert (await http.get(path)).json() == usual
    closed = await http.patch(path, json={"egress": "off"})
    expected = view | {"status": "provisioning", "egress": "off", "egress_in_force": "off"}
    assert (closed.status_code, closed.json()) == (200, expected)
    await http.world.settled(instance)
    assert (await http.get(path)).json() == expected | {"status": "running"}
    assert (await http.patch(path, json={"egress": None})).json()["egress_in_force"] == "on"
    # The contract's view does not have it.
    assert "egress" not in (await http.get(f"/v1/instances/{instance.id}")).text


@pytest.mark.parametrize("body", [{"egress": "maybe"}, {"egress": True}, {"egress": ""}])
async def test_an_invalid_egress_is_a_422(
    shared: Api, agent: Instance, body: dict[str, Any]
) -> None:
    answer = await shared.patch(f"/local/instances/{agent.id}", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "egress"]


async def test_metrics_need_no_key_and_name_routes_by_template(http: Api) -> None:
    instance = await http.world.created()
    for path in ("", "/status", "/session/secret%2Fname/responses", "/nowhere"):
        await http.get(f"/v1/instances/{instance.id}{path}")
    answer = await http.get("/local/metrics", key=None)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "chowder_requests_total"
    }
    assert samples == {
        ("GET", "/v1/instances/{instance_id}", "2xx"): 1,
        ("GET", "/v1/instances/{instance_id}/status", "2xx"): 1,
        ("GET", "/v1/instances/{instance_id}/session/{session_id:path}/responses", "4xx"): 1,
        ("GET", "other", "4xx"): 1,
    }


async def test_metrics_have_no_data_of_organizations(http: Api) -> None:
    world = http.world
    instance = await world.created(name="planted-name")
    await http.get("/v1/instances?planted-query=1", headers={"X-Request-Id": "planted-id"})
    await http.call("PLANTED", "/planted-path")
    text = (await http.get("/local/metrics", key=None)).text
    assert 'chowder_instances{status="running"} 1.0' in text
    secrets = {world.key, instance.id, instance.sandbox_id, world.organization_id, "planted"}
    assert not [each for each in secrets if each.lower() in text.lower()]


async def test_metrics_answer_while_the_engine_does_not(http: Api) -> None:
    for call in ("version", "memory", "sandboxes"):
        http.world.engine.failing[call] = EngineUnavailable("The engine is on holiday.")
    assert (await http.get("/local/metrics", key=None)).status_code == 200


async def test_a_head_request_for_events_ends_at_once(http: Api) -> None:
    answer = await http.call("HEAD", "/local/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert http.world.events.follower_count == 0
