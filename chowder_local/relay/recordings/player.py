"""Answers model calls out of a recording, and says what differs where it has none."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry

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
            self._questions.items(), key=lambda item: _likeness(item[1], question)
        )
        differences = list(_differences(recorded, question))
        more = len(differences) - SHOWN_DIFFERENCES
        shown = "; ".join(differences[:SHOWN_DIFFERENCES])
        rest = f"; and {more} more" if more > 0 else ""
        return f"The recording has no such model call. The nearest is {nearest}, but {shown}{rest}."


def _likeness(before: list[str], now: list[str]) -> float:
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
