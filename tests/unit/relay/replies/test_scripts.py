"""Which script counts, how often its rules do, and what no rule is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.domain import InstanceId, ModelProvider, OrganizationId
from chowder_local.relay.offline.conversation import Reply
from chowder_local.relay.replies.matching import Ask, Refusal
from chowder_local.relay.replies.rules import ReplyScript
from chowder_local.relay.replies.scripts import UNMATCHED_KEPT, Scripts

if TYPE_CHECKING:
    from chowder_local.relay.replies.scripts import Scripted

ORGANIZATION, INSTANCE = OrganizationId("o"), InstanceId("i")
ASK = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "Hi")


def script(*replies: Any, unmatched: str = "offline") -> ReplyScript:
    return ReplyScript.model_validate({"replies": replies, "unmatched": unmatched})


def answer(scripts: Scripts, ask: Ask = ASK, instance: InstanceId = INSTANCE) -> Scripted | None:
    return scripts.answer(ORGANIZATION, instance, ask, "d" * 64)


def text(scripts: Scripts, ask: Ask = ASK) -> str | None:
    found = answer(scripts, ask)
    if found is None:
        return None
    assert isinstance(found.played.answer, Reply)
    return found.played.answer.text


def test_without_a_script_all_is_left_to_the_offline_model() -> None:
    assert answer(Scripts()) is None


def test_the_first_rule_that_matches_counts() -> None:
    scripts = Scripts()
    rules = [{"match": {"text": "bye"}, "reply": "1"}, {"reply": "2"}, {"reply": "3"}]
    running = scripts.put(ORGANIZATION, script(*rules))

    assert text(scripts) == "2"
    assert running.used == [0, 1, 0]


def test_a_rule_counts_as_often_as_it_says() -> None:
    scripts = Scripts()
    scripts.put(ORGANIZATION, script({"reply": "once", "times": 1}, {"reply": "then"}))

    assert [text(scripts) for _ in range(3)] == ["once", "then", "then"]


def test_a_list_that_has_begun_comes_to_its_end() -> None:
    scripts = Scripts()
    scripts.put(ORGANIZATION, script({"reply": ["a", "b"], "times": 1}))
    later = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "Hi", 1, "exec", "x")

    assert [text(scripts), text(scripts, later), text(scripts)] == ["a", "b", None]


def test_what_is_nearest_is_asked_first() -> None:
    scripts = Scripts(script({"reply": "server"}))
    assert text(scripts) == "server"
    scripts.put(ORGANIZATION, script({"reply": "organization"}))
    assert text(scripts) == "organization"
    scripts.put(INSTANCE, script({"reply": "instance", "times": 1}))
    assert [text(scripts), text(scripts)] == ["instance", "organization"]
    scripts.remove(INSTANCE)
    scripts.remove(INSTANCE)
    assert scripts.of(INSTANCE) is None
    assert text(scripts) == "organization"


def test_another_instances_script_is_of_no_concern() -> None:
    scripts = Scripts()
    scripts.put(InstanceId("other"), script({"reply": "other"}))

    assert answer(scripts) is None


def test_what_no_rule_is_about_is_kept_and_may_be_a_failure() -> None:
    scripts = Scripts()
    running = scripts.put(INSTANCE, script(unmatched="fail"))

    found = answer(scripts)

    assert found is not None
    assert isinstance(found.played.answer, Refusal)
    assert found.played.answer.status == 400
    assert 'turn 1, "Hi", of gpt-4o' in found.played.answer.words
    assert [each.ask for each in running.unmatched] == [ASK]
    assert found.rule == "unmatched"


def test_what_is_left_to_the_offline_model_is_kept_as_well() -> None:
    scripts = Scripts()
    running = scripts.put(ORGANIZATION, script({"match": {"text": "bye"}, "reply": "1"}))

    assert answer(scripts) is None
    assert len(running.unmatched) == 1


def test_only_the_latest_are_kept() -> None:
    scripts = Scripts()
    running = scripts.put(ORGANIZATION, script())
    for _ in range(UNMATCHED_KEPT + 5):
        answer(scripts)

    assert len(running.unmatched) == UNMATCHED_KEPT


def test_a_rule_is_told_by_its_name_or_place() -> None:
    scripts = Scripts()
    rules = [{"match": {"text": "bye"}, "reply": "1", "name": "farewell"}, {"reply": "2"}]
    scripts.put(ORGANIZATION, script(*rules))
    bye = Ask(ModelProvider.OPENAI, "gpt-4o", 1, "bye")

    assert [found.rule for ask in (ASK, bye) if (found := answer(scripts, ask))] == [
        "replies[1]",
        "farewell",
    ]


def test_a_regular_expression_that_would_take_for_ever_is_a_refusal_that_says_so() -> None:
    scripts = Scripts()
    running = scripts.put(
        ORGANIZATION, script({"match": {"regex": "(a|aa)+$"}, "reply": "1"}, {"reply": "2"})
    )
    found = answer(scripts, Ask(ModelProvider.OPENAI, "gpt-4o", 1, "a" * 60 + "!"))

    assert found is not None
    assert isinstance(found.played.answer, Refusal)
    assert "'(a|aa)+$' took longer than 0.2 s" in found.played.answer.words
    assert (found.rule, running.used) == ("replies[0]", [0, 0])
