"""Splitting of a log's pieces into lines."""

from __future__ import annotations

import pytest

from chowder_local.dashboard.logs import LINE_MAX_CHARS, LineSplitter


def lines_of(*pieces: bytes) -> list[str]:
    lines = LineSplitter()
    return [line for piece in pieces for line in lines.feed(piece)] + lines.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_do_not_depend_on_the_size_of_pieces(size: int) -> None:
    content = "one\n\nGrüße ⚠\r\nlast".encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert lines_of(*pieces) == ["one", "", "Grüße ⚠", "last"]


def test_control_sequences_are_removed() -> None:
    log = b"\x1b[1;31mred\x1b[0m \x1b]8;;https://x.test\x07link\x1b]8;;\x1b\\ \x1b[2Kend\x1bM\n"
    assert lines_of(log) == ["red link end"]


def test_invalid_utf8_becomes_replacement_characters() -> None:
    assert lines_of(b"a\xff\xfeb\n\xc3") == ["a��b", "�"]


def test_a_long_line_is_cut_and_never_held_completely() -> None:
    lines = LineSplitter()
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
    (line,) = lines.feed(b"\n")
    assert line == "x" * LINE_MAX_CHARS + "…"


def test_an_endless_control_sequence_is_handled_fast() -> None:
    (line,) = lines_of(b"\x1b[" + b"1;" * 1_000_000 + b"\n")
    assert len(line) <= LINE_MAX_CHARS + 1
