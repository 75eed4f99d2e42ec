"""Which items of a message the conversation has already, and which are new (pure).

Most SDKs send the whole conversation with every message. What the agent has said or been told
already is left out; the rest goes to it: new items, and history that it does not know, as context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.responses import inputs
from chowder_local.openclaw.responses.item_digests import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chowder_local.openclaw.responses.inputs import Item

_ANSWERS = ("function_call", "custom_tool_call")
# These are left out, but tell that what stands before them is of an earlier turn.
_LEFT_OUT_ANSWERS = frozenset(
    kind for kind in inputs.DROPPED if not kind.endswith(("_output", "_response"))
)


@dataclass(frozen=True)
class Input:
    """A message's items as the gateway takes them: history, then what is new."""

    history: tuple[Item, ...]
    new: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.history, *self.new)


def parse_input(value: str | list[Item]) -> Input:
    """The items that a client sends. Raises MessageRefused.

    History ends with the latest answer or call; what follows is new, whatever it says.
    """
    if isinstance(value, str):
        return Input((), ({"type": "message", "role": "user", "content": value},))
    items: list[Item] = []
    end = 0
    for given in value:
        if (item := inputs.to_gateway_item(given)) is not None:
            items.append(item)
        if _is_answer(given):
            end = len(items)
    if not any(map(_is_for_agent, items[end:])):
        # An answer comes last: what it was an answer to is to be answered again.
        end = max((at for at, each in enumerate(items) if _is_for_agent(each)), default=0)
    return Input(tuple(items[:end]), tuple(items[end:]))


def unknown_items(history: Sequence[Item], known: Sequence[bytes]) -> tuple[Item, ...]:
    """The items of a history from the first one on that is not known, and all rules for it.

    `known` has the digests of the conversation's items in their order; a client may have left
    some out. If it is an answer that is not known, what it answers goes along.
    """
    place = 0
    for at, item in enumerate(history):
        if (wanted := digest(item)) is None:
            continue
        try:
            place = known.index(wanted, place) + 1
        except ValueError:
            start = at if item.get("role") == "user" else _exchange_start(history, at)
            return (*_rules(history[:start]), *history[start:])
    return _rules(history)


def _exchange_start(history: Sequence[Item], at: int) -> int:
    """Where the exchange begins that an answer is of: with what the user said."""
    while at > 0 and history[at].get("role") != "user":
        at -= 1
    while at > 0 and history[at - 1].get("role") == "user":
        at -= 1
    return at


def _rules(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(each for each in items if each.get("role") in ("system", "developer"))


def _is_answer(given: Mapping[str, Any]) -> bool:
    kind = given.get("type") or "message"
    return (
        kind in _ANSWERS
        or kind in _LEFT_OUT_ANSWERS
        or (kind == "message" and given.get("role") == "assistant")
    )


def _is_for_agent(item: Item) -> bool:
    return item["type"] == "function_call_output" or item.get("role") == "user"
