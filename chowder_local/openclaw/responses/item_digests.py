"""Digests that recognize items of a conversation that were sent before (pure).

SDKs write the same item in different forms: content as a string or as parts, with or without ids,
statuses and annotations. A digest covers only an item's content.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses import inputs, media

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        return [item for each in output if (item := inputs.to_gateway_item(each)) is not None]
    except MessageRefused:
        # An agent may write an unsupported item; a client could not send it back either.
        return []


def item_text(item: Item) -> str:
    """The text of a user message or function output, with collapsed white space."""
    content = item.get("content") if item.get("role") == "user" else item.get("output")
    return "" if content is None else next(_content(content))


def collapse_whitespace(text: str) -> str:
    """A text with each run of white space as one space."""
    return " ".join(text.split())


def _content(content: str | list[Item]) -> Iterator[str]:
    """Yields the text, then a digest of each image and file."""
    if isinstance(content, str):
        yield collapse_whitespace(content)
        return
    yield collapse_whitespace(
        " ".join(part["text"] for part in content if not media.is_medium(part))
    )
    for part in content:
        if media.is_medium(part):
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
