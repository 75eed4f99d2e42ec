"""Reading a request's body: bounded, JSON, valid; else an error that says what is wrong."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.errors import BodyTooLarge, InputInvalid
from chowder_local.web.state import services

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)


async def parse(request: Request, model: type[Model]) -> Model:
    """The body as `model`. Raises InputInvalid, BodyTooLarge."""
    content = _json(await read_body(request, services(request).max_body_bytes))
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        raise InputInvalid(
            [
                {"loc": ["body", *problem["loc"]], "msg": problem["msg"], "type": problem["type"]}
                for problem in invalid.errors(include_url=False, include_input=False)
            ]
        ) from None


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge, and ClientDisconnect if the client leaves."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        # Counted, not believed: Content-Length may be absent or a lie.
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(body)


def _json(body: bytes) -> Any:
    if not body:
        raise InputInvalid([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    try:
        return _representable(body, json.loads(body, parse_float=_finite, parse_constant=_finite))
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


def _representable(body: bytes, content: Any) -> Any:
    """The content, if it can be written as UTF-8 again: half of a surrogate pair cannot."""
    # Only an escape can smuggle one in, and most bodies have none.
    if b"\\ud" in body or b"\\uD" in body:
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number of JSON")
    return number
