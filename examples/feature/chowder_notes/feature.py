"""What notes add to the server: a table, a setting, an event, and a service on them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel
from sqlmodel import Field, col, delete, select

from chowder_local.core.domain import Instance
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import Events
from chowder_local.features.feature import Feature, Front
from chowder_local.services import Services
from chowder_local.store.database import Database
from chowder_local.store.tables import Table, UtcDateTime


class NoteRow(Table, table=True):
    """A note. It refers to its instance, so that it is removed with it."""

    __tablename__: ClassVar[str] = "chowder_notes_note"

    id: int | None = Field(default=None, primary_key=True)
    instance_id: str = Field(foreign_key="instance.id", index=True)
    at: datetime = Field(sa_type=UtcDateTime)
    text: str


class NotesSettings(BaseModel):
    """The environment variable CHOWDER_X_NOTES_MAX."""

    notes_max: int = 100


class NotesFull(ChowderError):
    """The instance has as many notes as it may have."""

    http_status = 409
    remedy = "Remove the notes, or raise CHOWDER_X_NOTES_MAX."
    message = "The instance has too many notes. Remove them, or raise CHOWDER_X_NOTES_MAX."


@dataclass
class Notes:
    """The notes of all instances."""

    database: Database
    events: Events
    most: int

    async def all(self, instance: Instance) -> Sequence[NoteRow]:
        """The notes of an instance, oldest first."""
        of_instance = select(NoteRow).where(col(NoteRow.instance_id) == instance.id)
        async with self.database.reading() as session:
            return (await session.exec(of_instance.order_by(col(NoteRow.id)))).all()

    async def add(self, instance: Instance, text: str) -> NoteRow:
        """A new note. Raises NotesFull."""
        if len(await self.all(instance)) >= self.most:
            raise NotesFull
        note = NoteRow(instance_id=instance.id, at=datetime.now(UTC), text=text)
        async with self.database.writing(invalidates_caches=False) as session:
            session.add(note)
        self.events.publish("note.added", instance.organization_id, instance.id, note_id=note.id)
        return note

    async def clear(self, instance: Instance) -> None:
        """Removes the notes of an instance."""
        of_instance = delete(NoteRow).where(col(NoteRow.instance_id) == instance.id)
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(of_instance)


@asynccontextmanager
async def open_notes(kernel: Services) -> AsyncIterator[Notes]:
    await kernel.database.create(NoteRow)
    settings = kernel.settings.of_package(NotesSettings)
    yield Notes(kernel.database, kernel.events, settings.notes_max)


def front() -> Front:
    from chowder_notes import api

    return Front(operations=api.OPERATIONS, pages=api.PAGES, parts=api.PARTS)


FEATURE = Feature("notes", "chowder_notes", open_notes, front)
