"""A log's pieces made into lines."""

from __future__ import annotations

import pytest

from chowder_local.dashboard.logs import LINE_MAX_CHARS, LineSplitter


def lines_of(*pieces: bytes) -> list[str]:
    lines = LineSplitter()
    return [line for piece in pieces for line in lines.feed(piece)] + lines.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_the_same_however_they_come(size: int) -> None:
    content = "one\n\nGrüße ⚠\r\nlast".encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert lines_of(*pieces) == ["one", "", "Grüße ⚠", "last"]


def test_what_only_a_terminal_can_do_is_left_out() -> None:
    log = b"\x1b[1;31mred\x1b[0m \x1b]8;;https://x.test\x07link\x1b]8;;\x1b\\ \x1b[2Kend\x1bM\n"
    assert lines_of(log) == ["red link end"]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert lines_of(b"a\xff\xfeb\n\xc3") == ["a��b", "�"]


def test_a_line_that_is_too_long_is_cut_and_never_kept_whole() -> None:
    lines = LineSplitter()
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
    (line,) = lines.feed(b"\n")
    assert line == "x" * LINE_MAX_CHARS + "…"


def test_an_order_without_end_takes_no_time() -> None:
    (line,) = lines_of(b"\x1b[" + b"1;" * 1_000_000 + b"\n")
    assert len(line) <= LINE_MAX_CHARS + 1
