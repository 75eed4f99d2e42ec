"""Reading a request's body and query: bounded and valid, else an error that says what is wrong."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.core import untrusted_json
from chowder_local.core.errors.requests import (
    BodyEncodingUnknown,
    BodyTooLarge,
    ClientStalled,
    InputInvalid,
)
from chowder_local.http.services import services

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
VALUES_MAX = 500_000
UNCOUNTED_BYTES = 2 * 1024 * 1024
PATIENCE_S = 30.0
SLOWEST_BYTES_PER_S = 16 * 1024
_GZIP_OR_ZLIB = 47
# Possessive, so that nothing is remembered to go back to: it would take hundreds of megabytes.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# What FastAPI says of a body that it has not read as JSON.
NOT_JSON = "model_attributes_type"


async def parse(request: Request, model: type[Model]) -> Model:
    """The body as `model`. Raises InputInvalid, and what `json_body` does."""
    return validated(model, await json_body(request), "body")


async def json_body(request: Request, max_bytes: int | None = None) -> Any:
    """What the body says as JSON, compressed or not.

    Raises InputInvalid, BodyTooLarge, BodyEncodingUnknown, ClientStalled.
    """
    limit_bytes = services(request).max_body_bytes
    if max_bytes is not None:
        limit_bytes = min(limit_bytes, max_bytes)
    body = await _decoded(request, await read_body(request, limit_bytes), limit_bytes)
    if body and not _is_json(request):
        raise _invalid(f"Input should be JSON, sent with Content-Type: {JSON}", NOT_JSON)
    return json_of(body)


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


async def read_body(request: Request, limit_bytes: int, patience_s: float = PATIENCE_S) -> bytes:
    """The whole body, which need not come fast, but has to come.

    Raises BodyTooLarge, ClientStalled, and ClientDisconnect if the client leaves.
    """
    kept: bytes | None = request.scope["state"].get("body")
    if kept is not None:
        if len(kept) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return kept
    body, loop = bytearray(), asyncio.get_running_loop()
    began_s = loop.time()
    try:
        async with asyncio.timeout_at(began_s + patience_s) as deadline:
            async for chunk in request.stream():
                body += chunk
                # Counted, not believed: Content-Length may be absent or a lie.
                if len(body) > limit_bytes:
                    raise BodyTooLarge(limit_bytes)
                # A byte now and then would otherwise be waited for all day.
                deadline.reschedule(began_s + patience_s + len(body) / SLOWEST_BYTES_PER_S)
    except TimeoutError:
        raise ClientStalled(patience_s) from None
    return bytes(body)


async def keep_body(request: Request) -> None:
    """Reads the whole body, which can then be read again. Raises as `read_body`."""
    request.scope["state"]["body"] = await read_body(request, services(request).max_body_bytes)


async def _decoded(request: Request, body: bytes, limit_bytes: int) -> bytes:
    """The uncompressed body, of which no more is made than may be."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if not body or encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BodyEncodingUnknown(encoding)
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = await asyncio.to_thread(decoder.decompress, body, limit_bytes + 1)
    except zlib.error:
        raise _invalid(
            f"The body is not {encoding}, as its Content-Encoding says", NOT_JSON
        ) from None
    if len(content) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not decoder.eof or decoder.unused_data:
        raise _invalid(f"The body does not end where its {encoding} data ends", NOT_JSON)
    return content


def check_values(body: bytes) -> None:
    """Raises ValueError for JSON of so many values that nobody else would be served meanwhile."""
    if len(body) <= UNCOUNTED_BYTES or _separators(body) <= VALUES_MAX:
        return
    # Most of a long body is text, which may have any number of these itself.
    quotes = body.count(b'"') - body.count(b'\\"')
    if quotes > 2 * VALUES_MAX or _separators(_STRING.sub(b"", body)) > VALUES_MAX:
        raise ValueError(f"it has more than {VALUES_MAX} values")


def _separators(body: bytes) -> int:
    return sum(map(body.count, (b",", b":", b"[", b"{")))


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


def json_of(body: bytes) -> Any:
    """What is in a body of JSON, if it is of a kind that all code can take. Raises InputInvalid."""
    if not body:
        raise _invalid("Field required", "missing")
    try:
        check_values(body)
        content = untrusted_json.read(body.decode(json.detect_encoding(body)))
        # Only an escape can smuggle in half of a surrogate pair, and most bodies have none.
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(content, ensure_ascii=False).encode()
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise _invalid(f"JSON decode error: {error}", "json_invalid", position) from None
    return content


def _invalid(message: str, kind: str, *where: int) -> InputInvalid:
    return InputInvalid([{"loc": ["body", *where], "msg": message, "type": kind}])
