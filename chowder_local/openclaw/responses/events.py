"""The events of a streamed answer, from the gateway's to those that the Responses API promises."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.core.errors.upstream import ContextLengthExceeded, ProviderFailed, StreamBroken
from chowder_local.openclaw.responses import response_normalizer
from chowder_local.openclaw.responses.gateway_shapes import check_event
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chowder_local.core.errors import ChowderError
    from chowder_local.openclaw.responses.requests import Turn

DONE = "[DONE]"

# Of the codes that OpenAI's ResponseError has, these three are about something that can happen
# here; its API has a type for each of them.
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
_BEGINNINGS = {"response.created", "response.in_progress"}
_ADDED = "response.output_item.added"
_DONE = "response.output_item.done"

# Halves of surrogate pairs are left to the slow way, which knows what to do with them.
_ESCAPE = r'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'
_LITERALLY = r'[^"\\\x00-\x1f]*+'
_STRING = rf'"{_LITERALLY}(?:{_ESCAPE}{_LITERALLY})*+"'
_WORDS = re.compile(
    rf'\{{"type":"{re.escape(_DELTA)}"'
    rf'(?:,"(?:item_id|output_index|content_index|delta)":(?:{_STRING}|0|[1-9][0-9]*))*+\}}'
)
"""A piece of text just as the gateway writes it, to which members can be added as it is."""

_as_read = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(separators=(",", ":")).encode

Event = dict[str, Any]


class EventWriter:
    """Rewrites the events of one stream, one after the other.

    Those that tell of no output yet are held back, so that a failure before any is one of the
    request, not of a stream.
    """

    def __init__(
        self, requested: Mapping[str, Any], turn: Turn, clock_s: Callable[[], float]
    ) -> None:
        self._requested = requested
        self._turn = turn
        self._is_plain = turn.format is None
        self._clock_s = clock_s
        self._reader = sse.EventReader()
        self._ready = bytearray()
        self._sequence_number = 0
        self._response: Event | None = None
        self._beginnings: list[Event] = []
        self._held: list[Event] = []
        self._is_wordless = False
        self._calls = 0
        self.has_begun = False
        """Whether anything has come that goes to the client."""
        self.has_words = False
        """Whether any of the agent's words have come."""
        self.response: Event | None = None
        """The response with which the answer ended, once it has."""
        self.is_over = False
        """Whether the stream has ended as it should; else it broke off."""
        self.error: Event | None = None
        """The gateway's error, once its response has failed; `failed` then ends the stream."""

    def feed(self, arrived: bytes) -> None:
        """Takes what came of the gateway's stream.

        Raises StreamBroken at what is no event, AnswerUnfit at an answer in a wrong form.
        """
        for event in self._reader.feed(arrived):
            if self.error is not None:
                # After a failure comes nothing but the end.
                return
            if event.data is not None:
                self._ready += self.write(event.data)
            elif self.has_begun:
                self._ready += event.raw

    def ready(self) -> bytes:
        """What has to go to the client of all that was taken, and has not gone yet."""
        ready = bytes(self._ready)
        self._ready.clear()
        return ready

    def write(self, data: str) -> bytes:
        """The bytes that go to the client for one event's data. Raises as `feed` does."""
        if data == DONE:
            self.is_over = self.has_begun = True
            return sse.encode(data)
        if self._is_plain and not (self._beginnings or self._held) and _WORDS.fullmatch(data):
            return self._spliced(data)
        event = _event(data)
        if event["type"] == _FAILED:
            self._response = event["response"]
            self.error = event["response"].get("error") or {}
            return b""
        if event["type"] in _BEGINNINGS and not self.has_begun:
            self._response = event.get("response")
            self._beginnings.append(event)
            return b""
        events = [*self._translated(event)]
        if events and self._beginnings:
            events = [*self._beginnings, *events]
            self._beginnings = []
        self.has_begun |= bool(events)
        return b"".join(map(self._numbered, events))

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """The end of a stream that has begun and then failed."""
        # Open Responses nests what OpenAI's own clients have always found at the top. Most of
        # all clients raise at the first event, and know nothing of what the second one says.
        top = {name: error[name] for name in ("code", "message", "param")}
        events: list[Event] = [{"type": "error", **top, "error": dict(error)}]
        if self._response is not None:
            details = {"code": error["code"], "message": error["message"]}
            response = {**self._response, "status": "failed", "error": details}
            events.append({"type": _FAILED, "response": response})
        return b"".join(map(self._numbered, events)) + sse.encode(DONE)

    def _spliced(self, data: str) -> bytes:
        """A piece of text as `_numbered` would write it; most events by far are such ones."""
        self.has_begun = self.has_words = True
        text = f'{data[:-1]},"logprobs":[],"sequence_number":{self._sequence_number}}}'
        self._sequence_number += 1
        return sse.encode(text, _DELTA)

    def _translated(self, event: Event) -> Iterator[Event]:
        kind = event["type"]
        self.has_words |= kind == _DELTA
        if kind in _TERMINAL:
            yield from self._ended(event)
        elif self._turn.format is None:
            yield from self._spoken_events(event)
        elif not kind.startswith("response."):
            # Of an answer in a format nothing is told before all of it is known to fit.
            yield event

    def _ended(self, event: Event) -> Iterator[Event]:
        response = response_normalizer.normalize_output(event["response"], self._turn)
        if self._turn.format is not None:
            for index, item in enumerate(response["output"]):
                yield from _unrolled(response_normalizer.complete_item(item), index)
        self.response = response
        yield event | {"response": response}

    def _spoken_events(self, event: Event) -> Iterator[Event]:
        """The event, unless it tells of a message without words or of a call too many.

        The gateway begins every stream with a message, also where only a call follows.
        """
        kind, item = event["type"], event.get("item") or {}
        if item.get("type") == "function_call":
            yield from self._call_events(event)
        elif kind in (_ADDED, "response.content_part.added"):
            self._held.append(event)
        elif kind == "response.output_text.done" and not event.get("text"):
            self._held, self._is_wordless = [], True
        elif not (self._is_wordless and kind.startswith(("response.content_part.", _DONE))):
            yield from self._held
            self._held = []
            yield event

    def _call_events(self, event: Event) -> Iterator[Event]:
        is_new = event["type"] == _ADDED
        self._calls += is_new
        if self._turn.is_single and self._calls > 1:
            return
        item = response_normalizer.with_client_name(event["item"], self._turn.names)
        index = event.get("output_index", 0) - self._is_wordless
        if is_new:
            # The gateway has the arguments whole in this event, where no SDK looks for them.
            yield from _begun_call(item, index)
        else:
            yield event | {"output_index": index, "item": item}

    def _numbered(self, event: Event) -> bytes:
        self._complete(event)
        event["sequence_number"] = self._sequence_number
        self._sequence_number += 1
        try:
            return sse.encode(_as_read(event), event["type"])
        except UnicodeEncodeError:
            # Half of a character that takes two; the other half may be in the next event.
            return sse.encode(_escaped(event), event["type"])

    def _complete(self, event: Event) -> None:
        if "response" in event:
            now_s = int(self._clock_s())
            event["response"] = response_normalizer.normalize(
                event["response"], self._requested, now_s
            )
        if "item" in event:
            event["item"] = response_normalizer.complete_item(event["item"])
        if "part" in event:
            event["part"] = response_normalizer.complete_part(event["part"])
        if event["type"] in _TEXT_EVENTS:
            event.setdefault("logprobs", [])


def _unrolled(item: Event, index: int) -> Iterator[Event]:
    """A whole item as the events that it would have come in."""
    if item["type"] == "function_call":
        yield from _begun_call(item, index)
    else:
        begun = item | {"content": [], "status": "in_progress"}
        yield {"type": _ADDED, "output_index": index, "item": begun}
        for number, part in enumerate(item["content"]):
            where = {"item_id": item.get("id"), "output_index": index, "content_index": number}
            yield from _unrolled_part(part, where)
    yield {"type": _DONE, "output_index": index, "item": item}


def _unrolled_part(part: Event, where: Mapping[str, Any]) -> Iterator[Event]:
    member = "refusal" if part["type"] == "refusal" else "text"
    kind = "refusal" if member == "refusal" else "output_text"
    text = part.get(member, "")
    yield {"type": "response.content_part.added", **where, "part": part | {member: ""}}
    yield {"type": f"response.{kind}.delta", **where, "delta": text}
    yield {"type": f"response.{kind}.done", **where, member: text}
    yield {"type": "response.content_part.done", **where, "part": part}


def _begun_call(item: Event, index: int) -> Iterator[Event]:
    arguments = item.get("arguments") or ""
    where = {"item_id": item.get("id"), "output_index": index}
    kind = "response.function_call_arguments"
    begun = {**item, "arguments": "", "status": "in_progress"}
    yield {"type": _ADDED, "output_index": index, "item": begun}
    yield {"type": f"{kind}.delta", **where, "delta": arguments}
    yield {"type": f"{kind}.done", **where, "name": item.get("name"), "arguments": arguments}


def _event(data: str) -> Event:
    try:
        event = untrusted_json.read_object(data)
        check_event(event)
        if event["type"] in _TERMINAL and "response" not in event:
            raise ValueError("no response")
    except ValueError:
        raise StreamBroken("the sandbox sent something else than an event") from None
    return event


def error_of(failure: ChowderError) -> dict[str, Any]:
    """What `failed` says of an error: the members of an `error` event."""
    code = _error_code(failure)
    return {"type": _ERROR_TYPES[code], "code": code, "message": str(failure), "param": None}


def _error_code(failure: ChowderError) -> str:
    if isinstance(failure, AnswerUnfit | ContextLengthExceeded | MessageRefused):
        return INVALID_PROMPT
    if not isinstance(failure, ProviderFailed) or failure.status is None:
        return SERVER_ERROR
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RATE_LIMIT
    is_refusal = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return INVALID_PROMPT if is_refusal else SERVER_ERROR
