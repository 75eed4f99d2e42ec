"""Splits a message's items into those that the conversation has and those that are new (pure).

Most SDKs send the whole conversation with every message. Items that the agent knows are left out.
It gets new items, and history that it does not know as context.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.inputs import DROPPED, is_medium, to_gateway_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chowder_local.openclaw.responses.inputs import Item

DIGEST_BYTES = 16

_RULES = ("system", "developer")


def digest(item: Item) -> bytes | None:
    """The digest of an item in the gateway's form.

    None if the item leaves no trace in a conversation: a rule for one message, or no content.
    """
    if item["type"] == "function_call":
        call_id = item.get("call_id") or item.get("id")
        return _digest("call", call_id, item["name"], _canonical(item["arguments"]))
    if item["type"] == "function_call_output":
        return _digest("output", item["call_id"], *_content(item["output"]))
    content = list(_content(item["content"]))
    return None if item["role"] in _RULES or not any(content) else _digest(item["role"], *content)


def digests_of_items(items: Iterable[Item]) -> list[bytes]:
    """The digests of the items that leave a trace."""
    return [each for item in items if (each := digest(item)) is not None]


def items_of_output(output: Iterable[Mapping[str, Any]]) -> list[Item]:
    """An answer's items, as clients send them back."""
    try:
        return [item for each in output if (item := to_gateway_item(each)) is not None]
    except MessageRefused:
        # An agent may write an unsupported item; a client could not send it back either.
        return []


def item_text(item: Item) -> str:
    """The text of a user message or function output, with collapsed white space."""
    content = item.get("content") if item.get("role") == "user" else item.get("output")
    return "" if content is None else next(_content(content))


def message_text(item: Item) -> str:
    """The text of a message, whoever says it, with collapsed white space."""
    content = item.get("content")
    return "" if content is None else next(_content(content))


def collapse_whitespace(text: str) -> str:
    """A text with each run of white space as one space."""
    return " ".join(text.split())


def _content(content: str | list[Item]) -> Iterator[str]:
    """Yields the text, then a digest of each image and file."""
    if isinstance(content, str):
        yield collapse_whitespace(content)
        return
    yield collapse_whitespace(" ".join(part["text"] for part in content if not is_medium(part)))
    for part in content:
        if is_medium(part):
            source = json.dumps(part, sort_keys=True).encode()
            yield hashlib.sha256(source).hexdigest()


def _canonical(arguments: str) -> str:
    try:
        value = untrusted_json.read(arguments, values_max=untrusted_json.VALUES_MAX)
        return json.dumps(value, sort_keys=True)
    except ValueError:
        return collapse_whitespace(arguments)


def _digest(*parts: object) -> bytes:
    # JSON separates parts unambiguously and escapes unpaired surrogates.
    return hashlib.sha256(json.dumps(parts).encode()).digest()[:DIGEST_BYTES]


_ANSWERS = ("function_call", "custom_tool_call")
# Dropped items that still mark the end of an earlier turn.
_DROPPED_ANSWERS = frozenset(
    kind for kind in DROPPED if not kind.endswith(("_output", "_response"))
)


class Input(NamedTuple):
    """A message's items in the gateway's form: history, then new items.

    `text` is that of the latest new item that has one, with collapsed white space.
    """

    history: tuple[Item, ...] = ()
    new: tuple[Item, ...] = ()
    text: str = ""

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.history, *self.new)


def parse_input(value: str | list[Item]) -> Input:
    """Parses a request's `input`. Raises MessageRefused if an item is not supported.

    History ends with the latest answer or call; all items after it are new.
    """
    if isinstance(value, str):
        return _input([{"type": "message", "role": "user", "content": value}], 0)
    items: list[Item] = []
    end = 0
    for each in value:
        if (item := to_gateway_item(each)) is not None:
            items.append(item)
        if _is_answer(each):
            end = len(items)
    if not any(map(_is_for_agent, items[end:])):
        # The last item is an answer, so the message before it is answered again.
        end = max((at for at, each in enumerate(items) if _is_for_agent(each)), default=0)
    return _input(items, end)


def _input(items: Sequence[Item], end: int) -> Input:
    new = tuple(items[end:])
    return Input(tuple(items[:end]), new, next(filter(None, map(item_text, reversed(new))), ""))


def unsent_items(client_input: Input, known: Sequence[bytes]) -> tuple[Item, ...]:
    """The items of a message that its conversation, of which `known` has the digests, lacks."""
    unknown = unknown_items(client_input.history, known)
    return (*unknown, *unrepeated_items(client_input.new, known))


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
