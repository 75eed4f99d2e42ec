"""Which recordings are made and answered from, and what differs where one has no answer."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from typing import TYPE_CHECKING, Self

from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry
from chowder_local.relay.recordings.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import LoggedCall


SHOWN_DIFFERENCES = 6
SHOWN_CHARACTERS = 200


class Playback:
    """A recording that is answered from; answers to the same question come one after another."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        """The entries by the names of their files, in order."""
        self.entries = entries
        self._questions = {name: entry.asked.lines() for name, entry in entries.items()}
        self._answers: dict[tuple[str, ...], list[AnsweredCall]] = {}
        for name, entry in entries.items():
            self._answers.setdefault(tuple(self._questions[name]), []).append(entry.answered)
        self._used: Counter[tuple[str, ...]] = Counter()

    def answer(self, asked: Asked) -> AnsweredCall | None:
        """What was answered then; of a question that is asked more often now, the last answer."""
        question = tuple(asked.lines())
        answers = self._answers.get(question)
        if answers is None:
            return None
        number = self._used[question]
        self._used[question] += 1
        return answers[min(number, len(answers) - 1)]

    def describe_nearest(self, asked: Asked) -> str:
        """What is nearest to a question that has no answer, and how it differs."""
        question = asked.lines()
        if not self._questions:
            return "The recording has no model calls at all."
        nearest, recorded = max(
            self._questions.items(), key=lambda item: _similarity(item[1], question)
        )
        differences = list(_differences(recorded, question))
        more = len(differences) - SHOWN_DIFFERENCES
        shown = "; ".join(differences[:SHOWN_DIFFERENCES])
        rest = f"; and {more} more" if more > 0 else ""
        return f"The recording has no such model call. The nearest is {nearest}, but {shown}{rest}."


class RecordingRegistry:
    """The server's own recording or playback, and playbacks of single instances."""

    def __init__(self, recorder: Recorder | None = None, playback: Playback | None = None) -> None:
        self.recorder = recorder
        self._playback = playback
        self._of: dict[InstanceId, Playback] = {}

    @classmethod
    async def open(cls, record: Path | None, replay: Path | None) -> Self:
        """As the server is started. Raises SettingsInvalid for what is no recording."""
        recorder = playback = None
        if record is not None:
            # What is there is gone on with.
            recorder = Recorder(record, await asyncio.to_thread(folders.last_number, record))
        if replay is not None:
            playback = Playback(await asyncio.to_thread(folders.read, replay))
        return cls(recorder, playback)

    @property
    def is_replayed(self) -> bool:
        """Whether all are answered from a recording that the server was started with."""
        return self._playback is not None

    def put(self, instance_id: InstanceId, entries: Mapping[str, Entry]) -> None:
        """Has an instance's model calls answered from these, in place of earlier ones."""
        self._of[instance_id] = Playback(entries)

    def entries(self, instance_id: InstanceId) -> Mapping[str, Entry] | None:
        found = self._of.get(instance_id)
        return None if found is None else found.entries

    def remove(self, instance_id: InstanceId) -> None:
        self._of.pop(instance_id, None)

    def playback(self, instance_id: InstanceId | None) -> Playback | None:
        """What an instance's model calls are answered from; those of the warm pool are not."""
        if instance_id is None:
            return None
        return self._of.get(instance_id) or self._playback


def make_recording(calls: Iterable[LoggedCall]) -> dict[str, Entry]:
    """A recording of logged calls, by file name; those without a whole answer are left out."""
    entries: dict[str, Entry] = {}
    for call in calls:
        asked = Asked.of_call(call.call)
        if asked is not None and call.is_whole and call.status is not None:
            answered = AnsweredCall.of(call.status, call.content_type, call.answer)
            entry = Entry(asked=asked, answered=answered)
            entries[folders.name_of(len(entries) + 1, entry)] = entry
    return entries


def _similarity(before: list[str], now: list[str]) -> float:
    return difflib.SequenceMatcher(None, before, now, autojunk=False).ratio()


def _differences(before: list[str], now: list[str]) -> Iterable[str]:
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    for kind, start, end, now_start, now_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        then = " / ".join(map(_cut, before[start:end])) or "nothing"
        today = " / ".join(map(_cut, now[now_start:now_end])) or "nothing"
        yield f"recorded was [{then}], asked is [{today}]"


def _cut(line: str) -> str:
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + "…"
