"""Reading a request's body and query: bounded and valid, else an error that says what is wrong."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.errors.requests import BodyTooLarge, InputInvalid
from chowder_local.web.state import services

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
DEPTH_MAX = 200
# What FastAPI says of a body that it has not read as JSON.
NOT_JSON = "model_attributes_type"


async def parse(request: Request, model: type[Model]) -> Model:
    """The body as `model`. Raises InputInvalid, BodyTooLarge."""
    body = await read_body(request, services(request).max_body_bytes)
    if body and not _is_json(request):
        raise _invalid(f"Input should be JSON, sent with Content-Type: {JSON}", NOT_JSON)
    return validated(model, _json(body), "body")


def parse_query(request: Request, model: type[Model]) -> Model:
    """The query as `model`; of a parameter that is given twice the last. Raises InputInvalid."""
    return validated(model, dict(request.query_params), "query")


def validated(model: type[Model], content: Any, place: str) -> Model:
    """What came in a place of the request, as `model`. Raises InputInvalid."""
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        raise InputInvalid(
            [
                {"loc": [place, *problem["loc"]], "msg": problem["msg"], "type": problem["type"]}
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


def _is_json(request: Request) -> bool:
    """Whether the body is said to be JSON, or nothing is said of it.

    Other types are what a page of any origin may post without being asked first. That such a page
    can leave the type out as well is why silence is not enough if the request comes from one.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not media_type:
        return "Origin" not in request.headers
    return media_type == JSON or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _json(body: bytes) -> Any:
    if not body:
        raise _invalid("Field required", "missing")
    try:
        content = json.loads(body, parse_float=_finite, parse_constant=_finite)
        _check_depth(body, content)
        return _representable(body, content)
    except (ValueError, RecursionError) as broken:
        position = broken.pos if isinstance(broken, json.JSONDecodeError) else 0
        raise _invalid(f"JSON decode error: {broken}", "json_invalid", position) from None


def _invalid(words: str, kind: str, *where: int) -> InputInvalid:
    return InputInvalid([{"loc": ["body", *where], "msg": words, "type": kind}])


def _check_depth(body: bytes, content: Any) -> None:
    """Raises ValueError for content that code which walks it could not get to the bottom of."""
    # Most bodies have fewer brackets than levels are allowed, and counting those is quick.
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    level, depth = [content], 0
    while level := [
        child
        for each in level
        if isinstance(each, (dict, list))
        for child in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"it is nested deeper than {DEPTH_MAX} levels")


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
