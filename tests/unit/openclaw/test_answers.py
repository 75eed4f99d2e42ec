"""What the gateway answers, made whole; the published schema's own models are the judge."""

import json
from typing import Any

import pytest
from openresponses_types import types as spec
from pydantic import BaseModel

from chowder_local.errors import StreamBroken
from chowder_local.openclaw.answers import EventWriter, resource
from chowder_local.upstream import sse

NOW_S = 1_800_000_000
MODEL = "claude-sonnet-4-20250514"
ASKED = {"model": MODEL, "input": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}

# As the gateway writes them: no annotations, no sequence numbers, hardly a member too many.
USAGE = {
    "input_tokens": 12003,
    "output_tokens": 42,
    "total_tokens": 12045,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
    "output_tokens_details": {"reasoning_tokens": 3},
}
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello there."}],
    "phase": "final_answer",
    "status": "completed",
}
CALL = {
    "type": "function_call",
    "id": "call_9",
    "call_id": "toolu_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}


def answered(**members: Any) -> dict[str, Any]:
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": NOW_S - 5,
        "status": "completed",
        "model": "openclaw",
        "output": [MESSAGE],
        "usage": USAGE,
    }
    return whole | members


ANSWERS = {
    "plain": answered(),
    "tool call": answered(output=[MESSAGE | {"phase": "commentary"}, CALL]),
    "cut short": answered(
        status="incomplete",
        output=[MESSAGE | {"status": "incomplete"}],
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "failed": answered(
        status="failed",
        output=[],
        usage=NO_USAGE,
        error={"code": "api_error", "message": "upstream provider error"},
    ),
    "under way": answered(status="in_progress", output=[], usage=NO_USAGE),
    "without usage": answered(usage=None),
}

HABITS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "explicit nulls": dict.fromkeys(
        [
            "instructions", "max_output_tokens", "max_tool_calls", "metadata", "temperature",
            "parallel_tool_calls", "previous_response_id", "reasoning", "service_tier", "store",
            "text", "tool_choice", "tools", "top_p", "truncation", "user",
        ]
    ),
    "everything": {
        "instructions": "Be brief.",
        "max_output_tokens": 99,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_0",
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "service_tier": "auto",
        "store": False,
        "temperature": 0,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": PARAMETERS, "strict": True}],
        "top_p": 0.5,
        "truncation": "auto",
    },
    "a tool with a name alone": {"tools": [{"type": "function", "name": "f"}]},
    "a chosen tool": {"tool_choice": {"type": "function", "name": "f"}},
    "a tool chosen as in chat": {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    "an effort that is not passed on": {"reasoning": {"effort": "minimal"}},
    "reasoning without an effort": {"reasoning": {"summary": "auto"}},
    "a verbosity alone": {"text": {"verbosity": "high"}},
    "a format that is null": {"text": {"format": None}},
    "a truncation of no meaning": {"truncation": "later"},
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS.keys())
def test_every_answer_is_a_responses_resource_whatever_was_asked(
    habit: dict[str, Any], answer: dict[str, Any]
) -> None:
    whole = resource(answer, ASKED | habit, NOW_S)
    judged = spec.ResponseResource.model_validate(whole)
    assert judged.id == "resp_1"
    assert judged.status == answer["status"]
    assert judged.model == MODEL
    assert judged.created_at == NOW_S - 5


def test_an_answer_says_what_was_asked_for() -> None:
    asked = ASKED | HABITS["everything"]
    whole = resource(answered(), asked, NOW_S)
    echoed = {
        "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
        "previous_response_id", "prompt_cache_key", "safety_identifier", "service_tier", "store",
        "temperature", "text", "tool_choice", "top_p", "truncation",
    }  # fmt: skip
    assert {key: whole[key] for key in echoed} == {key: asked[key] for key in echoed}
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    assert whole["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": None,
            "parameters": PARAMETERS,
            "strict": True,
        }
    ]


def test_what_a_person_reads_comes_first() -> None:
    assert list(resource(answered(), ASKED, NOW_S))[:7] == [
        "id", "object", "created_at", "status", "model", "output", "usage",
    ]  # fmt: skip


def test_text_says_the_same_and_gets_the_members_that_sdks_insist_on() -> None:
    (message,) = resource(answered(), ASKED, NOW_S)["output"]
    assert message == {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
        ],
    }


def test_a_part_that_is_no_text_stays_as_it_is() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    (message,) = resource(answered(output=[MESSAGE | {"content": [refusal]}]), ASKED, NOW_S)[
        "output"
    ]
    assert message["content"] == [refusal]


def test_a_function_call_has_a_status() -> None:
    (call,) = resource(answered(output=[CALL]), ASKED, NOW_S)["output"]
    assert call == CALL | {"status": "completed"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (USAGE, (12003, 42, 12045, 100, 3)),
        ({"input_tokens": 2, "output_tokens": 3}, (2, 3, 5, 0, 0)),
        (NO_USAGE, (0, 0, 0, 0, 0)),
        (None, (0, 0, 0, 0, 0)),
    ],
)
def test_usage_has_exactly_the_schemas_members(
    given: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    usage = resource(answered(usage=given), ASKED, NOW_S)["usage"]
    assert usage == {
        "input_tokens": expected[0],
        "output_tokens": expected[1],
        "total_tokens": expected[2],
        "input_tokens_details": {"cached_tokens": expected[3]},
        "output_tokens_details": {"reasoning_tokens": expected[4]},
    }


@pytest.mark.parametrize(
    ("status", "completed_at", "has_usage"),
    [
        ("completed", NOW_S, True),
        ("incomplete", NOW_S, True),
        ("failed", NOW_S, True),
        ("in_progress", None, False),
        ("queued", None, False),
    ],
)
def test_only_an_answer_that_is_over_has_an_end_and_a_usage(
    status: str, completed_at: int | None, has_usage: bool
) -> None:
    whole = resource(answered(status=status), ASKED, NOW_S)
    assert whole["completed_at"] == completed_at
    assert (whole["usage"] is not None) == has_usage


def test_an_answer_made_whole_leaves_the_gateways_as_it_was() -> None:
    given = answered(output=[MESSAGE, CALL])
    before = json.dumps(given)
    resource(given, ASKED, NOW_S)
    assert json.dumps(given) == before


# Streams, event by event, in the gateway's order.

STARTED = answered(status="in_progress", output=[], usage=NO_USAGE)
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
    "plain": [*OPENING, *CLOSING, {"type": "response.completed", "response": answered()}],
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
    "failed": [*OPENING, {"type": "response.failed", "response": ANSWERS["failed"]}],
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
    "error": spec.ErrorStreamingEvent,
}


def writer(**options: Any) -> EventWriter:
    return EventWriter(ASKED, lambda: NOW_S + 0.9, **options)


def written(data: str, through: EventWriter) -> dict[str, Any]:
    """The one event that comes out, judged by its schema."""
    (event,) = all_written(data, through)
    return event


def all_written(data: str, through: EventWriter) -> list[dict[str, Any]]:
    """The events that come out, each judged by its schema."""
    contents = []
    for event in sse.EventReader().feed(through.write(data)):
        content: dict[str, Any] = json.loads(event.data or "")
        assert event.name == content["type"]
        JUDGES[content["type"]].model_validate(content)
        contents.append(content)
    return contents


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_every_event_of_a_stream_is_one_of_the_schema(events: list[dict[str, Any]]) -> None:
    through = writer()
    out = [each for event in events for each in all_written(json.dumps(event), through)]
    said = [event["type"] for event in out if "function_call_arguments" not in event["type"]]
    assert said == [event["type"] for event in events]
    assert [event["sequence_number"] for event in out] == list(range(len(out)))
    named = [event["response"]["model"] for event in out if "response" in event]
    assert set(named) == {MODEL}


def test_the_start_of_a_function_call_is_followed_by_its_arguments() -> None:
    added = {"type": "response.output_item.added", "output_index": 1, "item": CALL}
    started, delta, done = all_written(json.dumps(added), writer())
    assert started["item"] == CALL | {"arguments": "", "status": "in_progress"}
    assert (delta["item_id"], delta["delta"]) == (CALL["id"], CALL["arguments"])
    assert (done["output_index"], done["arguments"]) == (1, CALL["arguments"])


def test_a_streams_texts_come_through_unchanged() -> None:
    through = writer()
    out = [written(json.dumps(event), through) for event in STREAMS["plain"]]
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
    through = writer()
    assert not through.is_over
    assert through.write("[DONE]") == b"data: [DONE]\n\n"
    assert through.is_over


def test_the_error_of_a_failed_response_is_put_in_the_callers_words() -> None:
    reworded: list[Any] = []

    def reword(error: Any) -> dict[str, str]:
        reworded.append(error)
        return {"code": "rate_limit_exceeded", "message": "Slow down."}

    through = writer(reword=reword)
    out = [written(json.dumps(event), through) for event in STREAMS["failed"]]
    assert reworded == [{"code": "api_error", "message": "upstream provider error"}]
    assert out[-1]["response"]["error"] == {
        "code": "rate_limit_exceeded",
        "message": "Slow down.",
    }


def test_a_stream_that_broke_off_ends_with_an_error_that_every_client_finds() -> None:
    through = writer()
    for event in OPENING:
        written(json.dumps(event), through)
    broken = {"code": "gateway_unavailable", "message": "It broke off.", "param": None}
    reader = sse.EventReader()
    error, done = reader.feed(through.failed(broken))
    content = json.loads(error.data or "")
    judged = spec.ErrorStreamingEvent.model_validate(content)
    assert judged.error.message == "It broke off."
    assert error.name == content["type"] == "error"
    # OpenAI's own clients look for these at the top.
    assert {key: content[key] for key in broken} == broken
    assert content["sequence_number"] == len(OPENING)
    assert done.data == "[DONE]"


@pytest.mark.parametrize("data", ["", "{", "nonsense", "[]", "null", "{}", '{"type": 5}'])
def test_what_is_no_event_breaks_the_stream(data: str) -> None:
    with pytest.raises(StreamBroken, match="something else than an event"):
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
    ours = {"error", *(kind for kind in JUDGES if "function_call_arguments" in kind)}
    assert sent | ours == JUDGES.keys()


def test_an_error_without_a_rewording_stays_as_it_is() -> None:
    out = written(json.dumps(STREAMS["failed"][-1]), writer())
    assert out["response"]["error"]["message"] == "upstream provider error"
