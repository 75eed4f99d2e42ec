"""An agent's files: folders, uploads, downloads, and text files in an editor."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.agent_contents import FileQuery, FileWriting, FolderQuery
from chowder_local.api.uploads import upload_into
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import FileMissing
from chowder_local.dashboard.pages import fields, instance_page, notice, part, parts, with_query
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.error_rendering import status_of
from chowder_local.http.responses import download as download_response
from chowder_local.http.services import instance_of, running, running_instance_of, services
from chowder_local.openclaw.files import split_path

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.files import Entry, Files, Folder

MACROS = "_files.html"
TAB = "/files"
PORTION = 200
"""The number of entries that a page starts with, and that “Show more” adds."""
EDIT_MAX_BYTES = 1024 * 1024
FORM_MAX_BYTES = 6 * EDIT_MAX_BYTES + 64 * 1024
"""A form encodes a line end in six bytes."""


class FolderPageQuery(FolderQuery):
    q: str = Field("", max_length=255)
    skip: int = Field(0, ge=0, le=1_000_000)


class EditorQuery(FileQuery):
    """The file `path`; with a name, the file of this name in the folder `path`."""

    name: str = Field("", max_length=255)


class EditorForm(BaseModel):
    """The fields that the editor sends with the text."""

    opened: str = Field(max_length=64)
    """The digest of the version that the editor has opened."""
    line_end: str = Field("lf", pattern="^(lf|crlf)$")
    anyway: str | None = Field(None, max_length=64)
    """The digest of another version that the user agrees to overwrite."""


@dataclass(frozen=True)
class Portion:
    """Some of a folder's entries, folders first; `count` is the number of all entries."""

    entries: list[Entry]
    count: int
    has_more: bool


@dataclass(frozen=True)
class Text:
    """A file; `content` is None if it is too long to edit or is not text.

    The digest is empty if the file does not exist.
    """

    size: int
    digest: str
    content: str | None = None
    line_end: str = "lf"
    is_mixed: bool = False
    """Whether the file mixes line ends, which a browser's text area cannot keep."""

    @property
    def is_too_long(self) -> bool:
        return self.size > EDIT_MAX_BYTES

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        digest = hashlib.sha256(data).hexdigest()
        try:
            content = data.decode()
        except UnicodeDecodeError:
            return cls(len(data), digest)
        # HTML cannot represent this character.
        if "\0" in content:
            return cls(len(data), digest)
        pairs = content.count("\r\n")
        is_mixed = content.count("\r") > pairs or 0 < pairs < content.count("\n")
        line_end = "crlf" if pairs and not is_mixed else "lf"
        return cls(len(data), digest, content, line_end, is_mixed)


async def show(request: Request) -> Response:
    """A folder; htmx selects a part of it for a search and for more entries."""
    instance = await instance_of(request)
    query = parse_query(request, FolderPageQuery)
    portion, problem, status = None, None, 200
    if instance.status is InstanceStatus.RUNNING:
        try:
            instance = await running(request, instance)
            folder = await services(request).files.folder(instance.sandbox_id, query.path)
        except ChowderError as raised:
            if "HX-Request" in request.headers:
                raise
            problem, status = str(raised), status_of(raised)
        else:
            query.path = folder.path
            # Thousands of entries would block the event loop.
            portion = await asyncio.to_thread(_portion, folder, query)
    return await instance_page(
        request,
        "files.html",
        instance,
        tab=TAB,
        status=status,
        query=query,
        crumbs=_crumbs(query.path),
        portion=portion,
        problem=problem,
        more=with_query("", path=query.path, q=query.q, skip=query.skip + PORTION),
    )


async def upload(request: Request) -> Response:
    """Writes a file as it arrives; once complete, it replaces a file of the same name."""
    instance = await running_instance_of(request)
    await upload_into(request, instance.sandbox_id)
    return Response(status_code=204, headers=HEADERS)


async def download(request: Request) -> Response:
    """A file's bytes, which the browser saves and never renders."""
    instance = await instance_of(request)
    query = parse_query(request, FileQuery)
    instance = await running(request, instance)
    file = await services(request).files.download(instance.sandbox_id, query.path)
    response = await download_response(request, file.name, file.size, file.chunks)
    response.headers.update(HEADERS)
    return response


async def edit(request: Request) -> Response:
    """The file in an editor, or why it cannot be edited; a missing file starts empty."""
    instance = await instance_of(request)
    query = parse_query(request, EditorQuery)
    path = "/".join(split_path(f"{query.path}/{query.name}"))
    text: Text | None = None
    problem, status = None, 200
    try:
        instance = await running(request, instance)
        text = await _read(services(request).files, instance.sandbox_id, path)
    except ChowderError as raised:
        problem, status = str(raised), status_of(raised)
    return await instance_page(
        request,
        "file.html",
        instance,
        tab=TAB,
        status=status,
        path=path,
        crumbs=_crumbs(path),
        text=text,
        max_bytes=EDIT_MAX_BYTES,
        problem=problem,
    )


async def save(request: Request) -> Response:
    """Writes the text, unless the file has changed since and the user has not agreed to overwrite.

    If the agent writes between the comparison and the write, the last write wins.
    """
    instance = await running_instance_of(request)
    sent_fields = dict(await fields(request, FORM_MAX_BYTES))
    sent = validated(FileWriting, sent_fields, "body")
    saved = validated(EditorForm, sent_fields, "body")
    files, sandbox_id = services(request).files, instance.sandbox_id
    present = await _read(files, sandbox_id, sent.path)
    if present.digest not in {saved.opened, saved.anyway}:
        is_new = not saved.opened
        return parts(part(request, MACROS, "conflict", instance, sent.path, present, is_new))
    content = with_line_ends(sent.content, saved.line_end)
    await files.write_text(sandbox_id, sent.path, content)
    text = Text.from_bytes(content.encode())
    return notice(request, f"{sent.path} is saved.", part(request, MACROS, "saved", text))


def _crumbs(path: str) -> list[tuple[str, str]]:
    """The names and paths of the folders from the root to a normalized path."""
    names = [] if path == "." else path.split("/")
    folders = [(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]
    return [("Home", "."), *folders]


def _portion(folder: Folder, query: FolderPageQuery) -> Portion:
    text = query.q.casefold()
    entries = [each for each in folder.entries if text in each.name.casefold()]
    entries.sort(key=lambda each: (not each.is_dir, each.name.casefold(), each.name))
    end = query.skip + PORTION
    return Portion(entries[query.skip : end], len(entries), len(entries) > end)


async def _read(files: Files, sandbox_id: SandboxId, path: str) -> Text:
    """The current file. Raises the errors of `Files.download` except FileMissing."""
    try:
        file = await files.download(sandbox_id, path)
    except FileMissing:
        return Text(0, "")
    async with aclosing(file.chunks) as chunks:
        if file.size > EDIT_MAX_BYTES:
            return Text(file.size, "too long")
        return Text.from_bytes(b"".join([chunk async for chunk in chunks]))


def with_line_ends(content: str, line_end: str) -> str:
    """A form's text with its line ends converted to `line_end`, "lf" or "crlf"."""
    unified = content.replace("\r\n", "\n").replace("\r", "\n")
    return unified.replace("\n", "\r\n") if line_end == "crlf" else unified
