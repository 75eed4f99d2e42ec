"""What became of each of a user's messages in a transcript (pure).

`completed`: answered; `failed`: the model call failed; `cancelled`: the client hung up before the
answer's end; `in_progress`: it is being answered. A message of which nothing came, and whose words
were sent again, is an attempt of the message that followed it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chowder_local.openclaw.transcripts.turns import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chowder_local.openclaw.transcripts.program_output import Message
    from chowder_local.openclaw.transcripts.turns import Turn

COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
IN_PROGRESS = "in_progress"


def beside(messages: Iterable[Message]) -> list[list[Message]]:
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


def with_beside(turns: Sequence[Turn], groups: Iterable[Sequence[Turn]]) -> list[Turn]:
    """The turns of a conversation, and those beside it where they were."""
    told = list(turns)
    for group in groups:
        said = next((turn for turn in reversed(group) if turn.role == "user"), None)
        if said is None:
            continue
        error = next((turn.error for turn in group if turn.error), None)
        status = CANCELLED if error is None else FAILED
        place = next((at for at, each in enumerate(told) if each.position >= said.position), None)
        again = next((at for at, each in enumerate(told) if _is_again(each, said)), None)
        if again is not None:
            attempt = Attempt(said.at, status, error)
            told[again] = replace(told[again], attempts=(*told[again].attempts, attempt))
        else:
            told.insert(
                len(told) if place is None else place, replace(said, status=status, error=error)
            )
    return told


def with_statuses(turns: Sequence[Turn], *, is_end: bool, is_answering: bool) -> list[Turn]:
    """The turns with the statuses of the user's.

    Of messages that came together, the latest one's answer is that of all. Without an answer the
    last status is known only at the end of a conversation.
    """
    told = list(turns)
    answer: Turn | None = None
    unanswered = (IN_PROGRESS if is_answering else CANCELLED) if is_end else None
    later = unanswered
    for at in range(len(told) - 1, -1, -1):
        turn = told[at]
        if turn.role != "user":
            answer = answer or turn
        elif turn.status is None:
            if answer is not None:
                later = _status(answer, unanswered)
            told[at] = replace(turn, status=later)
            answer, unanswered = None, CANCELLED
    return told


def _status(answer: Turn, unanswered: str | None) -> str | None:
    if answer.role == "tool_result":
        # The agent had its tools work, and did not come to say anything.
        return unanswered
    return COMPLETED if answer.error is None else FAILED


def _is_again(turn: Turn, said: Turn) -> bool:
    return turn.role == "user" and turn.position == said.position and turn.text == said.text


def _is_failure(message: Message) -> bool:
    return message.role == "assistant" and (message.error is not None or not message.parts)
