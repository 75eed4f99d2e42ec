"""Reading what a form sends: short fields of text, judged by the same models as JSON is."""

from __future__ import annotations

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
    body = await read_body(request, FORM_MAX_BYTES, services(request).budget.share(request.scope))
    try:
        fields = parse_qsl(body.decode(), max_num_fields=FIELDS_MAX)
    except ValueError as broken:
        problem = {"loc": ["body"], "msg": f"This is no form: {broken}", "type": "form"}
        raise InputInvalid([problem]) from None
    return {name: value.strip() for name, value in fields if value.strip()}
