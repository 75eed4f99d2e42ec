"""Texts of the editor, and their line ends."""

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
def test_line_ends_are_detected(data: bytes, line_end: str, is_mixed: bool) -> None:
    text = Text.from_bytes(data)
    assert text.content == data.decode()
    assert (text.line_end, text.is_mixed) == (line_end, is_mixed)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_html_cannot_hold_are_not_text(data: bytes) -> None:
    assert Text.from_bytes(data).content is None


@pytest.mark.parametrize("data", [b"", b"one\ntwo", b"one\r\ntwo\r\n", "Größe\n\n".encode()])
def test_an_unchanged_text_is_saved_byte_for_byte(data: bytes) -> None:
    text = Text.from_bytes(data)
    assert text.content is not None
    # A browser's text area uses LF, and its form sends CRLF.
    sent = text.content.replace("\r\n", "\n").replace("\n", "\r\n")
    assert with_line_ends(sent, text.line_end).encode() == data
