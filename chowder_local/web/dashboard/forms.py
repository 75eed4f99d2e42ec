"""Reading what a form sends: short fields of text, judged by the same models as JSON is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chowder_local.errors.requests import InputInvalid
from chowder_local.web.bodies import read_body
from chowder_local.web.state import services

if TYPE_CHECKING:
    from starlette.requests import Request

FORM_MAX_BYTES = 64 * 1024
FIELDS_MAX = 50


async def form(request: Request) -> dict[str, str]:
    """The fields by name, without those that were left empty. Raises InputInvalid, BodyTooLarge."""
    fields = await verbatim_form(request, FORM_MAX_BYTES)
    return {name: value.strip() for name, value in fields.items() if value.strip()}


async def verbatim_form(request: Request, max_bytes: int) -> dict[str, str]:
    """All fields, as they were filled in. Raises InputInvalid, BodyTooLarge."""
    body = await read_body(request, max_bytes, services(request).budget.share(request.scope))
    try:
        # A long text would keep everybody else waiting.
        fields = await asyncio.to_thread(
            parse_qsl, body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX
        )
    except ValueError as broken:
        problem = {"loc": ["body"], "msg": f"This is no form: {broken}", "type": "form"}
        raise InputInvalid([problem]) from None
    return dict(fields)
