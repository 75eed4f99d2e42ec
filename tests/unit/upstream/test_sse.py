"""Cutting a stream of server-sent events."""

import pytest

from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.upstream.sse import Event, EventReader, encode, parse

STREAM = (
    b'event: one\r\ndata: {"a": 1}\r\n\r\n: ping\n\n'
    b"data: x\ndata:y\n\nevent:two\ndata\n\ndata: ende"
)
WHOLE = [
    Event(b'event: one\r\ndata: {"a": 1}\r\n\r\n', "one", '{"a": 1}'),
    Event(b": ping\n\n", None, None),
    Event(b"data: x\ndata:y\n\n", None, "x\ny"),
    Event(b"event:two\ndata\n\n", "two", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, len(STREAM)])
def test_events_come_out_whole_wherever_the_stream_is_split(size: int) -> None:
    reader = EventReader()

    events = [
        event
        for start in range(0, len(STREAM), size)
        for event in reader.feed(STREAM[start : start + size])
    ]

    assert events == WHOLE
    assert reader.rest() == b"data: ende"


def test_the_raw_bytes_of_all_events_are_the_stream() -> None:
    reader = EventReader()

    raw = b"".join(event.raw for event in reader.feed(STREAM))

    assert raw + reader.rest() == STREAM


def test_a_mixed_blank_line_ends_an_event() -> None:
    assert [event.data for event in EventReader().feed(b"data: a\n\r\ndata: b\r\n\n")] == ["a", "b"]


def test_an_event_that_never_ends_is_refused() -> None:
    reader = EventReader(max_event_bytes=8)
    reader.feed(b"data: a\n\n")

    with pytest.raises(StreamBroken, match="longer than 8 bytes"):
        reader.feed(b"data: 123")


def test_an_event_of_very_many_lines_is_refused() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\n" * 9_000 + b"\n")

    with pytest.raises(StreamBroken, match="more than 10000 lines"):
        reader.feed(b"data: a\n" * 10_000 + b"\n")


def test_a_byte_order_mark_is_not_part_of_a_field() -> None:
    assert parse(b"\xef\xbb\xbfdata: a\n\n").data == "a"


def test_an_encoded_event_is_read_back() -> None:
    assert parse(encode("a\nb", "name")) == Event(
        b"event: name\ndata: a\ndata: b\n\n", "name", "a\nb"
    )
    assert encode("[DONE]") == b"data: [DONE]\n\n"
    assert encode("{}", "name", "7") == b"id: 7\nevent: name\ndata: {}\n\n"
