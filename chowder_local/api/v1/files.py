"""Handlers: an agent's files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from chowder_local.api.schemas.files import FileQuery, FileView, FileWriting, FolderQuery
from chowder_local.api.uploads import upload_into
from chowder_local.http import responses
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.responses import JSON
from chowder_local.http.services import running_instance, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.openclaw.files import Folder

ENTRIES_AT_ONCE = 1000
"""While they are encoded, no other thread runs."""


async def index(request: Request) -> Response:
    """The entries of a folder, sorted by name. Symbolic links are listed, not followed."""
    query = parse_query(request, FolderQuery)
    agent = await running_instance(request)
    folder = await services(request).files.folder(agent.sandbox_id, query.path)
    return Response(await asyncio.to_thread(_json, folder), media_type=JSON)


async def read(request: Request) -> FileView:
    """A text file's content. Download a file that is not UTF-8, or is larger than 10 MiB."""
    query = parse_query(request, FileQuery)
    agent = await running_instance(request)
    content = await services(request).files.text(agent.sandbox_id, query.path)
    return FileView(path=query.path, content=content)


async def write(request: Request) -> None:
    """Creates or replaces a text file atomically, and creates the folders above it."""
    body = await parse(request, FileWriting)
    agent = await running_instance(request)
    await services(request).files.write_text(agent.sandbox_id, body.path, body.content)


async def upload(request: Request) -> None:
    """Creates or replaces a file of any size, once all of it has arrived."""
    agent = await running_instance(request)
    await upload_into(request, agent.sandbox_id)


async def download(request: Request) -> Response:
    """The bytes of a file."""
    query = parse_query(request, FileQuery)
    agent = await running_instance(request)
    file = await services(request).files.download(agent.sandbox_id, query.path)
    return await responses.download(request, file.name, file.size, file.chunks)


def _json(folder: Folder) -> bytes:
    entries = folder.entries
    pieces = [
        to_json(entries[start : start + ENTRIES_AT_ONCE])[1:-1]
        for start in range(0, len(entries), ENTRIES_AT_ONCE)
    ]
    return b'{"path":%b,"entries":[%b]}' % (to_json(folder.path), b",".join(pieces))
