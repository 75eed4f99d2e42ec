"""The turns of transcripts, and the statuses of the user's turns.

A user's turn is `completed` if it was answered, `failed` if the model call failed, `cancelled` if
the client disconnected before the end of the answer, and `in_progress` while it is being answered.
An unanswered message that was sent again is an attempt of the later message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime  # noqa: TC003 - the API's schema reads it
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chowder_local.openclaw.transcripts.program_output import StoredMessage


COMPLETED = "completed"
FAILED: Literal["failed"] = "failed"
CANCELLED: Literal["cancelled"] = "cancelled"
IN_PROGRESS = "in_progress"
CLIENT_GONE = "HTTP client disconnected"
"""The error with which OpenClaw 2026.8 keeps the answer to a client that has gone."""


@dataclass(frozen=True)
class TurnUsage:
    """Tokens of a turn's model call; the input tokens include those of the cache."""

    input_tokens: Annotated[int, Field(examples=[16_480])]
    cached_tokens: Annotated[int, Field(examples=[0])]
    cache_write_tokens: Annotated[int, Field(examples=[0])]
    output_tokens: Annotated[int, Field(examples=[12])]


@dataclass(frozen=True)
class Attempt:
    """An earlier attempt to send a message, which got no answer."""

    at: datetime | None
    status: Literal["failed", "cancelled"]
    error: Annotated[
        str | None, Field(description="Why the model did not answer.", examples=[None])
    ]


@dataclass(frozen=True)
class TranscriptTurn:
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


def off_branch_messages(messages: Iterable[StoredMessage]) -> list[list[StoredMessage]]:
    """The messages off the active branch, in groups: a user's message, then its failures.

    Other groups are omitted: OpenClaw leaves moved messages there, which are on the branch, too.
    """
    groups: list[list[StoredMessage]] = []
    for message in messages:
        if message.is_off_branch and message.role == "user":
            groups.append([message])
        elif message.is_off_branch and groups:
            groups[-1].append(message)
    return [group for group in groups if all(map(_is_failure, group[1:]))]


def with_off_branch_turns(
    turns: Sequence[TranscriptTurn], groups: Iterable[Sequence[TranscriptTurn]]
) -> list[TranscriptTurn]:
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


def with_statuses(
    turns: Sequence[TranscriptTurn], *, is_end: bool, is_answering: bool
) -> list[TranscriptTurn]:
    """The turns with the statuses of the user's turns.

    Consecutive messages share the answer of the last one. A last turn without an answer gets a
    status only if `is_end`, at the end of the conversation.
    """
    result = list(turns)
    answer: TranscriptTurn | None = None
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


def _status(answer: TranscriptTurn, unanswered: str | None) -> str | None:
    if answer.role == "tool_result":
        # The agent has used tools, but has not answered.
        return unanswered
    if answer.error == CLIENT_GONE:
        return CANCELLED
    return COMPLETED if answer.error is None else FAILED


def _is_retry(turn: TranscriptTurn, sent: TranscriptTurn) -> bool:
    return turn.role == "user" and turn.position == sent.position and turn.text == sent.text


def _is_failure(message: StoredMessage) -> bool:
    return message.role == "assistant" and (message.error is not None or not message.parts)
