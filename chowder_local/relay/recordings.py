"""Recordings of model calls: their files, who writes them, and the calls that they answer."""

from __future__ import annotations

import asyncio
import difflib
import json
import logging
import re
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from operator import eq
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, Self, TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.events import ChangeSignal
from chowder_local.relay.prompt_format import is_subagent, unfold
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.errors.upstream import ProviderFailed
    from chowder_local.relay.calls import ModelAnswer, RelayRequest
    from chowder_local.relay.wire.conversation import Conversation, PromptTurn

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = 1
SUFFIX = ".json"
SCRUBBED = "…"
SHOWN_DIFFERENCES = 6
SHOWN_CHARACTERS = 200
COMPARED_LINES = 100
THREADS = 2
_CHUNK_BYTES = 8 * 1024
_MASKED_CHARACTERS = 64_000
"""Times and ids in the rest of a turn are compared as they are."""

_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "<id>"),
    (re.compile(r"\b(?:call|toolu|fc|msg|resp|chatcmpl|run)[-_][A-Za-z0-9_-]{6,}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{16,}\b", re.I), "<id>"),
    (
        re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?"),
        "<time>",
    ),
    (re.compile(rf"\b{_CLOCK}\b"), "<time>"),
    (re.compile(r"\b1[6-9]\d{8}(?:\d{3})?\b"), "<time>"),
)


class _Strict(BaseModel):
    """Refuses unknown members: a misspelt one would be ignored silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedRequest(_Strict):
    """A model call, reduced to what distinguishes it."""

    provider: str
    model: str
    is_streamed: Annotated[bool, Field(strict=True)]
    turns: list[dict[str, Any]]
    """Each turn has one of `said`, `answered`, `called` and `returned`."""

    @classmethod
    def from_conversation(cls, provider: str, conversation: Conversation) -> Self:
        return cls(
            provider=provider,
            model=conversation.model,
            is_streamed=conversation.is_streamed,
            turns=[_turn(turn) for turn in unfold(conversation.turns)],
        )

    @classmethod
    def from_request(cls, request: RelayRequest) -> Self | None:
        """None if the request has no conversation, as for embeddings."""
        parsed = request.parse()
        if not isinstance(parsed, ParsedRequest):
            return None
        return cls.from_conversation(request.provider, parsed.conversation)

    def lines(self) -> list[str]:
        """The request as lines for comparison, with times and ids masked."""
        head = [f"provider: {self.provider}", f"model: {self.model}"]
        return [*head, f"is_streamed: {self.is_streamed}", *map(_line, self.turns)]


class RecordedAnswer(_Strict):
    """An answer: the `events` of a stream, or the `text` of any other body."""

    status: int = Field(ge=100, le=599)
    content_type: str = "application/json"
    retry_after: str | None = None
    events: list[str] | None = None
    text: str | None = None

    @classmethod
    def from_body(
        cls, status: int, content_type: str, body: bytes, retry_after: str | None = None
    ) -> Self:
        text = body.decode("utf-8", "replace")
        if not content_type.startswith("text/event-stream"):
            return cls(status=status, content_type=content_type, retry_after=retry_after, text=text)
        events = [event for event in re.split(r"\r?\n\r?\n", text) if event]
        return cls(status=status, content_type=content_type, retry_after=retry_after, events=events)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The body in chunks of bounded length, at least one an event."""
        for part in [self.text or ""] if self.events is None else self.events:
            data = part.encode() if self.events is None else f"{part}\n\n".encode()
            for start in range(0, len(data), _CHUNK_BYTES):
                yield data[start : start + _CHUNK_BYTES]


class RecordedCall(_Strict):
    """A model call with its answer: one file of a recording."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    asked: RecordedRequest
    answered: RecordedAnswer


def mask_variable_parts(text: str) -> str:
    """Replaces times by `<time>` and ids by `<id>`."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def _turn(turn: PromptTurn) -> dict[str, Any]:
    if isinstance(turn, UserMessage):
        return {"said": "\n".join(turn.parts)}
    if isinstance(turn, AssistantText):
        return {"answered": turn.text}
    if isinstance(turn, ToolCall):
        return {"called": turn.name} | ({"with": dict(turn.arguments)} if turn.arguments else {})
    return {"returned": turn.text}


def _line(turn: dict[str, Any]) -> str:
    kind, value = next(iter(turn.items()), ("", ""))
    more = f" {turn['with']}" if "with" in turn else ""
    text = f"{kind}: {value}{more}"
    return mask_variable_parts(text[:_MASKED_CHARACTERS]) + text[_MASKED_CHARACTERS:]


def read(folder: Path, command: str | None = None) -> dict[str, RecordedCall]:
    """The entries by file name, in order; blocks.

    Raises SettingsInvalid if a file is invalid, or if there is no such folder. The message then
    quotes the `command` that makes a recording.
    """
    if not folder.is_dir():
        command = command or f"chowder-local up --record {folder}"
        raise SettingsInvalid(f"There is no recording in {folder}. Make one with: {command}")
    return {path.name: _entry(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def _entry(path: Path) -> RecordedCall:
    try:
        return RecordedCall.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error}") from None
    except ValidationError as invalid:
        problem = invalid.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        cause = f"{where}: {problem['msg']}"
        raise SettingsInvalid(f"{path} is not a recorded model call: {cause}") from None


def write(folder: Path, number: int, entry: RecordedCall) -> Path:
    """Writes an entry to a new file whose name begins with the number; blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(number, entry)
    # The file is indented, so that a diff of two recordings shows lines.
    text = json.dumps(
        entry.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False
    )
    # The file gets its name when it is complete, so that readers of the folder see no partial file.
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
    return path


def last_number(folder: Path) -> int:
    """The highest number of a file in the folder; 0 if it has none."""
    numbers = (re.match(r"\d+", path.name) for path in folder.glob(f"*{SUFFIX}"))
    return max((int(number[0]) for number in numbers if number), default=0)


def file_name(number: int, entry: RecordedCall) -> str:
    """The file name of an entry: its number, provider and model."""
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", entry.asked.model).strip("-.") or "model"
    return f"{number:04}-{entry.asked.provider}-{model[:60]}{SUFFIX}"


@dataclass(eq=False, repr=False)
class Recorder:
    """Adds calls to a folder, in the order in which their answers end.

    `number` is the highest number that is taken.
    """

    folder: Path
    number: int = 0

    async def record_answer(
        self, request: RelayRequest, answer: ModelAnswer, key: str
    ) -> AsyncGenerator[bytes, None]:
        """Passes the chunks on, and records the answer once it is complete."""
        body = bytearray()
        async with aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                yield chunk
        recorded = RecordedAnswer.from_body(answer.status, answer.content_type, bytes(body))
        await self._write(request, recorded, key)

    async def record_failure(
        self, request: RelayRequest, failure: ProviderFailed, key: str
    ) -> None:
        status = failure.status or 502
        body = request.wire.error_body(status, failure.reason)
        recorded = RecordedAnswer.from_body(status, "application/json", body, failure.retry_after)
        await self._write(request, recorded, key)

    async def _write(self, request: RelayRequest, answer: RecordedAnswer, key: str) -> None:
        """Writes a call with its answer, with the key removed from both."""
        asked = RecordedRequest.from_request(request)
        if asked is None:
            return
        self.number += 1
        entry = RecordedCall(asked=asked, answered=answer)
        if key:
            text = entry.model_dump_json().replace(key, SCRUBBED)
            entry = RecordedCall.model_validate_json(text)
        try:
            path = await asyncio.to_thread(write, self.folder, self.number, entry)
        except OSError as error:
            # The agent has its answer nevertheless.
            log.error("a model call could not be recorded: %s", error)
            return
        log.info("recorded: %s", path)


@dataclass(eq=False, repr=False)
class Playback:
    """A recording that is replayed. The answers to equal requests come in their order.

    `entries` are by file name, in order. With `in_order`, they are the answers to the next calls of
    a session, one after the other, whatever these ask; with `then_live`, the model answers after
    them.
    """

    entries: Mapping[str, RecordedCall]
    in_order: bool = False
    then_live: bool = False

    def __post_init__(self) -> None:
        self._left = deque(self.entries.values())
        self._requests = {name: entry.asked.lines() for name, entry in self.entries.items()}
        self._answers: dict[tuple[str, ...], list[RecordedAnswer]] = {}
        for name, entry in self.entries.items():
            self._answers.setdefault(tuple(self._requests[name]), []).append(entry.answered)
        self._used: Counter[tuple[str, ...]] = Counter()

    def answer(self, lines: Sequence[str]) -> RecordedAnswer | None:
        """The next recorded answer to a request; the last one again if there are no more."""
        key = tuple(lines)
        if key not in self._answers:
            # Recordings of 0.1 have OpenAI's tool calls without arguments.
            key = tuple(_without_arguments(each) for each in lines)
        answers = self._answers.get(key)
        if answers is None:
            return None
        number = self._used[key]
        self._used[key] += 1
        return answers[min(number, len(answers) - 1)]

    def handles(self, request: RelayRequest) -> bool:
        """Whether it answers a call, be it with an error, and not the model."""
        return not self.then_live or (bool(self._left) and _is_of_session(request))

    def take_next(self, request: RelayRequest) -> RecordedCall | None:
        """With `in_order`, the call whose answer is next; None if there are no more."""
        return self._left.popleft() if self._left and _is_of_session(request) else None

    def describe_nearest(self, lines: Sequence[str]) -> str:
        """The message for a request without an answer: the nearest call and the differences."""
        if not self._requests:
            return "The recording has no model calls."
        nearest, recorded = max(
            self._requests.items(), key=lambda item: _similarity(item[1], lines)
        )
        differences = list(_differences(recorded, lines))
        omitted = len(differences) - SHOWN_DIFFERENCES
        listed = "; ".join(differences[:SHOWN_DIFFERENCES])
        rest = f"; and {omitted} more" if omitted > 0 else ""
        return f"The recording has no such model call. The nearest is {nearest}: {listed}{rest}."


class RecordingRegistry:
    """The server's own recording or playback, and playbacks of single instances."""

    def __init__(self, recorder: Recorder | None = None, playback: Playback | None = None) -> None:
        self.recorder = recorder
        self._playback = playback
        self._by_instance: dict[InstanceId, Playback] = {}
        self._threads = CapacityLimiter(THREADS)
        self.changes = ChangeSignal()
        """The playback of an instance begins or ends."""

    @classmethod
    async def open(cls, record: Path | None, replay: Path | None) -> Self:
        """The server's own, from its options. Raises SettingsInvalid if `replay` is invalid."""
        recorder = playback = None
        if record is not None:
            # An existing recording is continued.
            recorder = Recorder(record, await asyncio.to_thread(last_number, record))
        if replay is not None:
            playback = Playback(await asyncio.to_thread(read, replay))
        return cls(recorder, playback)

    @property
    def is_replayed(self) -> bool:
        """Whether the server was started with a recording that answers all model calls."""
        return self._playback is not None

    async def put(
        self,
        instance_id: InstanceId,
        entries: Mapping[str, RecordedCall],
        *,
        in_order: bool = False,
        then_live: bool = False,
    ) -> None:
        """Answers the instance's model calls from these entries, instead of earlier ones."""
        playback = await self.run(Playback, entries, in_order, then_live)
        self._by_instance[instance_id] = playback
        self.changes.notify()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs work that grows with a recording in one of a few threads that do only this."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)

    def entries(self, instance_id: InstanceId) -> Mapping[str, RecordedCall] | None:
        playback = self._by_instance.get(instance_id)
        return None if playback is None else playback.entries

    def remove(self, instance_id: InstanceId) -> None:
        self._by_instance.pop(instance_id, None)
        self.changes.notify()

    def playback(self, instance_id: InstanceId | None) -> Playback | None:
        """The playback for an instance; None for a warm sandbox, whose calls are not replayed."""
        if instance_id is None:
            return None
        return self._by_instance.get(instance_id) or self._playback


def _is_of_session(request: RelayRequest) -> bool:
    """Whether a call is of an agent's own turn: not of OpenClaw itself, nor of a sub-agent."""
    return request.session is not None and not is_subagent(request.session.key)


def _without_arguments(line: str) -> str:
    return line.partition(" {")[0] if line.startswith("called: ") else line


def _similarity(before: Sequence[str], now: Sequence[str]) -> tuple[int, int]:
    """Compares places, because difflib's time grows with the square of the lines."""
    return sum(map(eq, before, now)), -abs(len(before) - len(now))


def _differences(before: Sequence[str], now: Sequence[str]) -> Iterable[str]:
    pairs = enumerate(zip(before, now, strict=False))
    first = next((at for at, (one, other) in pairs if one != other), min(len(before), len(now)))
    before, now = (each[first : first + COMPARED_LINES] for each in (before, now))
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    for kind, start, end, now_start, now_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        recorded = " / ".join(map(_cut, before[start:end])) or "nothing"
        requested = " / ".join(map(_cut, now[now_start:now_end])) or "nothing"
        yield f"recorded [{recorded}], requested [{requested}]"


def _cut(line: str) -> str:
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + "…"
