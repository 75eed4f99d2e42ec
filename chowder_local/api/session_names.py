"""Which conversation a request's path names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from chowder_local.core.errors.requests import InputInvalid

if TYPE_CHECKING:
    from starlette.requests import Request


def session_of(request: Request) -> str | None:
    """The name of the conversation, if the path has one. Raises InputInvalid."""
    name: str | None = request.path_params.get("session_id")
    if name is not None and "\ufffd" in name:
        # It stands for whatever is not UTF-8, so that unlike names would share a conversation.
        try:
            unquote_to_bytes(request.scope["raw_path"]).decode()
        except UnicodeDecodeError:
            words = "Input should be UTF-8, percent-encoded"
            problem = {"loc": ["path", "session_id"], "msg": words, "type": "string_unicode"}
            raise InputInvalid([problem]) from None
    return name
