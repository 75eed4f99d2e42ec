"""Which script counts, how often its rules do, and what no rule is about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.scripts.matching import Ask, Refusal
from chowder_local.relay.scripts.registry import UNMATCHED_KEPT, ScriptRegistry
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.wire.reply import Reply

if TYPE_CHECKING:
    from chowder_local.relay.scripts.matching import ScriptedAnswer

ORGANIZATION, INSTANCE = OrganizationId("o"), InstanceId("i")
ASK = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "Hi")


def script(*replies: Any, unmatched: str = "offline") -> ReplyScript:
    return ReplyScript.model_validate({"replies": replies, "unmatched": unmatched})


async def answer(
    scripts: ScriptRegistry, ask: Ask = ASK, instance: InstanceId = INSTANCE
) -> ScriptedAnswer | None:
    return await scripts.answer(ORGANIZATION, instance, ask, "d" * 64)


async def text(scripts: ScriptRegistry, ask: Ask = ASK) -> str | None:
    found = await answer(scripts, ask)
    if found is None:
        return None
    assert isinstance(found.answer, Reply)
    return found.answer.text


async def test_without_a_script_all_is_left_to_the_offline_model() -> None:
    assert await answer(ScriptRegistry()) is None


async def test_the_first_rule_that_matches_counts() -> None:
    scripts = ScriptRegistry()
    rules = [{"match": {"text": "bye"}, "reply": "1"}, {"reply": "2"}, {"reply": "3"}]
    running = scripts.put(ORGANIZATION, script(*rules))

    assert await text(scripts) == "2"
    assert running.used == [0, 1, 0]


async def test_a_rule_counts_as_often_as_it_says() -> None:
    scripts = ScriptRegistry()
    scripts.put(ORGANIZATION, script({"reply": "once", "times": 1}, {"reply": "then"}))

    assert [await text(scripts) for _ in range(3)] == ["once", "then", "then"]


async def test_a_list_that_has_begun_comes_to_its_end() -> None:
    scripts = ScriptRegistry()
    scripts.put(ORGANIZATION, script({"reply": ["a", "b"], "times": 1}))
    later = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "Hi", 1, "exec", "x")

    assert [await text(scripts), await text(scripts, later), await text(scripts)] == [
        "a",
        "b",
        None,
    ]


async def test_what_is_nearest_is_asked_first() -> None:
    scripts = ScriptRegistry(script({"reply": "server"}))
    assert await text(scripts) == "server"
    scripts.put(ORGANIZATION, script({"reply": "organization"}))
    assert await text(scripts) == "organization"
    scripts.put(INSTANCE, script({"reply": "instance", "times": 1}))
    assert [await text(scripts), await text(scripts)] == ["instance", "organization"]
    scripts.remove(INSTANCE)
    scripts.remove(INSTANCE)
    assert scripts.of(INSTANCE) is None
    assert await text(scripts) == "organization"


async def test_another_instances_script_is_of_no_concern() -> None:
    scripts = ScriptRegistry()
    scripts.put(InstanceId("other"), script({"reply": "other"}))

    assert await answer(scripts) is None


async def test_what_no_rule_is_about_is_kept_and_may_be_a_failure() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(INSTANCE, script(unmatched="fail"))

    found = await answer(scripts)

    assert found is not None
    assert isinstance(found.answer, Refusal)
    assert found.answer.status == 400
    assert 'turn 1, "Hi", of gpt-4o' in found.answer.words
    assert [each.ask for each in running.unmatched] == [ASK]
    assert found.rule == "unmatched"


async def test_what_is_left_to_the_offline_model_is_kept_as_well() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(ORGANIZATION, script({"match": {"text": "bye"}, "reply": "1"}))

    assert await answer(scripts) is None
    assert len(running.unmatched) == 1


async def test_only_the_latest_are_kept() -> None:
    scripts = ScriptRegistry()
    running = scripts.put(ORGANIZATION, script())
    for _ in range(UNMATCHED_KEPT + 5):
        await answer(scripts)

    assert len(running.unmatched) == UNMATCHED_KEPT


async def test_a_rule_is_told_by_its_name_or_place() -> None:
    scripts = ScriptRegistry()
    rules = [{"match": {"text": "bye"}, "reply": "1", "name": "farewell"}, {"reply": "2"}]
    scripts.put(ORGANIZATION, script(*rules))
    bye = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "bye")

    assert [found.rule for ask in (ASK, bye) if (found := await answer(scripts, ask))] == [
        "replies[1]",
        "farewell",
    ]


async def test_rules_that_would_take_for_ever_are_a_refusal_and_nobody_waits_for_it() -> None:
    scripts = ScriptRegistry()
    slow = {"match": {"regex": "(a|aa)+$"}, "reply": "1"}
    running = scripts.put(ORGANIZATION, script(*[slow] * 3, {"reply": "2"}))
    ask = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "a" * 60 + "!")
    asked = asyncio.ensure_future(answer(scripts, ask))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    # On this loop there would be none, and but for the lock a few.
    assert turns > 100
    found = await asked
    assert found is not None
    assert isinstance(found.answer, Refusal)
    assert "took longer than 0.5 s, when it came to '(a|aa)+$'" in found.answer.words
    assert (found.rule, running.used) == ("replies[0]", [0, 0, 0, 0])


async def test_a_rule_of_the_servers_own_script_is_used_up_once_by_all_organizations() -> None:
    scripts = ScriptRegistry(script({"reply": "once", "times": 1}, {"reply": "then"}))
    asked = [scripts.answer(OrganizationId(each), INSTANCE, ASK, "d" * 64) for each in "abcd"]
    found = [each.rule for each in await asyncio.gather(*asked) if each is not None]
    assert sorted(found) == ["replies[0]", *["replies[1]"] * 3]
