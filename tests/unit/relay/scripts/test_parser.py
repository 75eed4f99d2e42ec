"""A script that makes no sense is told where."""

from __future__ import annotations

import pytest

from chowder_local.relay.scripts.parser import DEPTH_MAX, TextInvalid, parse
from chowder_local.relay.scripts.serializer import LONG, serialize

GOOD = "- match: {text: weather}\n  reply: It is sunny.\n"
BOMB = "\n".join(
    ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 10)}]" for n in range(1, 10)]
)


def problems(text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(TextInvalid) as caught:
        parse(text)
    return [(each.line, each.place, each.words) for each in caught.value.problems]


@pytest.mark.parametrize(
    "text", [GOOD, f"unmatched: fail\nreplies:\n{GOOD}", "", '{"replies": []}', GOOD * (LONG + 1)]
)
def test_what_is_written_is_read_again(text: str) -> None:
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
def test_a_rule_that_makes_no_sense_is_found_by_its_line(text: str, line: int, place: str) -> None:
    assert (line, place) in [each[:2] for each in problems(text)]


def test_what_is_no_yaml_is_found_by_its_line() -> None:
    ((line, place, words),) = problems(f"{GOOD}- match: 'x\n")
    assert (line, place) == (4, "")
    assert "quoted scalar" in words
    ((line, _, words),) = problems(f"{GOOD}- reply: !!python/name:os.system\n")
    assert line == 3
    assert "could not determine a constructor" in words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "values"),
        ("&a [*a]", "levels"),
        ("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1), "levels"),
        ("[" * 5000, ""),
    ],
)
def test_a_text_that_would_never_end_is_refused(text: str, words: str) -> None:
    assert words in problems(text)[0][2]
