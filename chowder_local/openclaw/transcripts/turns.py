"""What transcripts consist of: things that were said, called or answered, and what became of them.

The status of a user's message is `completed`: answered; `failed`: the model call failed;
`cancelled`: the client hung up before the answer's end; `in_progress`: it is being answered. A
message of which nothing came, and whose words were sent again, is an attempt of the one after it.
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


@dataclass(frozen=True)
class TurnUsage:
    """Tokens of the model call that a turn came from."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Attempt:
    """A message of which nothing came, and whose words were sent again."""

    at: datetime | None
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Turn:
    """One thing that was said, called or answered; `position` counts OpenClaw's messages.

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
    """How long the whole text is of one that is cut."""
    model: str | None = None
    usage: TurnUsage | None = None
    response_id: str | None = None
    error: str | None = None
    status: str | None = None
    """What became of a user's message, as far as it is known."""
    attempts: tuple[Attempt, ...] = ()


def messages_beside(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages beside a conversation: each a user's, then the failures that it ended in.

    OpenClaw may leave others there when it tidies up; those are told where they are now.
    """
    groups: list[list[Message]] = []
    for message in messages:
        if message.is_beside and message.role == "user":
            groups.append([message])
        elif message.is_beside and groups:
            groups[-1].append(message)
    return [group for group in groups if all(map(_is_failure, group[1:]))]


def with_messages_beside(turns: Sequence[Turn], groups: Iterable[Sequence[Turn]]) -> list[Turn]:
    """The turns of a conversation, and those beside it where they were."""
    result = list(turns)
    for group in groups:
        sent = next((turn for turn in reversed(group) if turn.role == "user"), None)
        if sent is None:
            continue
        error = next((turn.error for turn in group if turn.error), None)
        status = CANCELLED if error is None else FAILED
        place = next((at for at, each in enumerate(result) if each.position >= sent.position), None)
        again = next((at for at, each in enumerate(result) if _is_again(each, sent)), None)
        if again is not None:
            attempt = Attempt(sent.at, status, error)
            result[again] = replace(result[again], attempts=(*result[again].attempts, attempt))
        else:
            result.insert(
                len(result) if place is None else place,
                replace(sent, status=status, error=error),
            )
    return result


def with_statuses(turns: Sequence[Turn], *, is_end: bool, is_answering: bool) -> list[Turn]:
    """The turns with the statuses of the user's.

    Of messages that came together, the latest one's answer is that of all. Without an answer the
    last status is known only at the end of a conversation.
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
        # The agent had its tools work, and did not come to say anything.
        return unanswered
    return COMPLETED if answer.error is None else FAILED


def _is_again(turn: Turn, sent: Turn) -> bool:
    return turn.role == "user" and turn.position == sent.position and turn.text == sent.text


def _is_failure(message: Message) -> bool:
    return message.role == "assistant" and (message.error is not None or not message.parts)
