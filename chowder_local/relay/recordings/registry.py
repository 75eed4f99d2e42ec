"""The recordings in use, and the differences to the nearest call where one has no answer."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from operator import eq
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from chowder_local.core.events import ChangeSignal
from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import Entry, RecordedAnswer, RecordedRequest
from chowder_local.relay.recordings.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import LoggedCall


SHOWN_DIFFERENCES = 6
SHOWN_CHARACTERS = 200
COMPARED_LINES = 100
THREADS = 2

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(eq=False, repr=False)
class Playback:
    """A recording that is replayed. The answers to equal requests come in their order.

    `entries` are by file name, in order.
    """

    entries: Mapping[str, Entry]

    def __post_init__(self) -> None:
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
            recorder = Recorder(record, await asyncio.to_thread(folders.last_number, record))
        if replay is not None:
            playback = Playback(await asyncio.to_thread(folders.read, replay))
        return cls(recorder, playback)

    @property
    def is_replayed(self) -> bool:
        """Whether the server was started with a recording that answers all model calls."""
        return self._playback is not None

    async def put(self, instance_id: InstanceId, entries: Mapping[str, Entry]) -> None:
        """Answers the instance's model calls from these entries, instead of earlier ones."""
        self._by_instance[instance_id] = await self.run(Playback, entries)
        self.changes.notify()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs work that grows with a recording in one of a few threads that do only this."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)

    def entries(self, instance_id: InstanceId) -> Mapping[str, Entry] | None:
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


def make_recording(calls: Iterable[LoggedCall]) -> dict[str, Entry]:
    """The entries of logged calls by file name, without calls whose answer is incomplete."""
    entries: dict[str, Entry] = {}
    for call in calls:
        request = RecordedRequest.from_call(call.call)
        if request is not None and call.is_whole and call.status is not None:
            answer = RecordedAnswer.from_body(call.status, call.content_type, call.answer)
            entry = Entry(asked=request, answered=answer)
            entries[folders.file_name(len(entries) + 1, entry)] = entry
    return entries


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
