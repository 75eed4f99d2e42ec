"""A conversation as the offline model looks at it: what was said, and what came back since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.relay.choices import HANDED_OVER
from chowder_local.relay.offline.conversation import Called, Returned, Said
from chowder_local.relay.offline.words import unfolded

if TYPE_CHECKING:
    from chowder_local.relay.offline.conversation import Conversation


@dataclass(frozen=True)
class View:
    """The person's messages, and what came back since the last of them."""

    messages: tuple[str, ...]
    returned: Returned | None
    rounds: int
    """How often tools have come back; those of one answer are one round."""


def seen(conversation: Conversation) -> View:
    """The view of a conversation, freed of what OpenClaw puts around it."""
    messages: list[str] = []
    names: dict[str, str] = {}
    returned: Returned | None = None
    latest = ""
    rounds = 0
    is_in_round = False
    for turn in unfolded(conversation.turns):
        if isinstance(turn, Said):
            messages.append(turn.parts[0])
            returned, rounds, is_in_round = None, 0, False
        elif isinstance(turn, Returned):
            # OpenClaw shows its client another id than the model's.
            name = turn.name or names.get(turn.call_id) or latest or turn.call_id
            returned = Returned(turn.call_id, turn.text, name)
            if not is_in_round and HANDED_OVER not in turn.text:
                rounds, is_in_round = rounds + 1, True
        else:
            is_in_round = False
            if isinstance(turn, Called):
                names[turn.id] = latest = turn.name
    return View(tuple(messages), returned, rounds)
