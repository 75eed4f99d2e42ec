"""Handlers: a text file, opened to be changed, and saved unless somebody else has changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.api.schemas.files import FileQuery, FileWriting
from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.files import TAB, crumbs
from chowder_local.dashboard.forms import fields
from chowder_local.dashboard.services import fragment
from chowder_local.dashboard.tabs import instance_page
from chowder_local.dashboard.text_files import MAX_BYTES, Missing, Text, lines_ended, read
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.error_rendering import status_of
from chowder_local.http.services import instance_of, running, services
from chowder_local.openclaw.files import split_path

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

FORM_MAX_BYTES = 6 * MAX_BYTES + 64 * 1024
"""In a form the end of a line takes six."""


class Opened(FileQuery):
    """Which file; with a name, it is the one of that name in the folder `path`."""

    name: str = Field("", max_length=255)


class Saved(BaseModel):
    """What an editor sends with the text: which one it had opened, and how lines ended in it."""

    opened: str = Field(max_length=64)
    line_end: str = Field("lf", pattern="^(lf|crlf)$")
    anyway: str | None = Field(None, max_length=64)
    """Which one may be replaced, too."""


async def show(request: Request) -> Response:
    """The file in an editor, or why it cannot be in one; a missing one is begun."""
    instance = await instance_of(request)
    opened = parse_query(request, Opened)
    path = "/".join(split_path(f"{opened.path}/{opened.name}"))
    text: Text | Missing | None = None
    problem, status = None, 200
    try:
        text = await read(services(request).files, running(instance).sandbox_id, path)
    except ChowderError as raised:
        problem, status = str(raised), status_of(raised)
    return await instance_page(
        request,
        "file.html",
        instance,
        tab=TAB,
        status=status,
        path=path,
        crumbs=crumbs(path),
        text=text,
        max_bytes=MAX_BYTES,
        problem=problem,
    )


async def save(request: Request) -> Response:
    """Writes the text, unless the file is another one by now and it was not said that so be it.

    Between that look and the writing, the agent may still write: the last one wins, as always.
    """
    instance = await instance_of(request)
    filled = dict(await fields(request, FORM_MAX_BYTES))
    sent = validated(FileWriting, filled, "body")
    saved = validated(Saved, filled, "body")
    files, sandbox_id = services(request).files, running(instance).sandbox_id
    now = await read(files, sandbox_id, sent.path)
    if now.digest not in {saved.opened, saved.anyway}:
        return fragment(
            request,
            "file_changed.html",
            it=instance,
            path=sent.path,
            now=now,
            was_missing=not saved.opened,
        )
    content = lines_ended(sent.content, saved.line_end)
    await files.write_text(sandbox_id, sent.path, content)
    return fragment(
        request,
        "file_saved.html",
        words=f"{sent.path} is saved.",
        text=Text.of(content.encode()),
    )
