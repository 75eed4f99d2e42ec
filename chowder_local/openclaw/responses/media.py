"""Translates images and files of a message from OpenAI's forms to the gateway's (pure)."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.validators import as_object, as_string, pick

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    try:
        # Some clients omit the padding, and some break lines.
        text = "".join(data.split()).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=None, validate=True)
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
