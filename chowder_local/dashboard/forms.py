"""Parsing of forms, and queries of links."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel

from chowder_local.core.errors.requests import InputInvalid
from chowder_local.http.bodies import read_body, validated

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)

FORM_MAX_BYTES = 64 * 1024
FIELDS_MAX = 50


async def form(request: Request, max_bytes: int = FORM_MAX_BYTES) -> dict[str, str]:
    """The fields that are not empty, by name. Raises like `fields`."""
    sent = await fields(request, max_bytes)
    return {name: value.strip() for name, value in sent if value.strip()}


async def parse_form(request: Request, kind: type[Model], max_bytes: int = FORM_MAX_BYTES) -> Model:
    """The form as a model. Raises like `fields`, and InputInvalid if the model refuses it."""
    return validated(kind, await form(request, max_bytes), "body")


async def fields(
    request: Request, max_bytes: int = FORM_MAX_BYTES, max_count: int = FIELDS_MAX
) -> list[tuple[str, str]]:
    """All fields as sent, repeated ones included.

    Raises BodyTooLarge above `max_bytes`, and InputInvalid if the body is no form or has more than
    `max_count` fields.
    """
    body = await read_body(request, max_bytes)
    try:
        # A long text would block the event loop.
        return await asyncio.to_thread(
            parse_qsl, body.decode(), keep_blank_values=True, max_num_fields=max_count
        )
    except ValueError as invalid:
        problem = {"loc": ["body"], "msg": f"Invalid form: {invalid}", "type": "form"}
        raise InputInvalid([problem]) from None


def with_query(path: str, /, **values: str | int | None) -> str:
    """The path with a query of the non-empty values."""
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path
