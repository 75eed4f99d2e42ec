"""What an editor makes of a file's bytes, and what of its own text."""

from __future__ import annotations

import pytest

from chowder_local.dashboard.files import Text, with_line_ends


@pytest.mark.parametrize(
    ("data", "line_end", "is_mixed"),
    [
        (b"", "lf", False),
        (b"one", "lf", False),
        (b"one\ntwo\n", "lf", False),
        (b"one\r\ntwo\r\n", "crlf", False),
        (b"one\r\ntwo\n", "lf", True),
        (b"one\rtwo\n", "lf", True),
        (b"one\rtwo", "lf", True),
        (b"one\r\r\n", "lf", True),
    ],
)
def test_how_lines_end_is_seen(data: bytes, line_end: str, is_mixed: bool) -> None:
    text = Text.of(data)
    assert text.content == data.decode()
    assert (text.line_end, text.is_mixed) == (line_end, is_mixed)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"\x89PNG\r\n\x1a\n"])
def test_what_no_page_can_hold_is_no_text(data: bytes) -> None:
    assert Text.of(data).content is None


@pytest.mark.parametrize("data", [b"", b"one\ntwo", b"one\r\ntwo\r\n", "Größe\n\n".encode()])
def test_a_text_that_nobody_has_changed_is_saved_as_it_was(data: bytes) -> None:
    text = Text.of(data)
    assert text.content is not None
    # A browser's field knows one end of line, and its form sends another.
    sent = text.content.replace("\r\n", "\n").replace("\n", "\r\n")
    assert with_line_ends(sent, text.line_end).encode() == data
