"""Foreign text that people read."""

import json
import unicodedata

import pytest

from chowder_local.core.visible_text import visible_line, visible_pieces, visible_text

NUMBER_SIGNS = (
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Of the category Cf, but people see them."""


def test_nothing_that_is_obeyed_or_hidden_is_left_and_json_keeps_its_meaning() -> None:
    for number in range(0x110000):
        character = chr(number)
        shown = visible_line(character)
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            assert (shown == character) is (character in NUMBER_SIGNS), hex(number)
        if shown != character:
            assert shown.isascii()
            assert json.loads(f'"{shown}"') == character


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;x\x07", r"a\u001b]0;x\u0007"),
        ("rm \u202ex\u202c", r"rm \u202ex\u202c"),
        ("rm\u200d -r\ufe0f", r"rm\u200d -r\ufe0f"),
        ("\U000e0041", r"\udb40\udc41"),
        ("one\r\ntwo\tthree\rfour", "one\ntwo\tthree\\rfour"),
        ("❤️ 👨‍👩‍👧 1️⃣ می‌خواهم", "❤️ 👨‍👩‍👧 1️⃣ می‌خواهم"),
    ],
)
def test_a_text_keeps_its_lines_and_emoji(text: str, shown: str) -> None:
    assert visible_text(text) == shown


def test_a_line_has_no_break() -> None:
    assert visible_line("a\nb\tc\r\n") == r"a\nb\tc\r\n"


def test_what_is_split_between_two_pieces_does_not_pass() -> None:
    text = "a\x1b]0;x\x07❤️\u202e."
    assert "".join(visible_pieces(text)) == visible_text(text)
    assert list(visible_pieces(["\x1b", "[2J", "", "a", "\ufe0f"])) == [
        r"\u001b", "[2J", "", "a", r"\ufe0f"
    ]  # fmt: skip
