"""Splits a message's items into those that the conversation has and those that are new (pure).

Most SDKs send the whole conversation with every message. Items that the agent knows are left out.
It gets new items, and history that it does not know as context.
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
# Dropped items that still mark the end of an earlier turn.
_DROPPED_ANSWERS = frozenset(
    kind for kind in inputs.DROPPED if not kind.endswith(("_output", "_response"))
)


@dataclass(frozen=True)
class Input:
    """A message's items in the gateway's form: history, then new items."""

    history: tuple[Item, ...]
    new: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.history, *self.new)


def parse_input(value: str | list[Item]) -> Input:
    """Parses a request's `input`. Raises MessageRefused if an item is not supported.

    History ends with the latest answer or call; all items after it are new.
    """
    if isinstance(value, str):
        return Input((), ({"type": "message", "role": "user", "content": value},))
    items: list[Item] = []
    end = 0
    for each in value:
        if (item := inputs.to_gateway_item(each)) is not None:
            items.append(item)
        if _is_answer(each):
            end = len(items)
    if not any(map(_is_for_agent, items[end:])):
        # The last item is an answer, so the message before it is answered again.
        end = max((at for at, each in enumerate(items) if _is_for_agent(each)), default=0)
    return Input(tuple(items[:end]), tuple(items[end:]))


def unknown_items(history: Sequence[Item], known: Sequence[bytes]) -> tuple[Item, ...]:
    """The items of a history from the first unknown one on, and all rules before it.

    `known` has the digests of the conversation's items in order; the client may have omitted some.
    If the first unknown item is an answer, the user's message before it is included.
    """
    place = 0
    for at, item in enumerate(history):
        if (item_digest := digest(item)) is None:
            continue
        try:
            place = known.index(item_digest, place) + 1
        except ValueError:
            start = at if item.get("role") == "user" else _exchange_start(history, at)
            return (*_rules(history[:start]), *history[start:])
    return _rules(history)


def unrepeated_items(new: Sequence[Item], known: Sequence[bytes]) -> tuple[Item, ...]:
    """New items with a function's result, without the question and results that are known.

    Some clients send these again in front of the latest result. The last item always stays.
    """
    question = next((digest(each) for each in new if each.get("role") == "user"), None)
    has_result = any(each["type"] == "function_call_output" for each in new)
    if question not in known or not has_result:
        return tuple(new)
    # A question that was asked several times: the latest is the one that waits.
    place = len(known) - 1 - known[::-1].index(question)
    kept: list[Item] = []
    for at, item in enumerate(new[:-1]):
        if (item_digest := digest(item)) is None:
            kept.append(item)
            continue
        try:
            place = known.index(item_digest, place) + 1
        except ValueError:
            return (*kept, *new[at:])
    return (*kept, new[-1])


def is_rule(item: Item) -> bool:
    """Whether an item is a rule for one message."""
    return item.get("role") in ("system", "developer")


def _exchange_start(history: Sequence[Item], at: int) -> int:
    """The index of the first user message of the exchange at an index."""
    while at > 0 and history[at].get("role") != "user":
        at -= 1
    while at > 0 and history[at - 1].get("role") == "user":
        at -= 1
    return at


def _rules(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(filter(is_rule, items))


def _is_answer(item: Mapping[str, Any]) -> bool:
    kind = item.get("type") or "message"
    return (
        kind in _ANSWERS
        or kind in _DROPPED_ANSWERS
        or (kind == "message" and item.get("role") == "assistant")
    )


def _is_for_agent(item: Item) -> bool:
    return item["type"] == "function_call_output" or item.get("role") == "user"
