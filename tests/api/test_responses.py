"""Messages in the Responses format, plain and streamed, and their errors."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from openresponses_types.types import ResponseResource

from chowder_local.api.handlers import responses
from chowder_local.api.schemas import responses as schemas
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.core.long_values import LONG_CHARS
from chowder_local.http import bodies
from chowder_local.openclaw import gateway
from chowder_local.openclaw.responses import history, requests
from chowder_local.openclaw.session_keys import session_key
from chowder_local.store.conversation_histories import ConversationHistory
from tests.api.conftest import Api, app_of, open_client
from tests.scripted import gateway as scripted
from tests.scripted.threads import LONG_VALUES, note_threads
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from chowder_local.core.domain import Instance

MODEL = "claude-sonnet-4-20250514"
ASKED: dict[str, Any] = {"model": MODEL, "input": "Hi"}


async def send(http: Api, payload: dict[str, Any] = ASKED) -> httpx.Response:
    """Sends a message to a new running instance."""
    return await send_to(http, await http.world.created(), payload)


async def send_to(http: Api, agent: Instance, payload: dict[str, Any] = ASKED) -> httpx.Response:
    return await http.post(f"/v1/instances/{agent.id}/responses", json=payload)


async def test_an_answer_is_a_response_object_with_the_requested_model(
    shared: Api,
    agent: Instance,
) -> None:
    answer = await send_to(shared, agent)
    assert answer.status_code == 200
    judged = ResponseResource.model_validate(answer.json())
    assert judged.model == MODEL
    assert answer.json()["output"][0]["content"][0]["text"] == "Hello there."


async def test_a_stream_is_unbuffered_events_up_to_the_end_mark(
    http: Api,
) -> None:
    answer = await send(http, ASKED | {"stream": True})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    *events, end, rest = answer.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    names = [event.split("\n")[0].removeprefix("event: ") for event in events]
    datas = [json.loads(event.split("\n")[1].removeprefix("data: ")) for event in events]
    assert names == [data["type"] for data in datas]
    assert [data["sequence_number"] for data in datas] == list(range(len(datas)))
    assert datas[-1]["response"]["model"] == MODEL


@pytest.mark.parametrize("stream", [False, None])
async def test_an_answer_is_not_streamed_by_default(
    shared: Api, agent: Instance, stream: bool | None
) -> None:
    answer = await send_to(shared, agent, ASKED | {"stream": stream})
    assert answer.headers["Content-Type"] == "application/json"


async def test_the_models_are_those_of_providers_with_a_key(shared: Api, agent: Instance) -> None:
    answer = await shared.get(f"/v1/instances/{agent.id}/models")
    owners = [(MODEL, "anthropic"), ("gpt-4o", "openai"), ("gpt-4o-mini", "openai")]
    assert answer.json() == {
        "object": "list",
        "data": [
            {"id": model, "object": "model", "created": 0, "owned_by": owner}
            for model, owner in owners
        ],
    }


async def test_unknown_members_reach_the_agent(http: Api) -> None:
    more = {"instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5}
    await send(http, ASKED | more | {"include": []})
    (payload,) = http.world.gateway.messages
    assert payload.body == {"model": "openclaw", "input": "Hi"} | more


NAMES = [
    "project-alpha", "a b", "a/b", "a//b", "/", "responses", "session/x", "名前", "🦞",
    "cron:x", "100%", "a?b", "a#b", "a+b", "x" * 300,
]  # fmt: skip


async def test_any_text_is_a_session_name(http: Api) -> None:
    agent = await http.world.created()
    for name in NAMES:
        path = f"/v1/instances/{agent.id}/session/{quote(name, safe='')}/responses"
        assert (await http.post(path, json=ASKED)).status_code == 200, name
    keys = [each.headers["x-openclaw-session-key"] for each in http.world.gateway.messages]
    assert keys == [session_key(name) for name in NAMES]


@pytest.mark.parametrize("status", [each for each in InstanceStatus if each != "running"])
async def test_messages_need_a_running_instance(http: Api, status: InstanceStatus) -> None:
    instance = await http.world.placed(status)
    for is_streamed in (False, True):
        answer = await send_to(http, instance, ASKED | {"stream": is_streamed})
        words = f"Instance is {status}, but must be running for this."
        assert (answer.status_code, answer.json()["detail"]) == (409, words)
        # A retry helps only while it boots.
        retries = "true" if status is InstanceStatus.PROVISIONING else "false"
        assert answer.headers["x-should-retry"] == retries


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"model": "llama3"}, "Unknown model 'llama3'"),
        ({"model": "gemini-2.0-flash"}, "No API key for gemini is set"),
        ({"model": "nobody/model"}, "gemini, lab, cloud, ollama; up --provider name=URL"),
        ({"model": "cloud/model"}, "is for its default organization only"),
        ({"tools": [{"type": "mcp"}]}, "'mcp' is not available"),
        ({"background": True}, "background: "),
        ({"tool_choice": "required"}, "tool_choice: "),
        ({"input": [{"role": "user", "content": 5}]}, "must be a string or an array"),
        ({"text": {"format": {"type": "json_schema"}}}, "needs the answer's JSON schema"),
    ],
)
async def test_an_unsupported_request_is_a_400_that_says_so(
    shared: Api, agent: Instance, payload: dict[str, Any], words: str, is_streamed: bool
) -> None:
    answer = await send_to(shared, agent, ASKED | {"stream": is_streamed} | payload)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("member", "value", "where"),
    [
        ("input", "", []),
        ("input", ["Hi"], ["str"]),
        ("tools", ["web_search"], [0]),
        ("tools", [{"name": "f"}], [0, "type"]),
        ("tools", [{"type": "function"}], [0]),
        ("tools", [{"type": "function", "name": ""}], [0]),
        ("tools", [{"type": "function", "function": {"name": 5}}], [0]),
        ("tools", [{"type": "function", "name": "f", "parameters": []}], [0, "parameters"]),
        ("tool_choice", 5, ["str"]),
        ("metadata", {"a": 5}, ["a"]),
        ("max_output_tokens", 0, []),
        ("temperature", 2.1, []),
        ("stream", "perhaps", []),
    ],
)
async def test_a_member_of_the_wrong_kind_is_a_422_that_names_it(
    shared: Api, agent: Instance, member: str, value: Any, where: list[Any]
) -> None:
    answer = await send_to(shared, agent, ASKED | {member: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", member, *where]


async def test_a_null_selects_the_default(shared: Api, agent: Instance) -> None:
    members = [
        "instructions", "tools", "tool_choice", "text", "reasoning", "metadata", "temperature",
        "top_p", "max_output_tokens", "max_tool_calls", "previous_response_id", "store", "user",
        "parallel_tool_calls", "include", "stream",
    ]  # fmt: skip
    answer = await send_to(shared, agent, ASKED | dict.fromkeys(members))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_gateway_that_does_not_answer_is_a_502_in_the_contracts_shape(
    http: Api, is_streamed: bool
) -> None:
    running = InstanceStatus.RUNNING
    instance = await http.world.placed(running, gateway_url="http://127.0.0.1:9")
    payload = ASKED | {"stream": is_streamed}
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=payload)
    words = "Gateway unavailable – the sandbox does not answer"
    assert (answer.status_code, answer.json()["detail"]) == (502, {"error": words})


async def test_an_agent_that_ran_out_of_memory_says_so(http: Api) -> None:
    instance = await http.world.placed(InstanceStatus.RUNNING, gateway_url="http://127.0.0.1:9")
    http.world.engine.put(
        instance.sandbox_id, SandboxState.EXITED, is_oom_killed=True, memory_limit_mb=768
    )
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=ASKED)
    cause = "the agent ran out of memory (its limit is 768 MB; raise CHOWDER_MEMORY_LIMIT_MB)"
    assert (answer.status_code, answer.json()["detail"]) == (
        502, {"error": f"Gateway unavailable – {cause}"},
    )  # fmt: skip


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_providers_error_keeps_its_status_message_and_retry_after(
    http: Api, is_streamed: bool
) -> None:
    instance = await http.world.created()
    failure = ProviderFailed("anthropic", 429, "Slow down.", retry_after="7")
    marker = http.world.model_failures.remember(failure, instance.sandbox_id)
    content = {"status": "failed", "error": {"code": "x", "message": f"400: {marker}"}}
    http.world.gateway.handler = scripted.failing(400, content)
    payload = ASKED | {"stream": is_streamed}
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=payload)
    assert (answer.status_code, answer.json()["detail"]) == (429, {"error": str(failure)})
    assert answer.headers["Retry-After"] == "7"


async def test_a_providers_401_has_no_www_authenticate_header(http: Api) -> None:
    instance = await http.world.created()
    failure = ProviderFailed("anthropic", 401, "Bad key.")
    marker = http.world.model_failures.remember(failure, instance.sandbox_id)
    http.world.gateway.handler = scripted.failing(400, {"error": {"message": marker}})
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=ASKED)
    assert answer.status_code == 401
    assert "WWW-Authenticate" not in answer.headers


async def test_a_broken_stream_ends_with_an_error_and_the_end_mark(http: Api) -> None:
    http.world.gateway.handler = scripted.breaking_off
    answer = await send(http, ASKED | {"stream": True})
    assert answer.status_code == 200
    *_, error, failed, end, rest = answer.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    assert error.startswith("event: error\n")
    assert failed.startswith("event: response.failed\n")
    assert (
        "Gateway unavailable – the answer broke off before its end"
        in json.loads(error.split("\n")[1].removeprefix("data: "))["message"]
    )


async def test_no_other_client_waits_while_a_long_message_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = note_threads(
        monkeypatch,
        (bodies, "json_of"),
        (responses, "request_digest"),
        (requests, "parse_request"),
        (history, "unsent_items"),
        (history, "digests_of_items"),
        (gateway, "_encoded"),
    )
    long = [
        {"role": "user", "content": "x" * LONG_CHARS},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "x" * LONG_CHARS},
    ]
    async with (
        open_world(tmp_path, max_body_bytes=4 * LONG_CHARS) as world,
        open_client(app_of(world)) as client,
    ):
        api = Api(client, world)
        agent = await world.created()
        path = f"/v1/instances/{agent.id}/responses"
        # The agent has the beginning of the conversation.
        world.histories.put(agent.id, session_key(None), ConversationHistory("session"))
        for number, items in enumerate((long[:1], long)):
            answer = await api.post(
                path, json=ASKED | {"input": items}, headers={"Idempotency-Key": str(number)}
            )
            assert answer.status_code == 200
    # Those of the short answer are made at once.
    threads["digests_of_items"].discard(threading.current_thread().name)
    assert list(threads.values()) == [{LONG_VALUES}] * len(threads)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "x" * 200},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x" * 200}]}]},
        {"instructions": "x" * 200},
        {"unknown": ["x"] * 200},
        {"unknown": {"x" * 200: 1}},
    ],
    ids=["text", "item", "instructions", "values", "name"],
)
async def test_a_longer_text_than_any_model_reads_is_refused(
    shared: Api, agent: Instance, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(schemas, "MAX_TEXT_CHARS", 199)
    answer = await send_to(shared, agent, ASKED | fields)
    assert answer.status_code == 422
    assert "at most 199 characters" in answer.text


async def test_pictures_and_files_do_not_count_as_text(
    shared: Api, agent: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "MAX_TEXT_CHARS", 199)
    data = base64.b64encode(b"x" * 200).decode()
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{data}"},
        {"type": "input_file", "filename": "a.txt", "file_data": data},
    ]
    message = [{"role": "user", "content": parts}]
    assert (await send_to(shared, agent, ASKED | {"input": message})).status_code == 200
