"""Scripted replies that a real agent hears, acts upon and passes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.e2e.api import responses_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.e2e.api import Api

pytestmark = [pytest.mark.docker, pytest.mark.quick]

MODELS = ("claude-sonnet-4-20250514", "gpt-4o", "gemini-2.5-pro")


@pytest.fixture
def path(api: Api, instance: str) -> Iterator[str]:
    """Where the shared agent's script is; none is left there."""
    path = f"../local/instances/{instance}/replies"
    yield path
    assert api.delete(path).status_code == 204


def scripted(
    api: Api, path: str, *replies: Any, unmatched: str = "fail", tools: Sequence[str] = ()
) -> None:
    put = api.put(path, json={"unmatched": unmatched, "tools": tools, "replies": replies})
    assert put.status_code == 200, put.text


@pytest.fixture
def session() -> str:
    return f"replies-{uuid4()}"


@pytest.mark.parametrize("model", MODELS)
def test_the_agent_carries_out_what_the_script_calls(
    api: Api, instance: str, path: str, session: str, model: str
) -> None:
    call = {"text": "Let me see.", "call": "exec", "arguments": {"command": "echo $((6 * 7))"}}
    last = {"template": "It is {{ result }}.", "usage": {"output_tokens": 7}}
    scripted(api, path, {"match": {"text": "six times seven"}, "reply": [call, last]})
    answer = api.say(instance, "What is six times seven?", session=session, model=model)
    assert answer == "It is 42."
    told = api.get(path).json()["own"]
    assert (told["used"], told["unmatched"]) == ([1], [])
    calls = api.get(f"../local/instances/{instance}/model-calls?limit=2").json()
    assert [each["session"] for each in calls] == [session, session]
    # Both are of one turn, and the second has what the first came to.
    assert len({each["turn_id"] for each in calls}) == 1
    whole = api.get(f"../local/model-calls/{calls[0]['id']}").json()
    assert "42" in json.dumps(whole["request"])
    assert "It is" in "".join(chunk["text"] for chunk in whole["chunks"])


def test_a_name_is_the_clients_function_or_else_the_agents_tool_by_any_of_its_names(
    api: Api, instance: str, path: str, session: str
) -> None:
    status = {"call": "cron", "arguments": {"action": "status"}}
    scripted(
        api,
        path,
        {"match": {"tool": "cron"}, "reply": {"template": "{{ tool }}: {{ result }}"}},
        {"match": {"text": "jobs"}, "reply": status},
        {"match": {"text": "search"}, "reply": {"call": "web_search", "arguments": {"q": "x"}}},
        {"reply": {"call": "lookup"}},
        tools=["lookup"],
    )
    scheduled = api.say(instance, "Which jobs?", session=session)
    assert scheduled.startswith("automations: {")
    assert '"jobs"' in scheduled
    search = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
    body = {"model": "gpt-4o", "input": "Please search.", "tools": [search]}
    found = api.post(responses_path(instance, session), json=body).json()
    assert [each.get("name") for each in found["output"]] == ["web_search"]
    unknown = api.message(instance, "Hi", session=session)
    assert unknown.status_code == 400
    assert "calls 'lookup', which neither" in unknown.json()["error"]["message"]
