"""The middleware: CORS, request ids, log lines and unexpected errors."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.logs import JsonLine
from chowder_local.core.metrics import Metrics
from chowder_local.http.middleware import ErrorMiddleware, RequestLog
from tests.api.conftest import ALLOWED_ORIGIN
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tests.api.conftest import Api

LOOPBACK = [
    "http://localhost:5173",
    "http://localhost",
    "https://localhost:3000",
    "http://127.0.0.1:8080",
    "http://[::1]:5173",
    "http://my-app.localhost:5173",
]
FOREIGN = [
    "https://evil.example",
    "http://localhost.evil.example",
    "http://evil.example/localhost",
    "http://127.0.0.1.evil.example",
    "http://notlocalhost:5173",
    "null",
]


async def preflight(http: Api, origin: str, method: str = "POST") -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return await http.call("OPTIONS", "/v1/instances", key=None, headers=headers)


@pytest.mark.parametrize("origin", [*LOOPBACK, ALLOWED_ORIGIN])
async def test_a_local_or_allowed_page_may_call_with_a_key(shared: Api, origin: str) -> None:
    answer = await preflight(shared, origin)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "content-type"} <= set(re.split(r"\s*,\s*", allowed))


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
async def test_a_page_may_use_every_method_of_the_contract(shared: Api, method: str) -> None:
    answer = await preflight(shared, LOOPBACK[0], method)
    assert answer.status_code == 200
    assert method in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_may_not_call(shared: Api, origin: str) -> None:
    answer = await preflight(shared, origin)
    assert answer.status_code == 400
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/organization", "/v1/nowhere", "/local/health"])
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_cannot_read_an_answer(shared: Api, origin: str, path: str) -> None:
    answer = await shared.get(path, headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("key", [None, "chd_org_bad"])
async def test_a_page_can_read_an_error_and_the_requests_id(shared: Api, key: str | None) -> None:
    answer = await shared.get("/v1/organization", key=key, headers={"Origin": LOOPBACK[0]})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == LOOPBACK[0]
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"X-Request-Id", "Retry-After"} <= set(exposed.split(", "))


async def test_every_response_has_a_unique_id(shared: Api) -> None:
    paths = ["/v1/organization", "/v1/nowhere", "/local/ready", "/docs"]
    answers = [await shared.get(path) for path in paths]
    answers.append(await shared.call("PUT", "/v1/organization"))
    answers.append(await preflight(shared, LOOPBACK[0]))
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == len(ids)


async def test_a_requests_own_id_is_kept_if_it_is_valid(shared: Api) -> None:
    kept = await shared.get("/local/ready", headers={"X-Request-Id": "my-id.1"})
    replaced = await shared.get("/local/ready", headers={"X-Request-Id": "my id\tERROR"})
    assert kept.headers.get_list("X-Request-Id") == ["my-id.1"]
    assert re.fullmatch("[0-9a-f]{32}", replaced.headers["X-Request-Id"])


async def test_background_work_is_logged_with_its_request_and_instance(
    http: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chowder_local")
    caplog.handler.setFormatter(JsonLine())
    headers = {"X-Request-Id": "create-1"}
    created = await http.post("/v1/instances", json={"name": "Ada"}, headers=headers)
    instance_id = created.json()["id"]
    await eventually(lambda: f"{instance_id}: running" in caplog.text, "it runs")
    await http.get("/v1/organization", headers={"X-Request-Id": "look-1"})
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    about = {(each["request_id"], each.get("instance_id")) for each in lines}
    assert about == {("create-1", instance_id), ("look-1", None)}
    # The end of the request, and the start and end of its boot.
    assert len(lines) == 4


async def test_a_request_is_logged_with_the_instance_of_its_path_only(
    http: Api, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = await http.world.created(), await http.world.created()
    caplog.set_level(logging.DEBUG, "chowder_local.http.middleware")
    caplog.handler.setFormatter(JsonLine())
    await http.get(f"/v1/instances/{one.id}")
    await http.post(f"/v1/instances/{one.id}/stop")
    await http.get(f"/local/instances/{one.id}/logs")
    # It looks this instance up, but concerns all.
    fault = {"kind": "stop", "status": 500, "instance_id": other.id}
    assert (await http.post("/local/faults", json=fault)).status_code == 201
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert [each.get("instance_id") for each in lines] == [one.id] * 3 + [None]


async def test_a_request_is_one_line_in_the_log_without_query_or_key(
    shared: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chowder_local.http.middleware")
    answer = await shared.get("/v1/organization?secret=1")
    (record,) = [each for each in caplog.records if each.name == "chowder_local.http.middleware"]
    line = record.getMessage()
    assert line.startswith("GET /v1/organization 200 ")
    assert line.endswith(answer.headers["X-Request-Id"])
    assert "secret" not in caplog.text
    assert shared.world.key not in caplog.text


async def test_polled_routes_do_not_fill_the_log(
    shared: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chowder_local.http.middleware")
    await shared.get("/local/health")
    assert caplog.records == []


async def test_a_polled_status_does_not_fill_the_log(
    shared: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chowder_local.http.middleware")
    await shared.call("GET", "/v1/instances/some/status")
    assert caplog.records == []


async def test_a_path_cannot_start_a_new_log_line(
    shared: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chowder_local.http.middleware")
    await shared.call("GET", "/v1/instances/a%0AERROR%20forged")
    assert "\nERROR" not in caplog.text
    assert "%0AERROR%20forged" in caplog.text


async def test_an_unexpected_error_is_a_500_without_its_message(
    http: Api, caplog: pytest.LogCaptureFixture
) -> None:
    http.world.engine.failing["log_tail"] = RuntimeError("secret words")
    instance = await http.world.created()
    path, headers = f"/local/instances/{instance.id}/logs", {"Origin": LOOPBACK[0]}
    answer = await http.get(path, headers=headers, is_documented=False)
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal server error."}
    assert answer.headers["Access-Control-Allow-Origin"] == LOOPBACK[0]
    assert answer.headers["X-Request-Id"]
    assert "secret words" in caplog.text


async def test_an_unexpected_error_in_the_middle_of_a_response_breaks_it_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[Message] = []

    async def half(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half")

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="half"):
        await ErrorMiddleware(half)({"type": "http"}, _nothing, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert "unexpected error" in caplog.text


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_request_that_a_stopping_server_cancels_is_answered_if_possible(
    has_begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Message] = []
    waits = asyncio.Event()

    async def endless(_: Scope, __: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        waits.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.TaskGroup() as group:
        request = group.create_task(_as_coroutine(ErrorMiddleware(endless), send))
        await waits.wait()
        request.cancel()

    if has_begun:
        assert [message["type"] for message in sent] == ["http.response.start"]
    else:
        assert sent[0]["status"] == 502
        words = {"error": "Gateway unavailable – the server is stopping"}
        assert json.loads(sent[1]["body"]) == {"detail": words}
    assert caplog.records == []


async def test_other_scopes_than_requests_pass_through() -> None:
    recorded: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        recorded.append(scope["type"])

    await RequestLog(app, Metrics())({"type": "lifespan"}, _nothing, _ignore)
    assert recorded == ["lifespan"]


async def _as_coroutine(app: ASGIApp, send: Send) -> None:
    await app({"type": "http", "path": "/"}, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.request"}


async def _ignore(_: Message) -> None:
    pass
