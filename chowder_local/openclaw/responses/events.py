"""Translates the events of a streamed answer from the gateway to the Responses API."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.core.errors.upstream import ContextLengthExceeded, ProviderFailed, StreamBroken
from chowder_local.openclaw.responses import response_normalizer
from chowder_local.openclaw.responses.response_normalizer import (
    MAX_ANSWER_BYTES,
    MAX_ANSWER_VALUES,
    check_event,
)
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chowder_local.core.errors import ChowderError
    from chowder_local.openclaw.responses.requests import GatewayRequest

DONE = "[DONE]"

# The codes of OpenAI's ResponseError that can occur here; OpenAI's API has a type for each.
SERVER_ERROR, RATE_LIMIT, INVALID_PROMPT = "server_error", "rate_limit_exceeded", "invalid_prompt"
_ERROR_TYPES = {
    SERVER_ERROR: "server_error",
    RATE_LIMIT: "rate_limit_error",
    INVALID_PROMPT: "invalid_request_error",
}

_DELTA = "response.output_text.delta"
_TEXT_EVENTS = {_DELTA, "response.output_text.done"}
_FAILED = "response.failed"
_TERMINAL = {"response.completed", "response.incomplete", _FAILED}
_START_EVENTS = {"response.created", "response.in_progress"}
_ADDED = "response.output_item.added"
_DONE = "response.output_item.done"

# Escaped surrogates do not match: only the slow path handles unpaired ones.
_ESCAPE = r'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'
_LITERALLY = r'[^"\\\x00-\x1f]*+'
_STRING = rf'"{_LITERALLY}(?:{_ESCAPE}{_LITERALLY})*+"'
_PLAIN_DELTA = re.compile(
    rf'\{{"type":"{re.escape(_DELTA)}"'
    rf'(?:,"(?:item_id|output_index|content_index|delta)":(?:{_STRING}|0|[1-9][0-9]*))*+\}}'
)
"""A text delta in the gateway's own form; members can be added without parsing it."""

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_to_ascii_json = json.JSONEncoder(separators=(",", ":")).encode

Event = dict[str, Any]


@dataclass(eq=False, repr=False)
class EventWriter:
    """Rewrites the events of one stream in order.

    Events before the first output are held back, so that an early failure can still become an HTTP
    error. `more_items` makes items for the end of an answer that has not failed.
    """

    requested: Mapping[str, Any]
    turn: GatewayRequest
    clock_s: Callable[[], float]
    more_items: Callable[[], Iterable[Event]] = tuple

    def __post_init__(self) -> None:
        self._is_plain = self.turn.format is None
        self._reader = sse.EventReader(MAX_ANSWER_BYTES)
        self._held_bytes = 0
        self._ready = bytearray()
        self._sequence_number = 0
        self._response: Event | None = None
        self._start_events: list[Event] = []
        self._held: list[Event] = []
        self._has_empty_message = False
        self._calls = 0
        self.has_begun = False
        """Whether anything for the client has come."""
        self.has_text = False
        """Whether any text of the agent has come."""
        self.response: Event | None = None
        """The final response, once the answer has ended."""
        self.is_over = False
        """Whether the stream has ended regularly; otherwise it broke off."""
        self.error: Event | None = None
        """The gateway's error, if its response has failed; send `failure_events` then."""

    def feed(self, chunk: bytes) -> None:
        """Parses a chunk of the gateway's stream.

        Raises StreamBroken if it has an invalid event or too much must be held back, AnswerUnfit
        if the answer does not fit the requested format.
        """
        if len(self._ready) + self._held_bytes > MAX_ANSWER_BYTES:
            raise StreamBroken("too much of the answer comes before its beginning")
        for event in self._reader.feed(chunk):
            if self.error is not None:
                # After a failure only the stream's end follows.
                return
            if event.data is not None:
                self._ready += self.write(event.data)
            elif self.has_begun:
                self._ready += event.raw

    def ready(self) -> bytes:
        """Takes the bytes that are ready for the client."""
        ready = bytes(self._ready)
        self._ready.clear()
        return ready

    def write(self, data: str) -> bytes:
        """The bytes for the client that one event's data makes. Raises as `feed` does."""
        if data == DONE:
            self.is_over = self.has_begun = True
            return sse.encode(data)
        pending = self._start_events or self._held
        if self._is_plain and not pending and _PLAIN_DELTA.fullmatch(data):
            return self._extend_delta(data)
        event = _event(data)
        self._held_bytes = self._held_bytes + len(data) if pending else 0
        if event["type"] == _FAILED:
            self._response = event["response"]
            self.error = event["response"].get("error") or {}
            return b""
        if event["type"] in _START_EVENTS and not self.has_begun:
            self._response = event.get("response")
            self._start_events.append(event)
            return b""
        events = [*self._translate(event)]
        if events and self._start_events:
            events = [*self._start_events, *events]
            self._start_events = []
        self.has_begun |= bool(events)
        return b"".join(map(self._encode, events))

    def failure_events(self, error: Mapping[str, Any]) -> bytes:
        """The end of a stream that fails after its beginning."""
        # OpenAI's clients read the members at the top, Open Responses nests them. Most clients
        # raise at the first event, so it must have the message.
        top = {name: error[name] for name in ("code", "message", "param")}
        events: list[Event] = [{"type": "error", **top, "error": dict(error)}]
        if self._response is not None:
            details = {"code": error["code"], "message": error["message"]}
            response = {**self._response, "status": "failed", "error": details}
            events.append({"type": _FAILED, "response": response})
        return b"".join(map(self._encode, events)) + sse.encode(DONE)

    def _extend_delta(self, data: str) -> bytes:
        """Encodes a text delta as `_encode` does, but without parsing; most events are deltas."""
        self.has_begun = self.has_text = True
        text = f'{data[:-1]},"logprobs":[],"sequence_number":{self._sequence_number}}}'
        self._sequence_number += 1
        return sse.encode(text, _DELTA)

    def _translate(self, event: Event) -> Iterator[Event]:
        kind = event["type"]
        self.has_text |= kind == _DELTA
        if kind in _TERMINAL:
            yield from self._final_events(event)
        elif self.turn.format is None:
            yield from self._output_events(event)
        elif not kind.startswith("response."):
            # A structured output is sent only once it is complete and valid.
            yield event

    def _final_events(self, event: Event) -> Iterator[Event]:
        response = response_normalizer.normalize_output(event["response"], self.turn)
        if self.turn.format is not None:
            for index, item in enumerate(response["output"]):
                yield from _item_events(response_normalizer.complete_item(item), index)
        output = response["output"]
        for item in self.more_items():
            yield from _item_events(item, len(output))
            output.append(item)
        self.response = response
        yield event | {"response": response}

    def _output_events(self, event: Event) -> Iterator[Event]:
        """The event, unless it belongs to an empty message or to a call that is not allowed.

        The gateway begins every stream with a message, even if only a call follows.
        """
        kind, item = event["type"], event.get("item") or {}
        if item.get("type") == "function_call":
            yield from self._call_events(event)
        elif kind in (_ADDED, "response.content_part.added"):
            self._held.append(event)
        elif kind == "response.output_text.done" and not event.get("text"):
            self._held, self._has_empty_message = [], True
        elif not (self._has_empty_message and kind.startswith(("response.content_part.", _DONE))):
            yield from self._held
            self._held = []
            yield event

    def _call_events(self, event: Event) -> Iterator[Event]:
        is_new = event["type"] == _ADDED
        self._calls += is_new
        if self.turn.is_single and self._calls > 1:
            return
        item = response_normalizer.to_client_item(event["item"], self.turn.names)
        index = event.get("output_index", 0) - self._has_empty_message
        if is_new:
            # The gateway sends the arguments in this event, but SDKs expect them in later ones.
            yield from _call_start_events(item, index)
        else:
            yield event | {"output_index": index, "item": item}

    def _encode(self, event: Event) -> bytes:
        self._complete(event)
        event["sequence_number"] = self._sequence_number
        self._sequence_number += 1
        try:
            return sse.encode(_to_json(event), event["type"])
        except UnicodeEncodeError:
            # An unpaired surrogate; the other half may be in the next event.
            return sse.encode(_to_ascii_json(event), event["type"])

    def _complete(self, event: Event) -> None:
        if "response" in event:
            now_s = int(self.clock_s())
            event["response"] = response_normalizer.normalize(
                event["response"], self.requested, now_s
            )
        if "item" in event:
            event["item"] = response_normalizer.complete_item(event["item"])
        if "part" in event:
            event["part"] = response_normalizer.complete_part(event["part"])
        if event["type"] in _TEXT_EVENTS:
            event.setdefault("logprobs", [])


def _item_events(item: Event, index: int) -> Iterator[Event]:
    """The events of a complete item, as if it had been streamed."""
    if item["type"] == "function_call":
        yield from _call_start_events(item, index)
    elif item["type"] == "mcp_call":
        yield from _tool_call_events(item, index)
    else:
        empty = item | {"content": [], "status": "in_progress"}
        yield {"type": _ADDED, "output_index": index, "item": empty}
        for number, part in enumerate(item["content"]):
            where = {"item_id": item.get("id"), "output_index": index, "content_index": number}
            yield from _part_events(part, where)
    yield {"type": _DONE, "output_index": index, "item": item}


def _part_events(part: Event, where: Mapping[str, Any]) -> Iterator[Event]:
    member = "refusal" if part["type"] == "refusal" else "text"
    kind = "refusal" if member == "refusal" else "output_text"
    text = part.get(member, "")
    yield {"type": "response.content_part.added", **where, "part": part | {member: ""}}
    yield {"type": f"response.{kind}.delta", **where, "delta": text}
    yield {"type": f"response.{kind}.done", **where, member: text}
    yield {"type": "response.content_part.done", **where, "part": part}


def _call_start_events(item: Event, index: int) -> Iterator[Event]:
    arguments = item.get("arguments") or ""
    where = {"item_id": item.get("id"), "output_index": index}
    kind = "response.function_call_arguments"
    empty = {**item, "arguments": "", "status": "in_progress"}
    yield {"type": _ADDED, "output_index": index, "item": empty}
    yield {"type": f"{kind}.delta", **where, "delta": arguments}
    yield {"type": f"{kind}.done", **where, "name": item.get("name"), "arguments": arguments}


def _tool_call_events(item: Event, index: int) -> Iterator[Event]:
    where = {"item_id": item["id"], "output_index": index}
    begun = item | {"arguments": "", "output": None, "status": "in_progress"}
    yield {"type": _ADDED, "output_index": index, "item": begun}
    kind = "response.mcp_call_arguments.done"
    yield {"type": kind, **where, "arguments": item["arguments"]}
    yield {"type": "response.mcp_call.completed", **where}


def _event(data: str) -> Event:
    try:
        event = untrusted_json.read_object(data, values_max=MAX_ANSWER_VALUES)
        check_event(event)
        if event["type"] in _TERMINAL and "response" not in event:
            raise ValueError("no response")
    except ValueError:
        raise StreamBroken("the sandbox sent something other than an event") from None
    return event


def error_members(failure: ChowderError) -> dict[str, Any]:
    """The members of an `error` event, for `failure_events`."""
    code = _error_code(failure)
    return {
        "type": _ERROR_TYPES.get(code, "invalid_request_error"),
        "code": code,
        "message": str(failure),
        "param": None,
    }


def failure_end(failure: ChowderError) -> bytes:
    """The end of a stream that fails before its first event, when its status is sent already."""
    error = error_members(failure)
    top = {name: error[name] for name in ("code", "message", "param")}
    event = {"type": "error", **top, "error": error, "sequence_number": 0}
    return sse.encode(_to_json(event), "error") + sse.encode(DONE)


def _error_code(failure: ChowderError) -> str:
    if failure.refuses_model_call:
        return failure.code
    if isinstance(failure, AnswerUnfit | ContextLengthExceeded | MessageRefused):
        return INVALID_PROMPT
    if not isinstance(failure, ProviderFailed) or failure.status is None:
        return SERVER_ERROR
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RATE_LIMIT
    is_refusal = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return INVALID_PROMPT if is_refusal else SERVER_ERROR
