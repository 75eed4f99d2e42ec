"""Breakpoints of a real agent, whose model calls are held in the middle of a turn."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.test_relay_upstreams import MODELS
from tests.e2e.api import text_of
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.e2e.api import Api

pytestmark = pytest.mark.docker

SESSION = "breakpoints"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def held(api: Api, instance: str, **match: Any) -> dict[str, Any]:
    """The model call that is held next."""
    calls = eventually(lambda: local(api, "GET", "held-calls").json(), "a call is held")
    (call,) = [each for each in calls if each["instance_id"] == instance]
    whole = local(api, "GET", f"model-calls/{call['id']}").json()
    assert isinstance(whole, dict)
    return whole


def resume(api: Api, call: dict[str, Any], **how: Any) -> None:
    local(api, "POST", f"held-calls/{call['id']}/resume", json=how)


@pytest.mark.parametrize("provider", list(MODELS))
def test_a_call_is_answered_with_a_tool_call_and_the_next_one_edited_and_failed(
    api: Api, instance: str, threads: ThreadPoolExecutor, provider: str
) -> None:
    local(api, "PUT", f"instances/{instance}/breakpoint", json={})
    sent = threads.submit(api.message, instance, "Go.", model=MODELS[provider], session=SESSION)
    first = held(api, instance)
    assert "Go." in str(first["request"])
    resume(api, first, reply={"call": "exec", "arguments": {"command": "echo 4711"}})
    second = held(api, instance)
    assert second["id"] != first["id"]
    assert "4711" in str(second["request"])
    resume(api, second, reply="Done.")
    answer: httpx.Response = sent.result()
    assert text_of(answer.json()) == "Done."

    sent = threads.submit(api.message, instance, "Again.", model=MODELS[provider], session=SESSION)
    resume(api, held(api, instance), reply={"error": 429, "message": "Slow down."})
    assert sent.result().status_code == 429
    local(api, "DELETE", f"instances/{instance}/breakpoint")
    # No cooldown of the provider.
    assert api.say(instance, "Once more.", model=MODELS[provider], session=SESSION)


def test_an_edited_request_is_what_the_model_gets(
    api: Api, instance: str, threads: ThreadPoolExecutor
) -> None:
    local(api, "PUT", f"instances/{instance}/breakpoint", json={"once": True})
    sent = threads.submit(api.say, instance, "My colour is teal.", session=SESSION)
    call = held(api, instance)
    edited = json.loads(json.dumps(call["request"]).replace("teal", "blue"))
    resume(api, call, request=edited)
    assert "My colour is blue." in sent.result()
