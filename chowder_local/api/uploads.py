"""Reads a form with a file as it arrives, and passes the file's bytes on at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from chowder_local.api.schemas.agent_contents import FileQuery
from chowder_local.core.errors.requests import ClientStalled, InputInvalid
from chowder_local.http.bodies import validated
from chowder_local.http.services import services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from chowder_local.core.domain import SandboxId

FORM = b"multipart/form-data"
MAX_FIELD_BYTES = 64 * 1024


class Form:
    """The parts `path` and `file` of a form, in any order; other parts are ignored."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name: str | None = None
        self._path: bytearray | None = None
        self._has_file = False
        self._is_whole = False
        self._pending: list[bytes] = []
        self._part: str | None = None
        self._header = [bytearray(), bytearray()]
        self._headers: dict[bytes, bytes] = {}
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._ends,
            },
        )

    @property
    def path(self) -> str:
        """The file's path; read the form first. Raises InputInvalid if a part is missing."""
        problems = []
        if self._path is None:
            problems.append(_problem("path", "Field required", "missing"))
        if not self._has_file:
            problems.append(_problem("file", "Field required", "missing"))
        if problems or self._path is None:
            raise InputInvalid(problems)
        try:
            return self._path.decode()
        except UnicodeDecodeError:
            raise InputInvalid(
                [_problem("path", "Input should be UTF-8", "string_unicode")]
            ) from None

    async def read(
        self, chunks: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Reads the form and writes each piece of the file. Raises InputInvalid if it is broken."""
        async for chunk in chunks:
            try:
                self._parser.write(chunk)
            except FormParserError as broken:
                raise _broken(str(broken)) from None
            for piece in self._pending:
                await write(piece)
            self._pending.clear()
        if not self._is_whole:
            raise _broken("it ends before its last boundary")

    def _part_begins(self) -> None:
        self._part, self._headers = None, {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_ends(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = [bytearray(), bytearray()]

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._part = options.get(b"name", b"").decode(errors="replace")
        is_again = (self._part == "path" and self._path is not None) or (
            self._part == "file" and self._has_file
        )
        if is_again:
            raise InputInvalid([_problem(self._part, "Send only one", "too_long")])
        if self._part == "path":
            self._path = bytearray()
        elif self._part == "file":
            self._has_file = True
            if b"filename" in options:
                self.file_name = _base_name(options[b"filename"].decode(errors="replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._pending.append(data[start:end])
        elif self._part == "path" and self._path is not None:
            self._path += data[start:end]
            if len(self._path) > MAX_FIELD_BYTES:
                raise InputInvalid([_problem("path", "Path is too long", "string_too_long")])

    def _ends(self) -> None:
        self._is_whole = True


async def upload_into(request: Request, sandbox_id: SandboxId) -> str:
    """Puts the request's file into a sandbox once it is complete, and returns the form's path.

    Raises InputInvalid if the form is broken, ClientStalled if the client stops sending,
    ClientDisconnect if it leaves, and the errors of `Files.writing`.
    """
    form = form_of(request)
    files = services(request).files
    async with files.writing(sandbox_id) as writing:
        await form.read(steady(request.stream(), files.idle_timeout_s), writing.write)
        target = validated(FileQuery, {"path": form.path}, "body")
        await writing.place(target.path, form.file_name)
    return target.path


def form_of(request: Request) -> Form:
    """The form of a request, not read yet. Raises InputInvalid if the body is no form."""
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind.lower() != FORM or not options.get(b"boundary"):
        raise _broken(f"send it with Content-Type: {FORM.decode()}; boundary=…")
    try:
        return Form(options[b"boundary"])
    except FormParserError as broken:
        raise _broken(str(broken)) from None


async def steady(chunks: AsyncIterator[bytes], idle_timeout_s: float) -> AsyncIterator[bytes]:
    """Passes the chunks on. Raises ClientStalled if one takes longer than `idle_timeout_s`."""
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise ClientStalled(idle_timeout_s) from None
        if chunk is None:
            return
        yield chunk


def _base_name(name: str) -> str:
    # Some clients send the file's whole local path.
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _problem(field: str, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", field], "msg": message, "type": kind}


def _broken(message: str) -> InputInvalid:
    message = f"Input should be a form with a file: {message}"
    return InputInvalid([{"loc": ["body"], "msg": message, "type": "form_invalid"}])
