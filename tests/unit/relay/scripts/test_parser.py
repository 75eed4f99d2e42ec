"""Parsing scripts and reporting the line of each problem."""

from __future__ import annotations

import pytest

from chowder_local.relay.scripts.files import LONG_SCRIPT_RULES, TextInvalid, parse, serialize

GOOD = "- match: {text: weather}\n  reply: It is sunny.\n"


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(TextInvalid) as caught:
        parse(text)
    return [(each.line, each.place, each.message) for each in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"unmatched: fail\nreplies:\n{GOOD}",
        "",
        '{"replies": []}',
        GOOD * (LONG_SCRIPT_RULES + 1),
    ],
)
def test_a_serialized_script_parses_to_the_same_script(text: str) -> None:
    script = parse(text)
    assert parse(serialize(script)) == script


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        (f"{GOOD}- match: {{txt: order}}\n  reply: No.\n", 3, "replies.1.match.txt"),
        (f"unmatched: fail\nreplies:\n{GOOD}- match: {{}}\n", 5, "replies.1.reply"),
        (f"{GOOD}- reply:\n    error: 200\n", 4, "replies.1.reply.error"),
        (f"{GOOD}- reply: [One., {{pace: 1}}]\n", 3, "replies.1.reply.1.pace"),
        ("unmatched: never\n", 1, "unmatched"),
    ],
)
def test_an_invalid_rule_is_reported_with_its_line(text: str, line: int, place: str) -> None:
    assert (line, place) in [each[:2] for each in problems(text)]


def test_invalid_yaml_is_reported_with_its_line() -> None:
    ((line, place, words),) = problems(f"{GOOD}- match: 'x\n")
    assert (line, place) == (4, "")
    assert "quoted scalar" in words
    ((line, _, words),) = problems(f"{GOOD}- reply: !!python/name:os.system\n")
    assert line == 3
    assert "could not determine a constructor" in words
