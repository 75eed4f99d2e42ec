"""The calls of notes, and their page."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.api.schemas.fields import View
from chowder_local.core.strict_model import StrictModel
from chowder_local.dashboard.pages import PageParts, instance_page
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.http.bodies import parse
from chowder_local.http.services import instance_of, service
from chowder_notes.feature import Notes

PATH = "/local/instances/{instance_id}/notes"


class NoteCreation(StrictModel):
    """A new note."""

    text: str


class NoteView(View):
    """A note about an agent."""

    id: int
    at: datetime
    text: str


async def list_notes(request: Request) -> list[NoteView]:
    """The notes about the agent, oldest first."""
    notes = await service(request, Notes).all(await instance_of(request))
    return [NoteView.model_validate(each) for each in notes]


async def add_note(request: Request) -> NoteView:
    """Adds a note about the agent."""
    instance = await instance_of(request)
    body = await parse(request, NoteCreation)
    return NoteView.model_validate(await service(request, Notes).add(instance, body.text))


async def clear_notes(request: Request) -> None:
    """Removes the notes about the agent."""
    await service(request, Notes).clear(await instance_of(request))


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    notes = await service(request, Notes).all(instance)
    return await instance_page(request, "notes.html", instance, tab="/notes", notes=notes)


ORG = Access.ORGANIZATION
OPERATIONS = (
    Operation(
        "GET", PATH, list_notes, ORG, "listNotes", "List notes",
        answer=[NoteView], tool="list_notes",
    ),
    Operation(
        "POST", PATH, add_note, ORG, "addNote", "Add a note",
        body=NoteCreation, answer=NoteView, status=201, errors=(409,),
    ),
    Operation("DELETE", PATH, clear_notes, ORG, "clearNotes", "Remove notes", status=204),
)  # fmt: skip
PAGES = (Page("GET", f"{INSTANCE}/notes", show),)
PARTS = PageParts(tab=("/notes", "Notes"))
