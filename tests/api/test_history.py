"""Sessions, transcripts and usage over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.openclaw.session_keys import session_key
from chowder_local.store.usage import Counts, UsageKey
from tests.scripted.programs import done, undone

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

HI = {"position": 3, "role": "user", "at": 0, "parts": [{"type": "text", "text": "Hi"}]}


def page(*messages: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    return done(is_known=True, messages=list(messages), has_more=has_more)


NAMES = [
    "alpha",
    "a/b/c",
    "a/b/",
    "/",
    "%2F",
    "../x",
    "transcript",
    "日本語 🦞",
    "two\nlines",
    "x?y#",
]


async def test_a_session_of_any_name_can_be_read(http: Api) -> None:
    agent = await http.world.created()
    http.world.programs.answers["read"] = page(HI, has_more=True)
    for name in NAMES:
        http.world.programs.calls.clear()
        path = f"/local/instances/{agent.id}/sessions/{quote(name, safe='')}/transcript"
        answer = await http.get(path, params={"limit": 5, "before": 9})
        assert answer.status_code == 200, name
        assert answer.json()["before"] == 3
        (body,) = [body for op, body in http.world.programs.calls if op == "read"]
        assert (body["key"], body["limit"], body["before"]) == (session_key(name), 5, 9)


async def test_a_turn_has_every_member(http: Api) -> None:
    agent = await http.world.created()
    http.world.programs.answers["read"] = page(HI)
    (turn,) = (await http.get(f"/local/instances/{agent.id}/transcript")).json()["turns"]
    assert turn == {
        "position": 3, "role": "user", "at": "1970-01-01T00:00:00Z", "text": "Hi", "name": None,
        "call_id": None, "arguments": None, "is_error": None, "images": 0, "is_cut": False,
        "model": None, "usage": None, "response_id": None, "error": None, "status": "cancelled",
        "attempts": [],
    }  # fmt: skip


async def test_a_turn_has_its_usage(http: Api) -> None:
    agent = await http.world.created()
    http.world.programs.answers["read"] = page(
        HI | {"role": "assistant", "usage": {"input": 10, "output": 2, "cache_read": 5}}
    )
    (turn,) = (await http.get(f"/local/instances/{agent.id}/transcript")).json()["turns"]
    assert turn["usage"] == {
        "input_tokens": 15, "cached_tokens": 5, "cache_write_tokens": 0, "output_tokens": 2,
    }  # fmt: skip


async def test_a_messengers_session_is_read_by_its_key(http: Api) -> None:
    agent = await http.world.created()
    http.world.programs.answers["read"] = page()
    path, key = f"/local/instances/{agent.id}/transcript", "agent:main:telegram:direct:5"
    assert (await http.get(path, params={"key": key})).json() == {"turns": [], "before": None}
    assert http.world.programs.calls[-1][1]["key"] == key


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=-1", "key="])
async def test_an_invalid_query_is_a_422_that_names_the_parameter(
    shared: Api, agent: Instance, query: str
) -> None:
    answer = await shared.get(f"/local/instances/{agent.id}/transcript?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_failures_have_their_own_errors(http: Api) -> None:
    agent = await http.world.created()
    path = f"/local/instances/{agent.id}/sessions/nope/transcript"
    http.world.programs.answers["read"] = done(is_known=False, messages=[], has_more=False)
    assert (await http.get(path)).status_code == 404
    http.world.programs.answers["read"] = undone("malformed")
    answer = await http.get(path)
    assert answer.status_code == 502
    assert "malformed" in answer.json()["detail"]["error"]


async def test_sessions_of_a_stopped_agent_are_listed(http: Api) -> None:
    agent = await http.world.stopped()
    http.world.beside.answers["list"] = done(sessions=[{"key": "agent:main:x", "updated_at": 1000}])
    main, other = (await http.get(f"/local/instances/{agent.id}/sessions")).json()["sessions"]
    assert main == {
        "name": None, "key": "agent:main:main", "is_main": True, "channel": None,
        "created_at": None, "last_used_at": None, "messages": 0,
    }  # fmt: skip
    assert (other["key"], other["last_used_at"]) == ("agent:main:x", "1970-01-01T00:00:01Z")


async def test_usage_is_reported_for_one_agent_and_for_all(http: Api) -> None:
    one, other = await http.world.created(), await http.world.created(name="Bea")
    for agent, model in ((one, "gpt-4o"), (other, "gpt-99")):
        day, provider = http.world.clock.now.date(), ModelProvider.OPENAI
        kind = UsageKey(agent.id, day, "", provider, model, is_billed=True)
        http.world.usage.note(kind, Counts(1, 0, 1000, 400, 0, 0, 100))
    result = (await http.get(f"/local/instances/{one.id}/usage")).json()
    figures = {
        "calls": 1, "unmetered_calls": 0, "input_tokens": 1000, "cached_tokens": 400,
        "cache_write_tokens": 0, "output_tokens": 100, "cost_usd": 0.003,
    }  # fmt: skip
    assert result["totals"] == figures
    assert result["rows"] == [
        figures | {
            "instance_id": one.id, "day": http.world.clock.now.date().isoformat(), "session": None,
            "session_key": None, "provider": "openai", "model": "gpt-4o", "is_billed": True,
        }
    ]  # fmt: skip
    assert result["prices"]["as_of"]
    whole = (await http.get("/local/usage", params={"limit": 1})).json()
    assert (whole["totals"]["calls"], whole["totals"]["cost_usd"]) == (2, None)
    assert (len(whole["rows"]), whole["has_more"]) == (1, True)


async def test_the_usage_of_a_deleted_agent_is_kept(http: Api) -> None:
    agent = await http.world.created()
    day, provider = http.world.clock.now.date(), ModelProvider.OPENAI
    http.world.usage.note(
        UsageKey(agent.id, day, "", provider, "gpt-4o", is_billed=True), Counts(1)
    )
    await http.world.lifecycle.delete(http.world.organization_id, agent.id)
    assert (await http.get("/local/usage")).json()["totals"]["calls"] == 1
    other = await http.other_key()
    assert (await http.get("/local/usage", key=other)).json()["totals"]["calls"] == 0
