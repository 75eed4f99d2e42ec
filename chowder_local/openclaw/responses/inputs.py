"""Translates the input items of a message for the gateway (pure).

The gateway makes one message of all items: the last one, and before it the others as context. It
reads only the images and files of the last user message. So all images and files since the agent's
latest answer, also those of tool results, are moved there. Earlier ones, which the agent has seen,
are replaced by placeholders.

Items of earlier turns that only their provider can read or continue (`DROPPED`) are left out.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from chowder_local.core.errors.agents import MessageRefused, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_object(value: Any, what: str) -> dict[str, Any]:
    """The value as an object; None is an empty one. Raises MessageRefused if it is another type."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageRefused(f"{what} must be an object.")
    return value


def as_array(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MessageRefused(f"{what} must be an array.")
    return value


def as_string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise MessageRefused(f"{what} must be a string.")
    return value


def pick(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The members with these keys that are present and not null."""
    return {key: source[key] for key in keys if source.get(key) is not None}


MAX_MESSAGE_BYTES = 20 * 1024 * 1024
"""OpenClaw's default limit for a body of `/v1/responses`."""
IMAGE_TYPES = frozenset(
    {"image/jpeg", "image/png", "image/gif", "image/webp", "image/heic", "image/heif"}
)
FILE_TYPES = frozenset(
    {
        "text/plain",
        "text/markdown",
        "text/html",
        "text/csv",
        "application/json",
        "application/pdf",
    }
)
"""File types that the gateway reads; other text files are sent as plain text."""

_UNTYPED = "application/octet-stream"
_WHITE_SPACE = string.whitespace.encode()


def to_gateway_image(part: Mapping[str, Any]) -> dict[str, Any]:
    """An image in the gateway's form. Raises MessageRefused for a missing URL or a wrong type."""
    if "source" in part:
        return pick(part, "type", "source")
    url = part.get("image_url")
    if isinstance(url, dict):
        url = url.get("url")
    if not url:
        raise MessageRefused("input: an image needs image_url; uploaded file ids are not kept.")
    url = as_string(url, "input: image_url")
    if not url.startswith("data:"):
        return {"type": "input_image", "source": _link(url)}
    media_type, content = _data_url(url)
    return _inline_image(media_type, content)


def to_gateway_file(part: Mapping[str, Any]) -> dict[str, Any]:
    """A file, or the image in it. Raises MessageRefused if it is neither text, PDF nor image."""
    if "source" in part:
        return pick(part, "type", "source")
    if url := part.get("file_url"):
        return {"type": "input_file", "source": _link(as_string(url, "input: file_url"))}
    data = part.get("file_data")
    if not data:
        raise MessageRefused(
            "input: a file needs file_data or file_url; uploaded file ids are not kept."
        )
    data = as_string(data, "input: file_data")
    declared, content = _data_url(data) if data.startswith("data:") else (_UNTYPED, _decoded(data))
    name = as_string(part.get("filename") or "file", "input: filename")
    if declared == _UNTYPED:
        declared = mimetypes.guess_type(name)[0] or _UNTYPED
    if declared.startswith("image/"):
        return _inline_image(declared, content)
    source = _inline(_readable_type(declared, content, name), content)
    return {"type": "input_file", "source": source | {"filename": name}}


def is_medium(part: Mapping[str, Any]) -> bool:
    """Whether a part in the gateway's form is an image or a file."""
    return part["type"] in ("input_image", "input_file")


def placeholder(part: Mapping[str, Any]) -> str:
    """The text for an image or a file where the gateway takes only text."""
    if part["type"] == "input_image":
        return "[image]"
    name = as_object(part.get("source"), "input: source").get("filename")
    return f"[file {name}]" if name else "[file]"


def may_show_images(part: Mapping[str, Any]) -> bool:
    """Whether the part may need a vision model: a PDF's pages may be sent as images."""
    source = as_object(part.get("source"), "input: source")
    is_text = str(source.get("media_type")).startswith(("text/", "application/json"))
    return is_medium(part) and not is_text


def _link(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise MessageRefused("input: an image or file is given by an http, https or data URL.")
    return {"type": "url", "url": url}


def _inline_image(media_type: str, content: bytes) -> dict[str, Any]:
    if media_type not in IMAGE_TYPES:
        types = ", ".join(sorted(IMAGE_TYPES))
        raise MessageRefused(f"input: an image of type {media_type} is not one of {types}.")
    return {"type": "input_image", "source": _inline(media_type, content)}


def _inline(media_type: str, content: bytes) -> dict[str, Any]:
    if not content:
        raise MessageRefused("input: an image or file is empty.")
    data = base64.b64encode(content).decode()
    return {"type": "base64", "media_type": media_type, "data": data}


def _data_url(url: str) -> tuple[str, bytes]:
    head, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise MessageRefused("input: a data URL has no comma before its data.")
    media_type = head.partition(";")[0].strip().lower() or _UNTYPED
    is_base64 = head.rstrip().lower().endswith(";base64")
    return media_type, _decoded(data) if is_base64 else unquote_to_bytes(data)


def _decoded(data: str) -> bytes:
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge
    try:
        # Some clients omit the padding, and some break lines.
        text = data.encode("ascii").translate(None, _WHITE_SPACE).rstrip(b"=")
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=None, validate=True)
    except (binascii.Error, ValueError):
        raise MessageRefused("input: an image's or file's data is not base64.") from None


def _readable_type(declared: str, content: bytes, name: str) -> str:
    """The type as which the gateway reads a file. Raises MessageRefused if there is none."""
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    if _is_text(content):
        return declared if declared in FILE_TYPES - {"application/pdf"} else "text/plain"
    raise MessageRefused(
        f"input: the file {name!r} is neither text, PDF nor image, and the agent reads nothing "
        "else of a message. Put it into the agent's workspace with the files API."
    )


def _is_text(content: bytes) -> bool:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


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
        return to_gateway_image({**part, "type": "input_image"})
    if kind == "input_file":
        return to_gateway_file(part)
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
    return [part for part in item["content"] if not is_medium(part)]


def _media(item: Item) -> list[Item]:
    return [part for part in _parts(item) if is_medium(part)]


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
            {"type": kind, "text": placeholder(part)} if is_medium(part) else part
            for part in _parts(item)
        ]
    }


def _part_text(part: Item) -> str:
    return placeholder(part) if is_medium(part) else str(part["text"])
