"""Which script and rule applies, how often, and requests without a rule."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.registry import UNMATCHED_KEPT, Refusal, ScriptRegistry
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.wire.conversation import Reply

if TYPE_CHECKING:
    from chowder_local.relay.scripts.registry import ScriptedAnswer

ORGANIZATION, INSTANCE = OrganizationId("o"), InstanceId("i")
REQUEST = ModelRequest(ModelProvider.OPENAI, "gpt-4o", 1, "Hi")


def script(*replies: Any, unmatched: str = "offline") -> ReplyScript:
    return ReplyScript.model_validate({"replies": replies, "unmatched": unmatched})


async def answer(
    scripts: ScriptRegistry, request: ModelRequest = REQUEST, instance: InstanceId = INSTANCE
) -> ScriptedAnswer | None:
    return await scripts.answer(ORGANIZATION, instance, request)


async def text(scripts: ScriptRegistry, request: ModelRequest = REQUEST) -> str | None:
    found = await answer(scripts, request)
    if found is None:
        return None
    assert isinstance(found.answer, Reply)
    return found.answer.text


async def test_without_a_script_the_offline_model_answers() -> None:
    assert await answer(ScriptRegistry()) is None


async def test_the_first_rule_that_matches_applies() -> None:
    scripts = ScriptRegistry()
    rules = [{"match": {"text": "bye"}, "reply": "1"}, {"reply": "2"}, {"reply": "3"}]
    running = scripts.put(ORGANIZATION, script(*rules))

    assert await text(scripts) == "2"
    assert running.used == [0, 1, 0]


async def test_a_rule_applies_as_often_as_times_says() -> None:
    scripts = ScriptRegistry()
    scripts.put(ORGANIZATION, script({"reply": "once", "times": 1}, {"reply": "then"}))

    assert [await text(scripts) for _ in range(3)] == ["once", "then", "then"]


async def test_a_list_of_answers_is_finished_even_if_the_rule_is_used_up() -> None:
    scripts = ScriptRegistry()
    scripts.put(ORGANIZATION, script({"reply": ["a", "b"], "times": 1}))
    later = ModelRequest(ModelProvider.OPENAI, "gpt-4o", 1, "Hi", 1, "exec", "x")

    assert [await text(scripts), await text(scripts, later), await text(scripts)] == [
        "a",
        "b",
        None,
    ]


async def test_scripts_are_tried_from_instance_to_organization_to_server() -> None:
    scripts = ScriptRegistry(script({"reply": "server"}))
    assert await text(scripts) == "server"
    scripts.put(ORGANIZATION, script({"reply": "organization"}))
    assert await text(scripts) == "organization"
    scripts.put(INSTANCE, script({"reply": "instance", "times": 1}))
    assert [await text(scripts), await text(scripts)] == ["instance", "organization"]
    scripts.remove(INSTANCE)
    scripts.remove(INSTANCE)
    assert scripts.get(INSTANCE) is None
    assert await text(scripts) == "organization"


async def test_another_instances_script_does_not_apply() -> None:
    scripts = ScriptRegistry()
    scripts.put(InstanceId("other"), script({"reply": "other"}))

    assert await answer(scripts) is None


async def test_an_unmatched_request_is_kept_and_fails_if_the_script_says_so() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(INSTANCE, script(unmatched="fail"))

    found = await answer(scripts)

    assert found is not None
    assert isinstance(found.answer, Refusal)
    assert found.answer.status == 400
    assert 'turn 1, "Hi", model gpt-4o' in found.answer.message
    assert [each.request for each in running.unmatched] == [REQUEST]
    assert found.rule == "unmatched"


async def test_an_unmatched_request_is_kept_even_if_the_offline_model_answers() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(ORGANIZATION, script({"match": {"text": "bye"}, "reply": "1"}))

    assert await answer(scripts) is None
    assert len(running.unmatched) == 1


async def test_only_the_latest_unmatched_requests_are_kept() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(ORGANIZATION, script())
    for _ in range(UNMATCHED_KEPT + 5):
        await answer(scripts)

    assert len(running.unmatched) == UNMATCHED_KEPT


async def test_a_rule_is_reported_by_its_name_or_place() -> None:
    scripts = ScriptRegistry()
    rules = [{"match": {"text": "bye"}, "reply": "1", "name": "farewell"}, {"reply": "2"}]
    scripts.put(ORGANIZATION, script(*rules))
    bye = ModelRequest(ModelProvider.OPENAI, "gpt-4o", 1, "bye")

    assert [
        found.rule for request in (REQUEST, bye) if (found := await answer(scripts, request))
    ] == [
        "replies[1]",
        "farewell",
    ]


async def test_rules_that_take_too_long_are_refused_without_blocking_the_event_loop() -> None:
    scripts = ScriptRegistry()
    slow = {"match": {"regex": "(a|aa)+$"}, "reply": "1"}
    running = scripts.put(ORGANIZATION, script(*[slow] * 3, {"reply": "2"}))
    request = ModelRequest(ModelProvider.OPENAI, "gpt-4o", 1, "a" * 60 + "!")
    pending = asyncio.ensure_future(answer(scripts, request))
    turns = 0
    while not pending.done():
        await asyncio.sleep(0)
        turns += 1
    # Blocking calls would allow none, and only the lock a few.
    assert turns > 100
    found = await pending
    assert found is not None
    assert isinstance(found.answer, Refusal)
    assert "took longer than 0.5 s and stopped at '(a|aa)+$'" in found.answer.message
    assert (found.rule, running.used) == ("replies[0]", [0, 0, 0, 0])


async def test_a_rule_of_the_servers_own_script_is_used_up_once_by_all_organizations() -> None:
    scripts = ScriptRegistry(script({"reply": "once", "times": 1}, {"reply": "then"}))
    pending = [scripts.answer(OrganizationId(each), INSTANCE, REQUEST) for each in "abcd"]
    found = [each.rule for each in await asyncio.gather(*pending) if each is not None]
    assert sorted(found) == ["replies[0]", *["replies[1]"] * 3]
