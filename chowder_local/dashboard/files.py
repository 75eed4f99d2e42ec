"""Handlers: an agent's files, folder by folder, what is sent to it, and what is fetched from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import Response

from chowder_local.api.schemas.files import FileQuery, FolderQuery
from chowder_local.api.uploads import upload_into
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.tabs import instance_page
from chowder_local.http.bodies import parse_query
from chowder_local.http.error_rendering import status_of
from chowder_local.http.responses import download as download_response
from chowder_local.http.services import instance_of, running, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.openclaw.files import Entry, Folder

TAB = "/files"
PORTION = 200
"""So many entries are shown at first, and each time that more are asked for."""


class Wanted(FolderQuery):
    """Which folder, and what of it."""

    q: str = Field("", max_length=255)
    skip: int = Field(0, ge=0, le=1_000_000)

    def address(self, **other: str | int) -> str:
        """The query with these wishes, or others instead."""
        wishes = {"path": self.path, "q": self.q, "skip": self.skip} | other
        return "?" + urlencode({name: value for name, value in wishes.items() if value})


@dataclass(frozen=True)
class Crumb:
    """A folder on the way to where one is."""

    name: str
    path: str


@dataclass(frozen=True)
class Portion:
    """Some of a folder's entries, folders first; `count` is how many there are."""

    entries: list[Entry]
    count: int
    has_more: bool


async def show(request: Request) -> Response:
    """A folder; a search, and more entries, are parts of it that htmx takes out."""
    instance = await instance_of(request)
    wanted = parse_query(request, Wanted)
    portion, problem, status = None, None, 200
    if instance.status is InstanceStatus.RUNNING:
        try:
            folder = await services(request).files.folder(instance.sandbox_id, wanted.path)
        except ChowderError as raised:
            if "HX-Request" in request.headers:
                raise
            problem, status = str(raised), status_of(raised)
        else:
            wanted.path = folder.path
            # Thousands of entries would keep everybody else waiting.
            portion = await asyncio.to_thread(portion_of, folder, wanted)
    return await instance_page(
        request,
        "files.html",
        instance,
        tab=TAB,
        status=status,
        wanted=wanted,
        crumbs=crumbs(wanted.path),
        portion=portion,
        problem=problem,
        more=wanted.address(skip=wanted.skip + PORTION),
    )


async def upload(request: Request) -> Response:
    """Takes a file as it comes; one of its name is replaced once all of it is there."""
    instance = await instance_of(request)
    await upload_into(request, running(instance).sandbox_id)
    return Response(status_code=204, headers=HEADERS)


async def download(request: Request) -> Response:
    """A file's bytes, which a browser keeps and never shows."""
    instance = await instance_of(request)
    query = parse_query(request, FileQuery)
    found = await services(request).files.download(running(instance).sandbox_id, query.path)
    answer = await download_response(request, found.name, found.size, found.chunks)
    answer.headers.update(HEADERS)
    return answer


def crumbs(path: str) -> list[Crumb]:
    """The folders from the root to a path, which is as the files' service says it."""
    names = [] if path == "." else path.split("/")
    found = [Crumb(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]
    return [Crumb("Home", "."), *found]


def portion_of(folder: Folder, wanted: Wanted) -> Portion:
    """What of a folder is shown."""
    words = wanted.q.casefold()
    found = [each for each in folder.entries if words in each.name.casefold()]
    found.sort(key=lambda each: (not each.is_dir, each.name.casefold(), each.name))
    end = wanted.skip + PORTION
    return Portion(found[wanted.skip : end], len(found), len(found) > end)
