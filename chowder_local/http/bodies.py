"""Bodies and queries of requests: read and validated, with bounds on size, time and memory."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.core import untrusted_json
from chowder_local.core.errors.requests import (
    BodiesTooMany,
    BodyEncodingUnknown,
    BodyTooLarge,
    ClientStalled,
    InputInvalid,
)
from chowder_local.core.long_values import off_loop
from chowder_local.http.message_errors import JSON_INVALID
from chowder_local.http.services import services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Scope

UNMETERED_BYTES = 64 * 1024
"""Up to this size a body is not metered: connections are bounded, and few bodies are longer."""
WAIT_S = 30.0


@dataclass(eq=False, repr=False)
class BodyMemory:
    """`total_bytes` of memory for request bodies; the first to ask is served first.

    The clients of one address hold at most `per_address_bytes` of it.
    """

    total_bytes: int
    per_address_bytes: int
    wait_s: float = WAIT_S

    def __post_init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._waiting: list[_Wait] = []
        self._reading: dict[_Share, asyncio.Timeout] = {}

    @property
    def held_bytes(self) -> int:
        return self._held.total()

    @asynccontextmanager
    async def body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """Reads the request's whole body, which holds its memory until the end of the block.

        Raises BodyTooLarge if it is longer than `max_bytes`, BodiesTooMany if there is no memory
        for it in time, ClientStalled if it arrives too slowly, and ClientDisconnect if the client
        leaves.
        """
        share = _Share(request.client.host if request.client else "")
        try:
            yield await self._read(request, share, max_bytes)
        finally:
            self._shrink(share, 0)

    async def _read(self, request: Request, share: _Share, max_bytes: int) -> bytes:
        _check_length(request, max_bytes)
        body, loop = bytearray(), asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout_at(began_s + BODY_TIMEOUT_S) as deadline:
                self._reading[share] = deadline
                async for chunk in request.stream():
                    body += chunk
                    # Content-Length may be absent or wrong.
                    if len(body) > max_bytes:
                        raise BodyTooLarge(max_bytes)
                    if len(body) > share.room_bytes:
                        # Reserves the final size: two bodies that wait twice could deadlock.
                        deadline.reschedule(None)
                        waits_since_s = loop.time()
                        await self._grow(share, min(_length(request) or max_bytes, max_bytes))
                        began_s += loop.time() - waits_since_s
                    # A minimum rate, because a client may send a byte now and then without end.
                    due_s = began_s + BODY_TIMEOUT_S + len(body) / MIN_BYTES_PER_S
                    deadline.reschedule(self._latest_s(share, due_s))
        except TimeoutError:
            if loop.time() < began_s + BODY_TIMEOUT_S + len(body) / MIN_BYTES_PER_S:
                raise BodiesTooMany(self.total_bytes) from None
            raise ClientStalled(BODY_TIMEOUT_S) from None
        finally:
            self._reading.pop(share, None)
        self._shrink(share, len(body))
        return bytes(body)

    async def _grow(self, share: _Share, length: int) -> None:
        """Waits until `length` bytes are reserved. Raises BodiesTooMany after `wait_s`."""
        wait = _Wait(share, length - share.held)
        self._waiting.append(wait)
        self._serve()
        if not wait.served.done():
            self._hurry()
        try:
            async with asyncio.timeout(self.wait_s):
                await wait.served
        except TimeoutError:
            raise BodiesTooMany(self.total_bytes) from None
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
                self._serve()

    def _shrink(self, share: _Share, length: int) -> None:
        """Releases the memory that a body of this length does not need."""
        kept = length if length > UNMETERED_BYTES else 0
        if share.held <= kept:
            return
        self._held[share.address] -= share.held - kept
        share.held = kept
        if not self._held[share.address]:
            del self._held[share.address]
        self._serve()

    def _serve(self) -> None:
        for wait in list(self._waiting):
            if wait.served.done():
                # It has timed out, and is about to be removed.
                continue
            share = wait.share
            # An address at its limit delays no other; a body that does not fit delays all after it.
            if self._held[share.address] + wait.count > self.per_address_bytes:
                continue
            if self.held_bytes + wait.count > self.total_bytes:
                return
            self._held[share.address] += wait.count
            share.held += wait.count
            share.since_s = asyncio.get_running_loop().time()
            self._waiting.remove(wait)
            wait.served.set_result(None)

    def _hurry(self) -> None:
        """Shortens the deadlines of the bodies that hold memory for which another one waits."""
        for share, deadline in self._reading.items():
            if (due_s := deadline.when()) is not None and not deadline.expired():
                deadline.reschedule(self._latest_s(share, due_s))

    def _latest_s(self, share: _Share, due_s: float) -> float:
        """A body's deadline: `due_s`, or sooner if it holds memory for which another one waits."""
        is_in_the_way = bool(self._waiting and share.held)
        return min(due_s, share.since_s + self.wait_s) if is_in_the_way else due_s


@dataclass(eq=False)
class _Share:
    """The memory that one body holds."""

    address: str
    held: int = 0
    since_s: float = 0.0

    @property
    def room_bytes(self) -> int:
        return max(self.held, UNMETERED_BYTES)


@dataclass(eq=False)
class _Wait:
    share: _Share
    count: int
    served: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


def _length(request: Request) -> int:
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else 0


def _check_length(request: Request, limit_bytes: int) -> None:
    """Raises BodyTooLarge before any of the body is read, if its client has told the length."""
    if _length(request) > limit_bytes:
        raise BodyTooLarge(limit_bytes)


Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
VALUES_MAX = 500_000
UNCOUNTED_BYTES = 2 * 1024 * 1024
PROBLEMS_MAX = 1_000
"""A list of all errors of a long body would take seconds to make."""
BODY_TIMEOUT_S = 30.0
MIN_BYTES_PER_S = 16 * 1024
_GZIP_OR_ZLIB = 47
# FastAPI's error type for a body that it does not read as JSON.
NOT_JSON = "model_attributes_type"


async def parse(request: Request, model: type[Model]) -> Model:
    """Reads the JSON body as `model`. Raises InputInvalid if it does not fit; see `json_body`."""
    body = await _json(request)
    return await off_loop(lambda each: validated(model, json_of(each), "body"), body)


async def json_body(request: Request, max_bytes: int | None = None) -> Any:
    """Reads the body as JSON, decompressed if necessary.

    Raises InputInvalid if it is not JSON, BodyTooLarge if it is longer than `max_bytes` or the
    server's limit, BodyEncodingUnknown if the server cannot decompress it, and ClientStalled if it
    arrives too slowly.
    """
    return await off_loop(json_of, await _json(request, max_bytes))


async def _json(request: Request, max_bytes: int | None = None) -> bytes:
    """The body that is to be JSON, decompressed. Raises the errors of `json_body`."""
    limit_bytes = _limit_bytes(request)
    if max_bytes is not None:
        limit_bytes = min(limit_bytes, max_bytes)
    body = await _decoded(request, await read_body(request, limit_bytes), limit_bytes)
    if body and not _is_json(request):
        raise _invalid(f"Input should be JSON, sent with Content-Type: {JSON}", NOT_JSON)
    return body


def parse_query(request: Request, model: type[Model]) -> Model:
    """Reads the query as `model`; a repeated parameter has its last value. Raises InputInvalid."""
    return validated(model, dict(request.query_params), "query")


def validated(model: type[Model], content: Any, place: str) -> Model:
    """Validates a part of the request, such as `body`, as `model`. Raises InputInvalid."""
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        if (count := invalid.error_count()) > PROBLEMS_MAX:
            message = f"Input has {count} errors; compare it with the schema in /openapi.json"
            raise InputInvalid([{"loc": [place], "msg": message, "type": "too_many"}]) from None
        raise InputInvalid(
            [
                {"loc": [place, *problem["loc"]], "msg": problem["msg"], "type": problem["type"]}
                for problem in invalid.errors(include_url=False, include_input=False)
            ]
        ) from None


async def read_body(request: Request, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Reads the whole body; the time limit grows with the bytes that have arrived.

    Raises BodyTooLarge if it is longer than `limit_bytes`, ClientStalled if it arrives too slowly,
    and ClientDisconnect if the client leaves.
    """
    kept: bytes | None = request.scope["state"].get("body")
    if kept is not None:
        if len(kept) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return kept
    _check_length(request, limit_bytes)
    body, loop = bytearray(), asyncio.get_running_loop()
    began_s = loop.time()
    try:
        async with asyncio.timeout_at(began_s + timeout_s) as deadline:
            async for chunk in request.stream():
                body += chunk
                # Content-Length may be absent or wrong.
                if len(body) > limit_bytes:
                    raise BodyTooLarge(limit_bytes)
                # A minimum rate, because a client may send a byte now and then without end.
                deadline.reschedule(began_s + timeout_s + len(body) / MIN_BYTES_PER_S)
    except TimeoutError:
        raise ClientStalled(timeout_s) from None
    return bytes(body)


async def keep_body(request: Request) -> None:
    """Reads the whole body and keeps it for a second `read_body`. Raises the errors of that."""
    request.scope["state"]["body"] = await read_body(request, _limit_bytes(request))


def bound_body(scope: Scope, limit_bytes: int) -> None:
    """Bounds the JSON body of a request to less than what the server takes."""
    scope["state"]["body_limit_bytes"] = limit_bytes


def _limit_bytes(request: Request) -> int:
    limit_bytes = services(request).max_body_bytes
    own_limit_bytes: int = request.scope["state"].get("body_limit_bytes", limit_bytes)
    return min(limit_bytes, own_limit_bytes)


async def _decoded(request: Request, body: bytes, limit_bytes: int) -> bytes:
    """Decompresses the body, up to `limit_bytes`. Raises the errors of `json_body`."""
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
            f"The body is not {encoding}, although its Content-Encoding is", NOT_JSON
        ) from None
    if len(content) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not decoder.eof or decoder.unused_data:
        raise _invalid(f"The body does not end where its {encoding} data ends", NOT_JSON)
    return content


def check_values(body: bytes) -> None:
    """Raises ValueError if JSON has so many values that parsing it would block the event loop."""
    if len(body) > UNCOUNTED_BYTES:
        untrusted_json.check_count(body, VALUES_MAX)


def _is_json(request: Request) -> bool:
    """Whether the request declares JSON, or declares no type and comes from no web page.

    A page of any origin may post some other types, or no type, without a CORS preflight.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not media_type:
        return "Origin" not in request.headers
    return media_type == JSON or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def json_of(body: bytes) -> Any:
    """Decodes JSON. Raises InputInvalid if it is empty, invalid, or has a lone surrogate."""
    if not body:
        raise _invalid("Field required", "missing")
    try:
        check_values(body)
        content = untrusted_json.read(body.decode(json.detect_encoding(body)))
        # Only an escape can write a lone surrogate, and most bodies have none.
        if b"\\ud" in body or b"\\uD" in body:
            json.dumps(content, ensure_ascii=False).encode()
    except ValueError as error:
        position = (error.pos,) if isinstance(error, json.JSONDecodeError) else ()
        raise _invalid(f"JSON decode error: {error}", JSON_INVALID, *position) from None
    return content


def _invalid(message: str, kind: str, *where: int) -> InputInvalid:
    return InputInvalid([{"loc": ["body", *where], "msg": message, "type": kind}])
