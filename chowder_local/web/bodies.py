"""Reading a request's body: bounded, JSON, valid; else an error that says what is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.errors import BodyTooLarge, InputInvalid
from chowder_local.web.state import services

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)


async def parse(request: Request, model: type[Model]) -> Model:
    """The body as `model`. Raises InputInvalid, BodyTooLarge."""
    content = _json(await _read(request, services(request).max_body_bytes))
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        raise InputInvalid(
            [
                {"loc": ["body", *problem["loc"]], "msg": problem["msg"], "type": problem["type"]}
                for problem in invalid.errors(include_url=False, include_input=False)
            ]
        ) from None


def _json(body: bytes) -> Any:
    if not body:
        raise InputInvalid([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as broken:
        position = broken.pos if isinstance(broken, json.JSONDecodeError) else 0
        raise InputInvalid(
            [
                {
                    "loc": ["body", position],
                    "msg": f"JSON decode error: {broken}",
                    "type": "json_invalid",
                }
            ]
        ) from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        # Counted, not believed: Content-Length may be absent or a lie.
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(body)
