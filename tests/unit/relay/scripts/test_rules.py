"""Valid and invalid reply scripts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from chowder_local.relay.scripts.rules import ReplyScript, Rule


def problems(reply: Any, **more: Any) -> str:
    with pytest.raises(ValidationError) as invalid:
        Rule.model_validate({"reply": reply, **more})
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in invalid.value.errors()
    )


def test_an_empty_script_leaves_all_calls_to_the_offline_model() -> None:
    script = ReplyScript.model_validate({})

    assert (script.unmatched, script.replies) == ("offline", [])


def test_a_name_that_no_tool_has_is_refused_with_its_place_and_the_nearest() -> None:
    replies = [
        {"match": {"tool": "get_weather"}, "reply": [{"call": "cron"}, {"call": "web_serach"}]},
        {"reply": {"calls": [{"name": "exec"}, {"name": "client_read"}, {"name": "lookup"}]}},
    ]
    with pytest.raises(ValidationError) as refused:
        ReplyScript.model_validate({"replies": replies, "tools": ["get_weather"]})
    first, second = refused.value.errors()
    assert first["loc"] == ("replies", 0, "reply", 1, "call")
    assert "no tool 'web_serach'; did you mean 'web_search'?" in first["msg"]
    assert "get_weather, github_identity_status" in first["msg"]
    assert second["loc"] == ("replies", 1, "reply", "calls", 2, "name")


@pytest.mark.parametrize(
    ("reply", "texts"),
    [
        ("Hello", ["Hello"]),
        ({"text": "Hello"}, ["Hello"]),
        (["Hello", {"text": "Bye"}], ["Hello", "Bye"]),
    ],
)
def test_a_reply_is_a_text_an_action_or_a_list(reply: Any, texts: list[str]) -> None:
    rule = Rule.model_validate({"reply": reply})

    assert [each.text for each in rule.answers] == texts


SENSELESS: list[tuple[Any, str]] = [
    ({}, "give text, template, chunks, call or calls; or else error"),
    ({"text": "a", "error": 500}, "or else error"),
    ({"text": "a", "template": "b"}, "give one of text, template and chunks"),
    ({"call": "exec", "calls": [{"name": "read"}]}, "give call or calls, not both"),
    ({"text": "a", "arguments": {}}, "arguments go with call"),
    ({"text": "a", "message": "b"}, "message and retry_after_s go with error"),
    ({"text": "a", "retry_after_s": 1}, "message and retry_after_s go with error"),
    ({"error": 200}, "error"),
    ({"tekst": "a"}, "reply.answer.tekst: No such member. Did you mean text? Allowed: text, "),
    ({"cal": "exec"}, "reply.answer.cal: No such member. Did you mean call?"),
    ({"text": "a", "zzz": 1}, "reply.answer.zzz: No such member. Allowed: text, "),
    ({"template": "{{ tekst"}, "is not a valid template"),
    ({"chunks": []}, "reply.answer.chunks"),
    ({"chunks": [{"cut": False}]}, "reply.answer.chunks.0"),
    ({"chunks": [{"cut": 1}]}, "reply.answer.chunks.0"),
    ({"text": "a", "delay_s": 1e9}, "reply.answer.delay_s"),
    ({"chunks": [{"wait_s": False}]}, "wait_s: Input should be a number"),
    ({"text": "a", "usage": {"output_tokens": True}}, "should be a number, not a boolean"),
    ([], "reply.answers"),
    (5, "reply.answers"),
    (["a", {}], "reply.answers.1.answer"),
]


def test_an_invalid_reply_is_reported_with_its_place() -> None:
    messages = [(reply, words, problems(reply)) for reply, words in SENSELESS]
    assert not [each for each in messages if each[1] not in each[2]]


def test_a_tool_call_takes_name_or_call() -> None:
    for word in ("name", "call"):
        one = {word: "exec", "arguments": {"command": "ls"}}
        (alone,) = Rule.model_validate({"reply": one}).answers
        (listed,) = Rule.model_validate({"reply": {"calls": [one]}}).answers
        assert (alone.call, alone.arguments) == ("exec", {"command": "ls"})
        assert [(each.name, each.arguments) for each in listed.calls or ()] == [
            ("exec", {"command": "ls"})
        ]


@pytest.mark.parametrize("member", ["regex", "result_regex"])
def test_an_invalid_expression_is_reported(member: str) -> None:
    assert f"match.{member}: Value error, is not a valid regular" in problems(
        "a", match={member: "("}
    )


def test_an_expression_that_is_too_long_is_reported_with_its_place() -> None:
    assert "match.regex: Value error, is too long" in problems("a", match={"regex": "a{100000}"})


def test_a_null_session_differs_from_a_missing_one() -> None:
    rules = ReplyScript.model_validate(
        {
            "replies": [
                {"reply": "a"},
                {"reply": "a", "match": {"session": None}},
                {"reply": "a", "match": {"session": "x"}},
            ]
        }
    ).replies

    assert [rule.match.is_of_session for rule in rules] == [False, True, True]
