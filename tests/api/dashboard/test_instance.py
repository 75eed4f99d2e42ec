"""An instance's page: its conversations and streamed answers."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.dashboard.chat_stream import ChatAnswer
from chowder_local.dashboard.conversation import SESSIONS_SHOWN, SHOWN_MAX_CHARS
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.openclaw.transcripts.reader import TEXT_MAX
from chowder_local.store.usage import Counts, UsageKey
from tests.api.dashboard.conftest import Elements
from tests.scripted import gateway as scripted
from tests.scripted.programs import done
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'
MODEL = "claude-sonnet-4-20250514"


def message(role: str, text: str, position: int = 1) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}]
    return {"position": position, "role": role, "at": 0, "parts": parts}


def set_transcript(visitor: Visitor, *messages: dict[str, Any], has_more: bool = False) -> None:
    """Sets the messages of the main conversation."""
    for place in (visitor.http.world.programs, visitor.http.world.beside):
        place.answers["list"] = done(sessions=[])
        place.answers["read"] = done(is_known=True, messages=list(messages), has_more=has_more)


async def send_message(visitor: Visitor, agent: Instance, text: str, **more: str) -> str:
    """Sends a message; returns the address of its answer's stream."""
    form = {"text": text, "model": MODEL} | more
    answer = await visitor.post(f"/instances/{agent.id}/messages", form)
    assert answer.status_code == 200, answer.text
    (listener,) = [each for _, each in Elements(answer.text).tags if "sse-connect" in each]
    return listener["sse-connect"] or ""


def events(body: str) -> list[tuple[str, str]]:
    """The events of a stream as pairs of name and data."""
    received = []
    for block in body.split("\n\n"):
        lines = block.split("\n")
        name = next((each[7:] for each in lines if each.startswith("event: ")), "")
        data = "\n".join(each[6:] for each in lines if each.startswith("data:"))
        if name:
            received.append((name, data))
    return received


async def test_a_conversation_shows_its_messages_as_text(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    set_transcript(
        visitor, message("user", "Which way?"), message("assistant", HOSTILE, 2), has_more=True
    )
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert "Which way?" in html
    assert "alert(1)" in html
    elements = Elements(html)
    assert all("src" in each for each in elements.all("script"))
    assert not [each for _, each in elements.tags if "onerror" in each]
    assert elements.all("a", id="older")


async def test_a_conversation_shows_what_it_has_cost(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    set_transcript(visitor, message("user", "Which way?"))
    today = datetime.now(UTC).date()
    for key, tokens in ((MAIN_KEY, 1_000_000), (session_key("deck"), 7)):
        kind = UsageKey(agent.id, today, key, "openai", "gpt-4o", is_billed=True)
        visitor.http.world.usage.note(kind, Counts(2, 0, tokens, 0, 0, 0, 100))
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert "2 model calls, 1,000,000 tokens in, 100 out, cost at list price: $2.50" in html
    other = await visitor.get(f"/instances/{agent.id}/conversation?key={session_key('deck')}")
    assert "2 model calls, 7 tokens in" in other.text


async def test_a_conversation_in_the_list_says_its_messages_and_age(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    stored = {"key": MAIN_KEY, "created_at": 0, "updated_at": 0, "messages": 10, "channel": None}
    for place in (visitor.http.world.programs, visitor.http.world.beside):
        place.answers["list"] = done(sessions=[stored])
        place.answers["read"] = done(is_known=True, messages=[], has_more=False)
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert re.search(r"10 messages, <time [^>]*>\d+ d</time> ago", html)


async def test_of_many_conversations_the_last_used_are_listed(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    keys = [f"agent:main:{number}" for number in range(2 * SESSIONS_SHOWN)]
    stored = [{"key": key, "updated_at": number} for number, key in enumerate(keys)]
    for place in (visitor.http.world.programs, visitor.http.world.beside):
        place.answers["list"] = done(sessions=stored)
        place.answers["read"] = done(is_known=True, messages=[], has_more=False)
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert html.count('<li><a href="?key=') == SESSIONS_SHOWN
    assert f">{keys[-1]}<" in html
    assert f"These are the last used of {len(keys) + 1}." in html


async def test_an_answer_is_streamed_in_pieces_and_then_rendered(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    answer = await visitor.get(await send_message(visitor, agent, "Hello!"))
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    received = events(answer.text)
    assert received[-1] == ("done", "")
    assert "".join(data for name, data in received if name == "piece")
    # At the end, the rendered answer replaces its pieces.
    assert received[-2][0] == "whole"
    assert "<p>Hello there.</p>" in received[-2][1]
    (request,) = visitor.http.world.gateway.messages
    assert request.body["stream"] is True
    assert "Hello!" in json.dumps(request.body["input"])


async def test_a_message_to_a_named_conversation_goes_to_its_session(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    await visitor.get(await send_message(visitor, agent, "Hello!", session="Größe 1"))
    (request,) = visitor.http.world.gateway.messages
    assert session_key("Größe 1") in request.headers.values()


async def test_opening_the_stream_twice_sends_the_message_once(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    address = await send_message(visitor, agent, "Hello!")
    await visitor.get(address)
    # After 204, a browser's stream does not reconnect.
    assert (await visitor.get(address)).status_code == 204
    assert len(visitor.http.world.gateway.messages) == 1


async def test_a_disconnect_cancels_the_agents_run(visitor: Visitor) -> None:
    world = visitor.http.world
    world.gateway.handler = scripted.endless
    agent = await world.created()
    address = await send_message(visitor, agent, "Hello!")
    chat_stream = world.state["dashboard"].chat_streams.take(address.rpartition("/")[2])
    assert chat_stream is not None
    has_begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await has_begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            has_begun.set()

    answer = ChatAnswer(chat_stream, world, lambda _: b"piece")
    async with asyncio.timeout(5):
        await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        await world.gateway.has_left.wait()


async def test_a_shutdown_ends_the_stream_of_an_answer_that_has_not_begun(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    world = visitor.http.world
    world.gateway.handler = scripted.silent
    address = await send_message(visitor, await world.created(), "Hello!")
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(visitor.get(address))
        await eventually(lambda: world.gateway.messages, "the agent has the message")
        visitor.http.world.shutdown.begin()
    assert listening.result().status_code == 200
    assert "defect" not in caplog.text


async def test_a_failed_answer_is_streamed_as_an_error(visitor: Visitor) -> None:
    world = visitor.http.world
    world.gateway.handler = scripted.failing(500, {"error": {"message": "no", "code": "x"}})
    agent = await world.created()
    body = (await visitor.get(await send_message(visitor, agent, "Hello!"))).text
    names = [name for name, _ in events(body)]
    assert names == ["failed", "done"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"text": "Hi", "model": "no-such-model"}, 400),
        ({"text": "", "model": MODEL}, 422),
        ({"text": "Hi"}, 422),
    ],
)
async def test_an_invalid_message_is_refused_at_once(
    visitor: Visitor, form: dict[str, str], status: int
) -> None:
    agent = await visitor.http.world.created()
    answer = await visitor.post(f"/instances/{agent.id}/messages", form)
    assert answer.status_code == status
    assert "notice bad" in answer.text


async def test_a_stopped_instance_takes_no_messages(visitor: Visitor) -> None:
    agent = await visitor.http.world.stopped()
    set_transcript(visitor)
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert "The instance is stopped." in html
    answer = await visitor.post(f"/instances/{agent.id}/messages", {"text": "Hi", "model": MODEL})
    assert answer.status_code == 409


async def test_a_long_text_is_cut_and_available_in_full(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    text = HOSTILE + "x" * SHOWN_MAX_CHARS
    set_transcript(visitor, message("user", text, 7))
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert text[:SHOWN_MAX_CHARS] not in html
    assert html.count("x" * 1000) < SHOWN_MAX_CHARS / 1000
    elements = Elements(html)
    (whole,) = [
        each for each in elements.all("button") if (each.get("id") or "").startswith("whole-7")
    ]
    answer = await visitor.get(whole["hx-get"] or "")
    assert "x" * SHOWN_MAX_CHARS in answer.text
    assert "<script>" not in answer.text
    (file,) = [each for each in elements.all("a") if "download" in each]
    answer = await visitor.get(file["href"] or "")
    assert answer.text == text
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="user-7.txt"')
    assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_a_text_too_long_for_a_page_can_only_be_downloaded(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    cut = message("assistant", "x" * SHOWN_MAX_CHARS, 7)
    cut["parts"][0] |= {"is_cut": True, "length": TEXT_MAX + 1}
    call = {"type": "call", "id": "1", "name": "exec", "arguments": None, "is_cut": True}
    set_transcript(visitor, cut, {"position": 8, "role": "assistant", "parts": [call]})
    html = (await visitor.get(f"/instances/{agent.id}/conversation")).text
    assert "200,001 characters" in html
    assert "too long for a page" in html
    elements = Elements(html)
    assert not [each for each in elements.all("button") if "whole" in (each.get("id") or "")]
    assert len([each for each in elements.all("a") if "download" in each]) == 2


async def test_an_unknown_message_is_not_found(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    set_transcript(visitor, message("user", "Hi", 7))
    for turn in ("8", "7?nth=1", "x", "9" * 400, "-1", "²"):
        answer = await visitor.get(f"/instances/{agent.id}/turns/{turn}")
        assert answer.status_code == 404, turn
