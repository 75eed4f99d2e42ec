"""Streams in the gateway's order, validated with the models of the published schema."""

import json
from typing import Any

import pytest
from openresponses_types import types as spec
from pydantic import BaseModel

from chowder_local.api.schemas.responses import ResponseStreamEvent
from chowder_local.core.errors.agents import AnswerUnfit
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw.responses.events import EventWriter
from chowder_local.openclaw.responses.requests import GatewayRequest
from chowder_local.openclaw.responses.tools import Format
from chowder_local.upstream import sse
from tests.scripted.answers import (
    ANSWERS,
    CALL,
    MESSAGE,
    MODEL,
    NO_USAGE,
    NOW_S,
    PARAMETERS,
    REQUEST,
    gateway_response,
)

STARTED = gateway_response(status="in_progress", output=[], usage=NO_USAGE)
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
OPENING: list[dict[str, Any]] = [
    {"type": "response.created", "response": STARTED},
    {"type": "response.in_progress", "response": STARTED},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [],
            "status": "in_progress",
        },
    },
    {"type": "response.content_part.added", **AT, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", **AT, "delta": "Hello "},
    {"type": "response.output_text.delta", **AT, "delta": "there."},
]
CLOSING: list[dict[str, Any]] = [
    {"type": "response.output_text.done", **AT, "text": "Hello there."},
    {
        "type": "response.content_part.done",
        **AT,
        "part": {"type": "output_text", "text": "Hello there."},
    },
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
]
CALLING: list[dict[str, Any]] = [
    {"type": "response.output_item.added", "output_index": 1, "item": CALL},
    {
        "type": "response.output_item.done",
        "output_index": 1,
        "item": CALL | {"status": "completed"},
    },
]
STREAMS = {
    "plain": [*OPENING, *CLOSING, {"type": "response.completed", "response": gateway_response()}],
    "tool call": [
        *OPENING,
        *CLOSING,
        *CALLING,
        {"type": "response.completed", "response": ANSWERS["tool call"]},
    ],
    "cut short": [
        *OPENING,
        *CLOSING,
        {"type": "response.incomplete", "response": ANSWERS["cut short"]},
    ],
}
JUDGES: dict[str, type[BaseModel]] = {
    "response.created": spec.ResponseCreatedStreamingEvent,
    "response.in_progress": spec.ResponseInProgressStreamingEvent,
    "response.completed": spec.ResponseCompletedStreamingEvent,
    "response.incomplete": spec.ResponseIncompleteStreamingEvent,
    "response.failed": spec.ResponseFailedStreamingEvent,
    "response.output_item.added": spec.ResponseOutputItemAddedStreamingEvent,
    "response.output_item.done": spec.ResponseOutputItemDoneStreamingEvent,
    "response.content_part.added": spec.ResponseContentPartAddedStreamingEvent,
    "response.content_part.done": spec.ResponseContentPartDoneStreamingEvent,
    "response.output_text.delta": spec.ResponseOutputTextDeltaStreamingEvent,
    "response.output_text.done": spec.ResponseOutputTextDoneStreamingEvent,
    "response.function_call_arguments.delta": spec.ResponseFunctionCallArgumentsDeltaStreamingEvent,
    "response.function_call_arguments.done": spec.ResponseFunctionCallArgumentsDoneStreamingEvent,
    "response.refusal.delta": spec.ResponseRefusalDeltaStreamingEvent,
    "response.refusal.done": spec.ResponseRefusalDoneStreamingEvent,
    "error": spec.ErrorStreamingEvent,
}


def writer(**options: Any) -> EventWriter:
    return EventWriter(
        REQUEST, options.pop("turn", GatewayRequest({})), lambda: NOW_S + 0.9, **options
    )


def written(data: str, stream: EventWriter) -> dict[str, Any]:
    """The only event that is written, validated by its schema."""
    (event,) = all_written(data, stream)
    return event


def all_written(data: str, stream: EventWriter) -> list[dict[str, Any]]:
    """The events that are written, each validated by its schema and that of our document."""
    contents = []
    for event in sse.EventReader().feed(stream.write(data)):
        content: dict[str, Any] = json.loads(event.data or "")
        assert event.name == content["type"]
        JUDGES[content["type"]].model_validate(content)
        ResponseStreamEvent.model_validate(content)
        contents.append(content)
    return contents


def rewrite(events: list[dict[str, Any]], stream: EventWriter) -> list[dict[str, Any]]:
    return [each for event in events for each in all_written(json.dumps(event), stream)]


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_every_event_of_a_stream_is_one_of_the_schema(events: list[dict[str, Any]]) -> None:
    stream = writer()
    out = rewrite(events, stream)
    event_types = [event["type"] for event in out if "function_call_arguments" not in event["type"]]
    assert event_types == [event["type"] for event in events]
    assert [event["sequence_number"] for event in out] == list(range(len(out)))
    named = [event["response"]["model"] for event in out if "response" in event]
    assert set(named) == {MODEL}


def test_the_start_of_a_function_call_is_followed_by_its_arguments() -> None:
    added = {"type": "response.output_item.added", "output_index": 1, "item": CALL}
    started, delta, done = all_written(json.dumps(added), writer())
    ids = {"id": "fc_toolu_1", "call_id": "call_toolu_1"}
    assert started["item"] == CALL | ids | {"arguments": "", "status": "in_progress"}
    assert (delta["item_id"], delta["delta"]) == ("fc_toolu_1", CALL["arguments"])
    assert (done["output_index"], done["arguments"]) == (1, CALL["arguments"])


def test_a_streams_texts_come_through_unchanged() -> None:
    stream = writer()
    out = rewrite(STREAMS["plain"], stream)
    deltas = [event["delta"] for event in out if event["type"] == "response.output_text.delta"]
    assert deltas == ["Hello ", "there."]
    assert out[-1]["response"]["output"][0]["content"][0]["text"] == "Hello there."
    assert out[-1]["response"]["completed_at"] == NOW_S


def test_text_is_written_as_it_is_read() -> None:
    delta = {"type": "response.output_text.delta", **AT, "delta": "Zoë 🦞\n\ndata: x"}
    out = writer().write(json.dumps(delta))
    assert "Zoë 🦞".encode() in out
    assert out.count(b"\n\n") == 1
    assert json.loads(sse.parse(out).data or "")["delta"] == "Zoë 🦞\n\ndata: x"


def test_the_end_mark_goes_through_and_tells_that_the_stream_is_over() -> None:
    stream = writer()
    assert not stream.is_over
    assert stream.write("[DONE]") == b"data: [DONE]\n\n"
    assert stream.is_over


FAILED = {"type": "response.failed", "response": ANSWERS["failed"]}
ERROR = {"type": "server_error", "code": "server_error", "message": "It broke off.", "param": None}


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_failed_stream_ends_with_an_error_that_every_client_reads(has_failed: bool) -> None:
    from openai.types.responses import ResponseError, ResponseErrorEvent

    stream = writer()
    before = rewrite(OPENING, stream)
    if has_failed:
        assert all_written(json.dumps(FAILED), stream) == []
        assert stream.error == {"code": "api_error", "message": "upstream provider error"}
    *events, done = sse.EventReader().feed(stream.failure_events(ERROR))
    error, failed = (json.loads(event.data or "") for event in events)
    assert [event.name for event in events] == [error["type"], failed["type"]]
    judged = spec.ErrorStreamingEvent.model_validate(error)
    assert judged.error.message == "It broke off."
    # OpenAI's clients read these at the top.
    assert ResponseErrorEvent.model_validate(error).message == "It broke off."
    spec.ResponseFailedStreamingEvent.model_validate(failed)
    assert failed["response"]["id"] == ANSWERS["failed"]["id"]
    ResponseError.model_validate(failed["response"]["error"])
    numbers = [each["sequence_number"] for each in (*before, error, failed)]
    assert numbers == list(range(len(numbers)))
    assert done.data == "[DONE]"


def test_a_response_that_fails_early_writes_no_events() -> None:
    stream = writer()
    for data in (*map(json.dumps, [*OPENING[:4], FAILED]), "[DONE]"):
        stream.feed(b": a comment\n\n" + sse.encode(data))
    assert stream.error == {"code": "api_error", "message": "upstream provider error"}
    assert (stream.ready(), stream.has_begun, stream.is_over) == (b"", False, False)


@pytest.mark.parametrize("data", ["", "{", "nonsense", "[]", "null", "{}", '{"type": 5}'])
def test_an_invalid_event_breaks_the_stream(data: str) -> None:
    with pytest.raises(StreamBroken, match="something other than an event"):
        writer().write(data)


def test_an_event_that_nobody_knows_yet_comes_through_with_its_number() -> None:
    out = writer().write('{"type":"response.new","x":1}')
    assert json.loads(sse.parse(out).data or "") == {
        "type": "response.new",
        "x": 1,
        "sequence_number": 0,
    }


def test_each_kind_of_event_that_the_gateway_sends_has_a_judge() -> None:
    sent: set[str] = {event["type"] for events in STREAMS.values() for event in events}
    ours = {
        "error",
        "response.failed",
        *(kind for kind in JUDGES if "function_call_arg" in kind or "refusal" in kind),
    }
    assert sent | ours == JUDGES.keys()


# Only a call: the gateway begins with a message even then.
WORDLESS = MESSAGE | {"content": [{"type": "output_text", "text": ""}]}
CALL_ALONE: list[dict[str, Any]] = [
    *OPENING[:4],
    {"type": "response.output_text.done", **AT, "text": ""},
    {"type": "response.content_part.done", **AT, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_item.done", "output_index": 0, "item": WORDLESS},
    *CALLING,
    {"type": "response.completed", "response": gateway_response(output=[WORDLESS, CALL])},
]
CALL_EVENTS = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]


def test_a_call_without_text_writes_no_message() -> None:
    out = rewrite(CALL_ALONE, writer())
    kinds = [event["type"] for event in out]
    begun = ["response.created", "response.in_progress"]
    assert kinds == [*begun, *CALL_EVENTS, "response.completed"]
    assert {event["output_index"] for event in out if "output_index" in event} == {0}
    assert [item["type"] for item in out[-1]["response"]["output"]] == ["function_call"]
    assert [event["sequence_number"] for event in out] == list(range(len(out)))


def test_the_first_events_are_written_with_the_first_text() -> None:
    stream = writer()
    assert rewrite(OPENING[:4], stream) == []
    assert [event["type"] for event in rewrite(OPENING[4:5], stream)] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
    ]


def test_a_call_has_the_clients_name_in_every_event() -> None:
    named = json.loads(json.dumps(CALL_ALONE).replace("get_weather", "client_read"))
    out = rewrite(named, writer(turn=GatewayRequest({}, names={"client_read": "read"})))
    assert "client_read" not in json.dumps(out)
    assert out[-1]["response"]["output"][0]["name"] == "read"


def test_without_parallel_calls_only_the_first_call_is_written() -> None:
    second = [
        json.loads(json.dumps(event).replace("toolu_1", "toolu_2")) | {"output_index": 2}
        for event in CALLING
    ]
    end = {
        "type": "response.completed",
        "response": gateway_response(output=[WORDLESS, CALL, CALL]),
    }
    out = rewrite([*CALL_ALONE[:-1], *second, end], writer(turn=GatewayRequest({}, is_single=True)))
    assert "toolu_2" not in json.dumps(out)
    assert len(out[-1]["response"]["output"]) == 1


STRUCTURED = GatewayRequest({}, format=Format(PARAMETERS))
ANSWER = CALL | {"name": "final_answer"}


def ended(*items: dict[str, Any], status: str = "completed") -> list[dict[str, Any]]:
    response = gateway_response(output=list(items), status=status)
    return [*CALL_ALONE[:-1], {"type": f"response.{status}", "response": response}]


def test_an_answer_in_a_format_is_streamed_as_text() -> None:
    out = rewrite(ended(WORDLESS, ANSWER), writer(turn=STRUCTURED))
    assert [event["type"] for event in out] == [event["type"] for event in STREAMS["plain"][:5]] + [
        event["type"] for event in STREAMS["plain"][6:]
    ]
    assert out[4]["delta"] == out[5]["text"] == CALL["arguments"]
    assert out[7]["item"] == out[8]["response"]["output"][0]
    assert [event["sequence_number"] for event in out] == list(range(len(out)))


def test_a_clients_function_beside_a_format_is_streamed_as_a_call() -> None:
    out = rewrite(ended(WORDLESS, CALL), writer(turn=STRUCTURED))
    assert [event["type"] for event in out][2:-1] == CALL_EVENTS
    assert out[-1]["response"]["output"][0]["name"] == "get_weather"


def test_prose_instead_of_the_answer_is_streamed_as_a_refusal() -> None:
    out = rewrite(ended(MESSAGE), writer(turn=STRUCTURED))
    assert out[4]["type"] == "response.refusal.delta"
    assert out[5]["refusal"] == "Hello there."
    assert out[-1]["response"]["output"][0]["content"][0]["type"] == "refusal"


def test_an_answer_that_does_not_fit_fails_before_any_output() -> None:
    stream = writer(turn=STRUCTURED)
    with pytest.raises(AnswerUnfit, match="not an object"):
        rewrite(ended(ANSWER | {"arguments": "5"}), stream)
    assert not stream.has_begun


def test_other_events_are_passed_on_with_a_format_too() -> None:
    error = {"type": "error", "code": "x", "message": "y", "param": None}
    event = error | {"error": {"type": "server_error", **error}}
    assert [each["type"] for each in rewrite([event], writer(turn=STRUCTURED))] == ["error"]


def delta_event(delta: str, **members: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", **AT, "delta": delta, **members}


DELTAS: list[str] = [
    json.dumps(delta_event(text), ensure_ascii=is_ascii, separators=(",", ":"))
    for is_ascii in (False, True)
    for text in (
        "", "Hello there.", "Zoë 🦞", 'a "quote", a \\ and a /', "\n\r\t\b\f\x00\x1f\x7f\u2028",
        "}{][:,",
        '","delta":"', "x" * 100_000, "\\u0041", '"logprobs"', "data: \n\nevent: x",
    )
]  # fmt: skip
UNUSUAL: list[str] = [
    json.dumps(each)
    for each in (
        delta_event("spaced"),
        delta_event("judged", logprobs=[{"token": "x"}]),
        delta_event("numbered", sequence_number=9),
        delta_event("guarded", obfuscation="abc"),
        delta_event("negative", output_index=-1),
        delta_event("nested", item_id={"a": [1]}),
        delta_event("half of a lobster \ud83e"),
        {"delta": "turned round", "type": "response.output_text.delta"},
    )
]


def write_slowly(data: str) -> bytes:
    """The event as the slow path writes it."""
    stream = writer()
    return b"".join(stream._encode(event) for event in stream._translate(json.loads(data)))


def test_the_fast_and_the_slow_path_write_the_same_delta() -> None:
    unlike = []
    for data in [*DELTAS, *UNUSUAL]:
        (quick,), (slow,) = (
            sse.EventReader().feed(written)
            for written in (writer().write(data), write_slowly(data))
        )
        meant = [(each.name, json.loads(each.data or "")) for each in (quick, slow)]
        if meant[0] != meant[1]:
            unlike.append(data)
    assert not unlike


def test_deltas_in_the_gateways_form_are_not_parsed() -> None:
    whole = [each for each in DELTAS if "\\ud" not in each]
    begins = {data: f"event: response.output_text.delta\ndata: {data[:-1]}," for data in whole}
    assert len(whole) > 20
    assert not [
        data for data in whole if not writer().write(data).startswith(begins[data].encode())
    ]


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"response.output_text.delta","delta":"cut',
        '{"type":"response.output_text.delta","delta":"cut}',
        '{"type":"response.output_text.delta","delta":"a\\"}',
        '{"type":"response.output_text.delta","delta":"a\\x"}',
        '{"type":"response.output_text.delta","delta":"a\\u12"}',
        '{"type":"response.output_text.delta","delta":"a\tb"}',
        '{"type":"response.output_text.delta","output_index":01}',
        '{"type":"response.output_text.delta",}',
        '{"type":"response.output_text.delta"} {}',
    ],
)
def test_text_that_is_no_json_breaks_the_stream_all_the_same(data: str) -> None:
    with pytest.raises(StreamBroken):
        writer().write(data)


def test_a_text_is_numbered_like_every_event_and_comes_after_what_was_held() -> None:
    stream = writer()
    out = b"".join(
        stream.write(json.dumps(event, separators=(",", ":"))) for event in [*OPENING, *CLOSING]
    )
    contents = [json.loads(event.data or "") for event in sse.EventReader().feed(out)]
    assert [each["type"] for each in contents] == [each["type"] for each in [*OPENING, *CLOSING]]
    assert [each["sequence_number"] for each in contents] == list(range(len(contents)))


def test_unpaired_surrogates_pass_unchanged() -> None:
    data = [json.dumps(delta_event(half)) for half in ("\ud83e", "\udd9e")]
    stream = writer()
    out = b"".join(map(stream.write, data))
    first, second = (json.loads(event.data or "") for event in sse.EventReader().feed(out))
    assert (first["delta"], second["delta"]) == ("\ud83e", "\udd9e")


def test_both_paths_record_that_text_has_come() -> None:
    for is_quick in (True, False):
        stream = writer()
        stream.feed(sse.encode(json.dumps(OPENING[0])))
        assert (stream.has_begun, stream.has_text) == (False, False)
        separators = (",", ":") if is_quick else None
        stream.feed(sse.encode(json.dumps(delta_event("Hello."), separators=separators)))
        assert (stream.has_begun, stream.has_text) == (True, True)


def test_events_before_an_invalid_one_are_written() -> None:
    stream = writer()
    with pytest.raises(StreamBroken):
        stream.feed(sse.encode(json.dumps(OPENING[4])) + sse.encode("no json"))
    (delta,) = sse.EventReader().feed(stream.ready())
    assert delta.name == "response.output_text.delta"
    assert stream.ready() == b""


def test_comments_pass_unchanged() -> None:
    stream = writer()
    stream.write(json.dumps(OPENING[4]))
    stream.feed(b": ping\n\n")
    assert stream.ready() == b": ping\n\n"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created", "response": {"more": "x" * 100_000}},
        {"type": "response.output_item.added", "item": {"type": "x" * 100_000}},
        {"type": "response.output_text.delta", "delta": "x" * 100_000},
    ],
    ids=lambda event: event["type"],
)
def test_what_is_held_back_is_bounded(event: dict[str, Any]) -> None:
    stream = writer()

    def feed() -> None:
        for _ in range(100):
            stream.feed(sse.encode(json.dumps(event)))

    with pytest.raises(StreamBroken, match="before its beginning"):
        feed()
