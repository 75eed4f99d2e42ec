"""Translates the input items of a message for the gateway (pure).

The gateway makes one message of all items: the last one, and before it the others as context. It
reads only the images and files of the last user message. So all images and files since the agent's
latest answer, also those of tool results, are moved there. Earlier ones, which the agent has seen,
are replaced by placeholders.

Items of earlier turns that only their provider can read or continue (`DROPPED`) are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses import media
from chowder_local.openclaw.responses.validators import as_object, as_string, pick

if TYPE_CHECKING:
    from collections.abc import Mapping

DROPPED = frozenset(
    {
        "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction",
        "computer_call", "computer_call_output", "file_search_call", "image_generation_call",
        "item_reference", "local_shell_call", "local_shell_call_output", "mcp_approval_request",
        "mcp_approval_response", "mcp_call", "mcp_list_tools", "reasoning", "shell_call",
        "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
    }
)  # fmt: skip
"""Item types that are left out: reasoning, and calls of a provider's own tools."""

BLANK = ("blank", "It should have more than white space")
"""Type and text of the error of such an input."""

_ROLES = ("user", "assistant", "system", "developer")
_STATUSES = ("in_progress", "completed", "incomplete")
_TEXT_PARTS = ("input_text", "output_text", "text")
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = ("function_call_output", "custom_tool_call_output")

Item = dict[str, Any]


def gateway_input(items: list[Item]) -> list[Item]:
    """The gateway's `input` for items that `to_gateway_item` has translated."""
    return _with_media_at_the_end(_with_user_message(items))


def is_blank(value: str | list[Item]) -> bool:
    """Whether the messages to answer in a gateway's `input` have only white space."""
    if isinstance(value, str):
        return not value.strip()
    latest = value[_turn_start(value) :]
    return bool(latest) and all(map(_is_blank_message, latest))


def _is_blank_message(item: Item) -> bool:
    if item["type"] != "message" or _media(item):
        return False
    return not "".join(part["text"] for part in _texts(item)).strip()


def to_gateway_item(item: Mapping[str, Any]) -> Item | None:
    """An item in the gateway's form; None if left out. Raises MessageRefused if unsupported."""
    kind = item.get("type") or "message"
    if kind == "message":
        return _message(item)
    if not isinstance(kind, str):
        raise MessageRefused("input: an item's type must be a string.")
    if kind in _CALLS:
        call = pick(item, "id", "call_id", "name") | {"type": "function_call", **_status(item)}
        ids = call.keys() & {"id", "call_id"}
        call |= {key: to_gateway_call_id(as_string(call[key], f"input: {key}")) for key in ids}
        call["arguments"] = as_string(item.get(_CALLS[kind]) or "", f"input: {_CALLS[kind]}")
        as_string(call.setdefault("name", ""), "input: name")
        return call
    if kind in _OUTPUTS:
        call_id = to_gateway_call_id(as_string(item.get("call_id"), "input: call_id"))
        output = _content(item.get("output"), f"input: the output of a {kind}")
        return {"type": "function_call_output", "call_id": call_id, "output": output}
    if kind in DROPPED:
        return None
    raise MessageRefused(f"input: items of type {kind!r} are not supported.")


def to_gateway_call_id(client_id: str) -> str:
    """OpenClaw's own id of a call, from the call's id or its item's as a client got them."""
    return re.sub(r"\A(?:call|fc)_(?=.)", "", client_id)


def _message(item: Mapping[str, Any]) -> Item:
    role = item.get("role")
    if role not in _ROLES:
        raise MessageRefused(f"input: the role {role!r} is none of {', '.join(_ROLES)}.")
    message = pick(item, "id", "role") | {"type": "message", **_status(item)}
    if role == "assistant":
        message |= pick(item, "phase")
    message["content"] = _content(item.get("content"), "input: a message's content")
    return message


def _status(item: Mapping[str, Any]) -> Item:
    return pick(item, "status") if item.get("status") in _STATUSES else {}


def _content(content: Any, what: str) -> str | list[Item]:
    if content is None or content == []:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise MessageRefused(f"{what} must be a string or an array of content parts.")
    return [_part(as_object(part, f"{what}: a part")) for part in content]


def _part(part: Mapping[str, Any]) -> Item:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        text = as_string(part.get("text", ""), "input: text")
        return {"type": "output_text" if kind == "output_text" else "input_text", "text": text}
    if kind == "refusal":
        return {"type": "output_text", "text": part.get("refusal", "")}
    if kind in ("input_image", "image_url"):
        return media.to_gateway_image({**part, "type": "input_image"})
    if kind == "input_file":
        return media.to_gateway_file(part)
    raise MessageRefused(f"input: content of type {kind!r} is not supported.")


def _with_user_message(items: list[Item]) -> list[Item]:
    """The items; if all are rules, the last becomes a user message, which the gateway requires."""
    is_rule = [item.get("role") in ("system", "developer") for item in items]
    return [*items[:-1], items[-1] | {"role": "user"}] if items and all(is_rule) else items


def _with_media_at_the_end(items: list[Item]) -> list[Item]:
    parts = [part for item in items[_turn_start(items) :] for part in _media(item)]
    place = _last_user_message(items)
    if parts and place is None:
        # Tool results cannot hold images or files.
        items, place = [*items, {"type": "message", "role": "user", "content": []}], len(items)
    return [
        item | {"content": [*_texts(item), *parts]} if parts and at == place else as_text(item)
        for at, item in enumerate(items)
    ]


def _last_user_message(items: list[Item]) -> int | None:
    """The index of the user message that the gateway answers; None if there is none."""
    for at in range(len(items) - 1, -1, -1):
        if items[at]["type"] != "message" or items[at]["role"] == "assistant":
            return None
        if items[at]["role"] == "user":
            return at
    return None


def _turn_start(items: list[Item]) -> int:
    """The index of the first item after the agent's latest answer."""
    for number in range(len(items), 0, -1):
        item = items[number - 1]
        if item["type"] == "function_call" or item.get("role") == "assistant":
            return number
    return 0


def _parts(item: Item) -> list[Item]:
    content = item.get("content", item.get("output"))
    return content if isinstance(content, list) else []


def _texts(item: Item) -> list[Item]:
    if isinstance(item["content"], str):
        return [{"type": "input_text", "text": item["content"]}]
    return [part for part in item["content"] if not media.is_medium(part)]


def _media(item: Item) -> list[Item]:
    return [part for part in _parts(item) if media.is_medium(part)]


def as_text(item: Item) -> Item:
    """The item with placeholders in place of images and files."""
    if item["type"] == "function_call_output":
        texts = [_part_text(part) for part in _parts(item)]
        return item | {"output": "\n".join(texts)} if texts else item
    if not _media(item):
        return item
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    return item | {
        "content": [
            {"type": kind, "text": media.placeholder(part)} if media.is_medium(part) else part
            for part in _parts(item)
        ]
    }


def _part_text(part: Item) -> str:
    return media.placeholder(part) if media.is_medium(part) else str(part["text"])
