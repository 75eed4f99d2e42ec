"""Fault injection: faults hit the next calls of their kind, look real, and hide no error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, Permission
from chowder_local.core.events import EventType
from chowder_local.features.front import all_operations
from tests.api.test_access import scoped
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Api

ASKED: dict[str, Any] = {"model": "claude-sonnet-4-20250514", "input": "Hi"}
NEVER_S = 600.0


async def set_fault(http: Api, kind: str, **more: Any) -> dict[str, Any]:
    """A fault of our organization."""
    answer = await http.post("/local/faults", json={"kind": kind, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def faults_left(http: Api) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = (await http.get("/local/faults")).json()
    return results


async def running(http: Api) -> str:
    return (await http.world.created()).id


async def send_message(http: Api, instance_id: str, **more: Any) -> httpx.Response:
    return await http.post(f"/v1/instances/{instance_id}/responses", json=ASKED | more)


def without_id(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer, without its id."""
    headers = {name: each for name, each in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, answer.content, headers


async def test_a_new_fault_is_returned_with_its_defaults(http: Api) -> None:
    made = await set_fault(http, "message", status=429)
    assert made == {
        "id": made["id"], "kind": "message", "left": 1, "instance_id": None, "status": 429,
        "detail": None, "retry_after_s": 1, "delay_s": 0.0, "after_events": None, "method": None,
        "path": None, "channel": None, "effect": None, "created_at": "2026-05-04T03:02:01Z",
    }  # fmt: skip
    assert await faults_left(http) == [made]


USUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "create"}, {"status": 402}),
    ({"kind": "start"}, {"status": 502}),
    ({"kind": "stop"}, {"status": 502}),
    ({"kind": "message"}, {"status": 502}),
    ({"kind": "call", "path": "/v1/keys"}, {"status": 500}),
    ({"kind": "stream"}, {"status": None, "after_events": 1}),
    ({"kind": "stream", "after_events": 0}, {"after_events": 0}),
    ({"kind": "provisioning"}, {"detail": "Provisioning failed: a fault was injected."}),
    ({"kind": "provisioning", "delay_s": 2}, {"detail": None, "delay_s": 2.0}),
    ({"kind": "provisioning", "delay_s": 2, "detail": "No."}, {"detail": "No."}),
    ({"kind": "start", "delay_s": 2}, {"status": None, "retry_after_s": None}),
    ({"kind": "message", "delay_s": 2, "detail": "No."}, {"status": 502}),
    ({"kind": "message", "delay_s": 2, "status": 429}, {"status": 429, "retry_after_s": 1}),
    ({"kind": "message", "retry_after_s": 9, "status": 503}, {"retry_after_s": 9}),
    ({"kind": "channel"}, {"effect": "refused", "status": 429, "retry_after_s": 1}),
    ({"kind": "channel", "delay_s": 2}, {"effect": "late", "status": None}),
    ({"kind": "channel", "delay_s": 2, "status": 503}, {"effect": "refused", "status": 503}),
    ({"kind": "channel", "effect": "twice", "channel": "slack"}, {"status": None}),
]
"""Requests, and members of their answers."""
SENSELESS: list[dict[str, Any]] = [
    {},
    {"kind": "boredom"},
    {"kind": "message", "times": 0},
    {"kind": "message", "times": 1001},
    {"kind": "message", "status": 200},
    {"kind": "message", "status": 600},
    {"kind": "message", "delay_s": -1},
    {"kind": "message", "delay_s": 601},
    {"kind": "message", "detail": ""},
    {"kind": "message", "after_events": 3},
    {"kind": "message", "path": "/v1/keys"},
    {"kind": "message", "method": "GET"},
    {"kind": "stream", "status": 500},
    {"kind": "stream", "after_events": -1},
    {"kind": "provisioning", "status": 500},
    {"kind": "message", "effect": "twice"},
    {"kind": "message", "channel": "slack"},
    {"kind": "channel", "channel": "pigeon"},
    {"kind": "channel", "effect": "late"},
    {"kind": "channel", "effect": "twice", "status": 429},
    {"kind": "channel", "effect": "cut", "delay_s": 1},
    {"kind": "provisioning", "instance_id": "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d"},
    {"kind": "create", "instance_id": "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d"},
    {"kind": "call"},
    {"kind": "call", "path": "/v1/nowhere"},
    {"kind": "call", "path": "/v1/keys", "method": "PUT"},
    {"kind": "call", "path": "/local/health"},
    # A misspelt member.
    {"kind": "message", "statsu": 429},
    {"kind": "call", "path": "/local/faults"},
    {"kind": "call", "path": "/local/faults/{fault_id}"},
]


async def test_the_defaults_of_each_kind(http: Api) -> None:
    for payload, expected in USUAL:
        made = (await http.post("/local/faults", json=payload)).json()
        assert {name: made[name] for name in expected} == expected, payload


async def test_a_fault_that_can_match_no_call_is_a_422(http: Api) -> None:
    for payload in SENSELESS:
        answer = await http.post("/local/faults", json=payload)
        assert answer.status_code == 422, payload
        assert answer.json()["detail"][0]["loc"][0] == "body"
    assert not http.world.faults.are_set


async def test_a_fault_for_an_unknown_instance_is_a_404(http: Api) -> None:
    payload = {"kind": "stop", "instance_id": "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d"}
    answer = await http.post("/local/faults", json=payload)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Instance not found."})
    assert not http.world.faults.are_set


async def test_faults_can_be_removed(http: Api) -> None:
    first, second, third = [await set_fault(http, kind) for kind in ("stop", "start", "create")]
    assert (await http.call("DELETE", f"/local/faults/{second['id']}")).status_code == 204
    assert await faults_left(http) == [first, third]
    again = await http.call("DELETE", f"/local/faults/{second['id']}")
    assert (again.status_code, again.json()) == (404, {"detail": "Fault not found."})
    assert (await http.call("DELETE", "/local/faults")).status_code == 204
    assert await faults_left(http) == []


async def test_the_number_of_faults_is_limited(http: Api) -> None:
    for _ in range(100):
        await set_fault(http, "stop")
    answer = await http.post("/local/faults", json={"kind": "stop"})
    assert answer.status_code == 409
    assert "DELETE /local/faults" in answer.json()["detail"]


async def test_a_fault_is_injected_into_as_many_calls_as_set(http: Api) -> None:
    instance_id = await running(http)
    await set_fault(http, "message", times=2)
    assert [(await send_message(http, instance_id)).status_code for _ in range(3)] == [
        502,
        502,
        200,
    ]


async def test_faults_are_injected_in_the_order_in_which_they_were_set(http: Api) -> None:
    instance_id = await running(http)
    for status in (503, 409, 402):
        await set_fault(http, "message", status=status)
    results = [(await send_message(http, instance_id)).status_code for _ in range(4)]
    assert results == [503, 409, 402, 200]


async def test_a_fault_for_one_instance_leaves_the_others_alone(http: Api) -> None:
    meant, other = await running(http), await running(http)
    await set_fault(http, "message", instance_id=meant)
    assert (await send_message(http, other)).status_code == 200
    assert (await send_message(http, meant)).status_code == 502


async def test_a_fault_leaves_other_organizations_alone(http: Api) -> None:
    their_key = await http.other_key()
    await http.post("/local/faults", json={"kind": "create"}, key=their_key)
    made = await http.post("/v1/instances", json={"name": "Bea"})
    assert made.status_code == 201
    refused = await http.post("/v1/instances", json={"name": "Bea"}, key=their_key)
    assert refused.status_code == 402
    assert (await http.get("/local/faults", key=their_key)).json() == []


async def test_a_fault_is_injected_into_calls_of_scoped_keys_too(http: Api) -> None:
    instance = await http.world.created()
    key = await scoped(http, instance.id, Permission.INTERACT)
    await set_fault(http, "message")
    path = f"/v1/instances/{instance.id}/responses"
    assert (await http.post(path, json=ASKED, key=key)).status_code == 502


async def test_an_injected_fault_is_an_event(http: Api) -> None:
    instance_id = await running(http)
    fault = await set_fault(http, "message")
    await send_message(http, instance_id)
    event = http.world.events.after(0)[-1]
    assert (event.type, event.instance_id) == (EventType.FAULT_APPLIED, instance_id)
    assert event.members == {"fault_id": fault["id"], "fault": "message", "left": 0}


async def test_a_create_fault_looks_like_the_instance_limit(http: Api) -> None:
    their_key = await http.other_key()
    model_keys = {"model_api_keys": {"anthropic": "offline"}}
    await http.patch("/v1/organization", json=model_keys, key=their_key)
    await http.post("/local/faults", json={"kind": "create"}, key=their_key)
    first = await http.post("/v1/instances", json={"name": "Ada"}, key=their_key)
    assert (await http.post("/v1/instances", json={"name": "Ada"}, key=their_key)).is_success
    real = await http.post("/v1/instances", json={"name": "Ada"}, key=their_key)
    assert without_id(first) == without_id(real)
    assert real.json() == {"detail": "Instance limit reached (1/1). Upgrade your subscription."}


@pytest.mark.parametrize(("kind", "before"), [("start", "stopped"), ("stop", "running")])
async def test_a_409_of_start_or_stop_looks_like_the_wrong_status(
    http: Api, kind: str, before: str
) -> None:
    instance = await (http.world.stopped() if before == "stopped" else http.world.created())
    path = f"/v1/instances/{instance.id}/{kind}"
    await set_fault(http, kind, status=409)
    faked = await http.post(path)
    assert (await http.get(f"/v1/instances/{instance.id}")).json()["status"] == before
    assert (await http.post(path)).status_code == 200
    assert without_id(faked) == without_id(await http.post(path))


async def test_a_502_of_a_message_looks_like_an_unreachable_gateway(http: Api) -> None:
    instance = await http.world.created()
    await set_fault(http, "message")
    faked = await send_message(http, instance.id)
    await http.world.instances.change(
        instance.id, now=http.world.clock.now, gateway_url="http://127.0.0.1:9"
    )
    assert without_id(faked) == without_id(await send_message(http, instance.id))
    expected = {"error": "Gateway unavailable – the sandbox does not answer"}
    assert faked.json()["detail"] == expected


DETAILS: list[tuple[int, Any]] = [
    (400, "Bad Request"),
    (401, "Invalid API key."),
    (402, {"error": "The model provider anthropic answered 402: Your credit balance is too "
                    "low."}),
    (403, "This key lacks the 'interact' permission for this instance."),
    (404, "Instance not found."),
    (422, [{"loc": ["body"], "msg": "Value error", "type": "value_error"}]),
    (429, {"error": "The model provider anthropic answered 429: Rate limit reached."}),
    (500, "Internal server error."),
    (503, {"error": "The model provider anthropic answered 503: The service is overloaded. "
                    "Try again later."}),
    (599, "HTTP 599"),
]  # fmt: skip
"""By status: the detail of a message's answer."""


async def test_a_message_can_be_answered_with_any_error_status(http: Api) -> None:
    instance_id = await running(http)
    for status, detail in DETAILS:
        await set_fault(http, "message", status=status)
        answer = await send_message(http, instance_id)
        assert (answer.status_code, answer.json()["detail"]) == (status, detail)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (401, "No, no."),
        (422, [{"loc": ["body"], "msg": "No, no.", "type": "value_error"}]),
        (502, {"error": "No, no."}),
    ],
)
async def test_detail_replaces_the_usual_message(http: Api, status: int, detail: Any) -> None:
    await set_fault(http, "message", status=status, detail="No, no.", retry_after_s=3)
    answer = await send_message(http, await running(http))
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert "No, no." in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"] == "3"
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_a_stream_fault_is_not_injected_without_a_stream(http: Api) -> None:
    instance_id = await running(http)
    await set_fault(http, "stream")
    assert (await send_message(http, instance_id)).status_code == 200
    assert len(await faults_left(http)) == 1


async def test_a_delayed_message_is_answered_after_the_delay(http: Api) -> None:
    instance_id = await running(http)
    await set_fault(http, "message", delay_s=0.01)
    answer = await send_message(http, instance_id)
    assert answer.json()["output"][0]["content"][0]["text"] == "Hello there."
    assert await faults_left(http) == []


async def test_a_delayed_message_is_refused_when_the_server_stops(http: Api) -> None:
    instance_id = await running(http)
    await set_fault(http, "message", delay_s=NEVER_S)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(send_message(http, instance_id))
        await eventually(lambda: not http.world.faults.are_set, "it waits")
        http.world.shutdown.begin()
    answer = sending.result()
    assert (answer.status_code, "stopping" in answer.text) == (502, True)
    assert http.world.gateway.messages == []


async def test_a_delayed_call_has_its_effect(http: Api) -> None:
    instance = await http.world.stopped()
    await set_fault(http, "start", delay_s=0.01)
    answer = await http.post(f"/v1/instances/{instance.id}/start")
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    await set_fault(http, "create", delay_s=0.01)
    assert (await http.post("/v1/instances", json={"name": "Bea"})).json()["name"] == "Bea"


@pytest.mark.parametrize(
    ("method", "path", "request_"),
    [
        ("GET", "/v1/instances", {}),
        ("GET", "/v1/instances/{}/files?path=.", {}),
        ("PUT", "/v1/instances/{}/files/content", {"json": {"path": "a", "content": "b"}}),
        ("POST", "/v1/instances/{}/files/upload", {"files": {"file": ("a", b"b")}}),
        ("POST", "/v1/keys", {"json": {"name": "x", "instance_ids": ["x"],
                                       "permissions": ["read"]}}),
        ("GET", "/local/instances/{}", {}),
    ],
)  # fmt: skip
async def test_a_fault_can_be_injected_into_any_call_that_needs_a_key(
    http: Api, method: str, path: str, request_: dict[str, Any]
) -> None:
    address = path.format(await running(http))
    await set_fault(http, "call", path="*", method=method, status=503)
    answer = await http.call(method, address, is_documented=False, **request_)
    assert (answer.status_code, answer.json()) == (503, {"detail": "Service Unavailable"})
    assert await faults_left(http) == []


async def test_a_call_fault_matches_the_path_template(http: Api) -> None:
    instance_id = await running(http)
    await set_fault(http, "call", path="/v1/instances/{instance_id}/session/{session_id}/*")
    assert (await send_message(http, instance_id)).status_code == 200
    path = f"/v1/instances/{instance_id}/session/x/responses"
    assert (await http.post(path, json=ASKED)).status_code == 500


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (404, "Key not found."),
        (403, "This call needs an organization key."),
        (409, "Instance is stopped, but must be running for this."),
        (418, "I'm a Teapot"),
        (402, "Payment Required"),
    ],
)
async def test_an_injected_status_has_the_message_of_a_real_error(
    http: Api, status: int, detail: str
) -> None:
    body = {"name": "x", "instance_ids": [await running(http)], "permissions": ["read"]}
    key_id = (await http.post("/v1/keys", json=body)).json()["id"]
    await set_fault(http, "call", path="/v1/keys/{key_id}", status=status)
    answer = await http.get(f"/v1/keys/{key_id}", is_documented=False)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert (await http.get(f"/v1/keys/{key_id}")).status_code == 200


async def test_a_502_of_stop_looks_like_an_absent_engine(http: Api) -> None:
    instance = await http.world.created()
    await set_fault(http, "stop")
    answer = await http.post(f"/v1/instances/{instance.id}/stop")
    assert answer.status_code == 502
    assert answer.json()["detail"].startswith("The container engine does not answer")
    assert (await http.world.now(instance)).status is InstanceStatus.RUNNING


CONFIG = {"openclaw_config": {"gateway": {"port": 1}}}
MISTAKES: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("message", "POST", "/v1/instances/{running}/responses", {"json": {"model": "x"}}, 422),
    ("message", "POST", "/v1/instances/{running}/responses", {"content": b"{"}, 422),
    ("message", "POST", "/v1/instances/{running}/responses", {"json": ASKED | {"model": "x"}}, 400),
    ("message", "POST", "/v1/instances/{running}/responses",
     {"json": ASKED | {"model": "gemini-2.0-flash"}}, 400),
    ("message", "POST", "/v1/instances/{running}/responses",
     {"json": ASKED | {"background": True}}, 400),
    ("message", "POST", "/v1/instances/{stopped}/responses", {"json": ASKED}, 409),
    ("message", "POST", "/v1/instances/{running}/responses", {"json": ASKED, "key": "bad"}, 401),
    ("message", "POST", "/v1/instances/{running}/responses", {"json": ASKED, "key": "read"}, 403),
    ("message", "POST", "/v1/instances/none/responses", {"json": ASKED}, 404),
    ("create", "POST", "/v1/instances", {"json": {}}, 422),
    ("create", "POST", "/v1/instances", {"json": {"name": "x"} | CONFIG}, 400),
    ("start", "POST", "/v1/instances/{running}/start", {}, 409),
    ("start", "POST", "/v1/instances/none/start", {}, 404),
    ("stop", "POST", "/v1/instances/{stopped}/stop", {}, 409),
    ("stop", "POST", "/v1/instances/{running}/stop", {"key": "read"}, 403),
    ("call", "GET", "/v1/instances/{running}/files/content", {}, 422),
    ("call", "DELETE", "/v1/instances/none", {}, 404),
    ("call", "DELETE", "/v1/keys/none", {}, 404),
    ("call", "GET", "/v1/instances/{stopped}/files", {}, 409),
    ("call", "GET", "/v1/instances/{stopped}/skills", {}, 409),
    ("call", "GET", "/v1/instances/{stopped}/channels", {}, 409),
]  # fmt: skip


async def test_no_fault_hides_an_error_in_the_call(http: Api) -> None:
    world = http.world
    going, stopped = await world.created(), await world.stopped()
    reader = await scoped(http, going.id, Permission.READ)
    wrong = []
    for kind, method, path, told_request, status in MISTAKES:
        request = told_request | ({"key": reader} if told_request.get("key") == "read" else {})
        address = path.format(running=going.id, stopped=stopped.id)
        real = await http.call(method, address, **request)
        # A status that no error of these calls has.
        await set_fault(http, kind, status=503, **({"path": "*"} if kind == "call" else {}))
        faulty = await http.call(method, address, **request)
        # The fault is left for a valid call.
        is_left = len(http.world.faults.of_organization(world.organization_id)) == 1
        if real.status_code != status or without_id(faulty) != without_id(real) or not is_left:
            wrong.append(
                (kind, method, path, told_request, without_id(real), without_id(faulty), is_left)
            )
        world.faults.clear(world.organization_id)
    assert wrong == []


async def test_a_provisioning_fault_sets_the_error_message(http: Api) -> None:
    await set_fault(http, "provisioning", detail="No room in the harbour.")
    made = await http.post("/v1/instances", json={"name": "Ada"})
    assert (made.status_code, made.json()["status"]) == (201, "provisioning")
    path = f"/v1/instances/{made.json()['id']}"
    await eventually(lambda: not http.world.provisioner.in_progress_count, "the boot has ended")
    results = (await http.get(path)).json()
    assert (results["status"], results["error_message"]) == ("error", "No room in the harbour.")
    assert http.world.engine.made("boot") == 0
    assert (await http.call("DELETE", path)).status_code == 204
    assert (await http.world.created()).status is InstanceStatus.RUNNING


async def test_every_operation_of_the_contract_that_needs_a_key_takes_faults(http: Api) -> None:
    theirs = {each.path for each in all_operations() if each.path.startswith("/v1/")}
    for path in sorted(theirs - {"/v1/organization/signup"}):
        if path.endswith("/channels/{channel}"):
            continue
        await set_fault(http, "call", path=path.replace(":path}", "}"))
