"""The turns of transcripts, and the statuses of the user's turns.

A user's turn is `completed` if it was answered, `failed` if the model call failed, `cancelled` if
the client disconnected before the end of the answer, and `in_progress` while it is being answered.
An unanswered message that was sent again is an attempt of the later message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from chowder_local.openclaw.transcripts.program_output import Message


COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
IN_PROGRESS = "in_progress"
CLIENT_GONE = "HTTP client disconnected"
"""The error with which OpenClaw 2026.8 keeps the answer to a client that has gone."""


@dataclass(frozen=True)
class TurnUsage:
    """The tokens of the model call that produced a turn."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Attempt:
    """An unanswered message that was sent again."""

    at: datetime | None
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Turn:
    """A text, tool call or tool result; `position` is the index of its message in OpenClaw.

    `role` is user, assistant, tool_call or tool_result.
    """

    position: int
    role: str
    at: datetime | None = None
    text: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: Mapping[str, Any] | None = None
    is_error: bool | None = None
    images: int = 0
    is_cut: bool = False
    characters: int | None = None
    """The length of the whole text, if it is cut."""
    model: str | None = None
    usage: TurnUsage | None = None
    response_id: str | None = None
    error: str | None = None
    status: str | None = None
    """The status of a user's message; None if it is unknown."""
    attempts: tuple[Attempt, ...] = ()


def off_branch_messages(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages off the active branch, in groups: a user's message, then its failures.

    Other groups are omitted: OpenClaw leaves moved messages there, which are on the branch, too.
    """
    groups: list[list[Message]] = []
    for message in messages:
        if message.is_off_branch and message.role == "user":
            groups.append([message])
        elif message.is_off_branch and groups:
            groups[-1].append(message)
    return [group for group in groups if all(map(_is_failure, group[1:]))]


def with_off_branch_turns(turns: Sequence[Turn], groups: Iterable[Sequence[Turn]]) -> list[Turn]:
    """The turns with the off-branch groups as attempts, or as turns at their former places."""
    result = list(turns)
    for group in groups:
        sent = next((turn for turn in reversed(group) if turn.role == "user"), None)
        if sent is None:
            continue
        error = next((turn.error for turn in group if turn.error), None)
        status = CANCELLED if error is None else FAILED
        place = next((at for at, each in enumerate(result) if each.position >= sent.position), None)
        retry = next((at for at, each in enumerate(result) if _is_retry(each, sent)), None)
        if retry is not None:
            attempt = Attempt(sent.at, status, error)
            result[retry] = replace(result[retry], attempts=(*result[retry].attempts, attempt))
        else:
            result.insert(
                len(result) if place is None else place,
                replace(sent, status=status, error=error),
            )
    return result


def with_statuses(turns: Sequence[Turn], *, is_end: bool, is_answering: bool) -> list[Turn]:
    """The turns with the statuses of the user's turns.

    Consecutive messages share the answer of the last one. A last turn without an answer gets a
    status only if `is_end`, at the end of the conversation.
    """
    result = list(turns)
    answer: Turn | None = None
    unanswered = (IN_PROGRESS if is_answering else CANCELLED) if is_end else None
    later = unanswered
    for at in range(len(result) - 1, -1, -1):
        turn = result[at]
        if turn.role != "user":
            answer = answer or turn
        elif turn.status is None:
            if answer is not None:
                later = _status(answer, unanswered)
            result[at] = replace(turn, status=later)
            answer, unanswered = None, CANCELLED
    return result


def _status(answer: Turn, unanswered: str | None) -> str | None:
    if answer.role == "tool_result":
        # The agent has used tools, but has not answered.
        return unanswered
    if answer.error == CLIENT_GONE:
        return CANCELLED
    return COMPLETED if answer.error is None else FAILED


def _is_retry(turn: Turn, sent: Turn) -> bool:
    return turn.role == "user" and turn.position == sent.position and turn.text == sent.text


def _is_failure(message: Message) -> bool:
    return message.role == "assistant" and (message.error is not None or not message.parts)
