"""Which turn of an agent answers a person's message in a channel (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from chowder_local.features.messengers.mailbox import EarlierAnswers
from chowder_local.features.messengers.stand_in import MENTION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox
    from chowder_local.relay.call_log import ModelCall

EARLIER = 3
"""So many messages before one may be answered after it."""
CALLS_MAX = 20
"""So many of the agent's latest model calls are read, each of which takes milliseconds at first."""
MESSAGE_CHARS, CALL_CHARS = 400, 4000
"""So many characters of both are compared; a call may have several messages together."""
ABORTED = "client_disconnected"
UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""The turn of the message has not begun."""


def earlier_answers(
    message: ChannelMessage, mailbox: Mailbox, latest_calls: Iterable[ModelCall]
) -> EarlierAnswers:
    """What may come after a message, and answers one that was said before it in the same place."""
    earlier = [
        each
        for each in mailbox.messages
        if each.author == "person" and each.id < message.id and _place(each) == _place(message)
    ][-EARLIER:]
    # A command is answered without a model call.
    if not earlier or (message.text or "").removeprefix(MENTION).strip().startswith("/"):
        return EarlierAnswers()
    since = takewhile(lambda each: each.at > earlier[0].at, latest_calls)
    calls = list(islice(since, CALLS_MAX))[::-1]
    if len(calls) == CALLS_MAX:
        # Whoever has waited for longer waits no more, and the turn may be none of these calls.
        earlier = [each for each in earlier if each.at >= calls[0].at]
    turns = [(each, _turn_of(each, calls)) for each in earlier]
    going_on = {
        (each.turn_id, each.last_message)
        for each in calls
        if each.at <= message.at and not _is_last(each, message.at)
    }

    def is_earlier(call: ModelCall) -> bool:
        is_known = (call.turn_id, call.last_message) in going_on
        is_of_earlier = any(call.turn_id == turn_id and _has(call, each) for each, turn_id in turns)
        return is_of_earlier and (is_known or not _has(call, message))

    others = [each for each in calls if is_earlier(each)]
    if not others or _is_over(others[-1], message, mailbox):
        return EarlierAnswers()
    session = others[-1].session_key
    later = (each for each in calls if each.at > message.at and each.session_key == session)
    until = next((each.at for each in later if not is_earlier(each)), UNKNOWN)
    return EarlierAnswers(tuple(each.output.text for each in others), until)


def _turn_of(message: ChannelMessage, calls: Iterable[ModelCall]) -> str | None:
    """The first turn since a message that has it; people may say the same elsewhere later."""
    of_message = (each for each in calls if each.at > message.at and _has(each, message))
    return next((each.turn_id for each in of_message), None)


def _is_last(call: ModelCall, moment: datetime) -> bool:
    """Whether a call had said the last of its turn by then.

    The turns of a connection may have one id for all: Matrix's and Nostr's do.
    """
    if call.took_s is None or call.at + timedelta(seconds=call.took_s) > moment:
        return False
    return bool(call.output.text) and not call.output.calls


def _is_over(call: ModelCall, message: ChannelMessage, mailbox: Mailbox) -> bool:
    """Whether the turn of an earlier message was over, and its answer there, before a message."""
    if call.took_s is None or call.outcome == ABORTED:
        return call.outcome == ABORTED
    ended_at = call.at + timedelta(seconds=call.took_s)
    answers = (
        each
        for each in mailbox.messages
        if each.is_answer and each.id < message.id and each.chat == message.chat
    )
    return not call.output.calls and any(each.at >= ended_at for each in answers)


def _has(call: ModelCall, message: ChannelMessage) -> bool:
    """Whether a message is what the user says in a call; messengers change its marks."""
    parts = [_letters(each) for each in (message.text or "")[:MESSAGE_CHARS].split(MENTION)]
    text = _letters((call.last_message or "")[:CALL_CHARS])
    return any(parts) and all(each in text for each in parts)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _place(message: ChannelMessage) -> tuple[tuple[str | None, str | None], str | None]:
    return message.chat, message.thread
