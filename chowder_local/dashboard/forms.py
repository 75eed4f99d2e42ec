"""Reading what a form sends: short fields of text, judged by the same models as JSON is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chowder_local.core.errors.requests import InputInvalid
from chowder_local.http.bodies import read_body

if TYPE_CHECKING:
    from starlette.requests import Request

FORM_MAX_BYTES = 64 * 1024
FIELDS_MAX = 50


async def form(request: Request, max_bytes: int = FORM_MAX_BYTES) -> dict[str, str]:
    """The fields by name, without those that were left empty. Raises InputInvalid, BodyTooLarge."""
    sent = await fields(request, max_bytes)
    return {name: value.strip() for name, value in sent if value.strip()}


async def fields(
    request: Request, max_bytes: int = FORM_MAX_BYTES, max_count: int = FIELDS_MAX
) -> list[tuple[str, str]]:
    """All of them as they were sent, those that are there several times, too. Raises as `form`."""
    body = await read_body(request, max_bytes)
    try:
        # A long text would keep everybody else waiting.
        return await asyncio.to_thread(
            parse_qsl, body.decode(), keep_blank_values=True, max_num_fields=max_count
        )
    except ValueError as broken:
        problem = {"loc": ["body"], "msg": f"This is no form: {broken}", "type": "form"}
        raise InputInvalid([problem]) from None
