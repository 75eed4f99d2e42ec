"""Bodies: snapshots, and what is made of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.bounds import Id, Name
from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from chowder_local.core.domain import Snapshot


class SnapshotCreation(BaseModel):
    """A new snapshot."""

    name: Annotated[Name | None, Field(examples=["after-onboarding"])] = None


class SnapshotView(BaseModel):
    """An agent as it was: its conversations, files and configuration."""

    id: Id
    instance_id: Annotated[
        Id | None,
        Field(description="Of which instance it was made, which may be gone since."),
    ]
    name: Annotated[str | None, Field(examples=["after-onboarding"])]
    model_provider: ModelProvider
    size_bytes: Annotated[int, Field(description="Of its archive.", examples=[2_935_296])]
    created_at: datetime

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """The view of a snapshot."""
        return cls.model_validate(snapshot, from_attributes=True)


class Fork(BaseModel):
    """The instance that is to be made."""

    name: Name


class Restoration(BaseModel):
    """What an instance is to be again."""

    snapshot_id: Id


class ImportQuery(BaseModel):
    """How an imported agent is to be called."""

    name: Annotated[Name | None, Field(description="Else as it was called there.")] = None
