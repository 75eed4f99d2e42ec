"""Scripted replies and recordings: their scope, problems and use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.dashboard.replies import TEXT_MAX_CHARS
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.rules import ReplyScript
from tests.api.dashboard.conftest import NAVIGATING, ORIGIN, Elements
from tests.api.test_recordings import ENTRY, NAME, log_call

if TYPE_CHECKING:
    import httpx

    from tests.api.dashboard.conftest import Visitor

TEXT = "- match: {text: weather}\n  reply: It is sunny.\n"
HOSTILE = '"><script>alert(1)</script>'


async def put(visitor: Visitor, text: str, **more: str) -> str:
    answer = await visitor.post("/replies/script", {"text": text} | more)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_rules_apply_to_all_agents_or_to_one(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    # The first line may be indented, and forms send CRLF line ends.
    assert "In force: 1 rule." in await put(visitor, "  " + TEXT.replace("\n", "\r\n  "))
    assert "In force: 1 rule." in await put(visitor, TEXT, instance=agent.id)
    assert world.scripts.get(world.organization_id) is not None
    assert world.scripts.get(agent.id) is not None
    html = (await visitor.get(f"/replies?instance={agent.id}")).text
    assert "It is sunny." in html
    assert "for Ada" in html
    assert "Clear the rules of Ada?" in (
        await visitor.get(f"/replies/script/clear?instance={agent.id}")
    ).text  # fmt: skip
    await visitor.post("/replies/script/clear", {"instance": agent.id})
    assert world.scripts.get(agent.id) is None
    assert world.scripts.get(world.organization_id) is not None
    await visitor.post("/replies/script/clear")
    assert world.scripts.get(world.organization_id) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{TEXT}- match: {{txt: x}}\n  reply: y", "Line 3"),
        (f"{TEXT}- 'x", "quoted scalar"),
        (f"- match: {{text: '{HOSTILE}'}}\n  reply: {{{HOSTILE}: 1}}", "Line 2"),
    ],
)
async def test_an_invalid_script_is_explained_and_changes_nothing(
    visitor: Visitor, text: str, words: str
) -> None:
    world = visitor.http.world
    await put(visitor, TEXT)
    before = world.scripts.get(world.organization_id)
    html = await put(visitor, text)
    assert words in html
    assert "<script>" not in html
    # The response has no text area, so the typed text stays in the page.
    assert not Elements(html).all("textarea")
    assert world.scripts.get(world.organization_id) is before


async def test_a_scripts_length_is_limited(visitor: Visitor) -> None:
    assert "In force" in await put(visitor, TEXT + "\n" * 20_000)
    answer = await visitor.post("/replies/script", {"text": "x" * (TEXT_MAX_CHARS + 1)})
    assert answer.status_code == 413


async def test_unmatched_messages_are_shown_to_their_organization_only(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    world.scripts.own = world.scripts.put(world.organization_id, ReplyScript(unmatched="fail"))
    request = ModelRequest("openai", "gpt-4o", 1, HOSTILE)
    await world.scripts.answer(world.organization_id, agent.id, request)
    html = (await visitor.get("/replies")).text
    assert "Unmatched messages" in html
    assert "alert(1)" in html
    assert "<script>alert" not in html
    await visitor.sign_in(await visitor.http.other_key())
    assert "alert(1)" not in (await visitor.get("/replies")).text
    assert (await visitor.get(f"/replies?instance={agent.id}")).status_code == 404
    answer = await visitor.post("/replies/script", {"text": TEXT, "instance": agent.id})
    assert answer.status_code == 404


async def loaded(visitor: Visitor, path: str, content: Any) -> httpx.Response:
    headers = NAVIGATING | {"Origin": ORIGIN, "HX-Request": "true"}
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await visitor.http.client.post(path, files={"file": ("r.json", body)}, headers=headers)


async def test_calls_in_memory_are_replayed_saved_and_loaded(visitor: Visitor) -> None:
    http = visitor.http
    agent = await http.world.created()
    path = f"/replies/recordings/{agent.id}"
    assert (await visitor.post(f"{path}/play")).status_code == 422
    log_call(http, agent.id)
    assert "now replays 1 recorded call." in (await visitor.post(f"{path}/play")).text
    assert list(http.world.recordings.entries(agent.id) or {}) == [NAME]
    file = await visitor.get(f"{path}/file")
    assert "Ada.recording.json" in file.headers["Content-Disposition"]
    assert file.json() == {"entries": {NAME: ENTRY}, "in_order": False, "then_live": False}
    assert "calls its models again" in (await visitor.post(f"{path}/stop")).text
    assert http.world.recordings.entries(agent.id) is None
    assert "Replay a recording for Ada" in (await visitor.get(f"{path}/load")).text
    answer = await loaded(visitor, f"{path}/load", file.content)
    assert "a recording of 1" in answer.text
    assert list(http.world.recordings.entries(agent.id) or {}) == [NAME]


NO_RECORDINGS: list[Any] = [
    b"",
    b"{",
    b"[1]",
    {"entries": {}},
    {"entries": {NAME: {**ENTRY, "format": 2}}},
]


async def test_an_invalid_recording_is_refused(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for content in NO_RECORDINGS:
        answer = await loaded(visitor, f"/replies/recordings/{agent.id}/load", content)
        assert answer.status_code == 422, (content, answer.text)
        assert visitor.http.world.recordings.entries(agent.id) is None, content
