"""The tables. Only this package uses their rows; its queries return domain types.

Classes with `table=True` do not validate their values, so they never parse a request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import sqlalchemy
from cryptography.fernet import InvalidToken
from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from chowder_local.core.domain import Egress, InstanceStatus, ModelProvider, Tier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.secrets import SecretBox

log = logging.getLogger(__name__)


def encrypt_json(content: Mapping[str, Any], secret_box: SecretBox) -> bytes:
    """The ciphertext of an object, for a column; `EncryptedJson` reads it."""
    return secret_box.encrypt(json.dumps(dict(content)))


class EncryptedJson(Mapping[str, Any]):
    """An object from a column, decrypted at the first access, because most readers need none.

    Its `repr` shows no content. An object that was encrypted with another secret is empty.
    """

    def __init__(self, ciphertext: bytes, secret_box: SecretBox, name: str) -> None:
        self._ciphertext = ciphertext
        self._secret_box = secret_box
        self._name = name

    def load(self) -> Self:
        """Decrypts it now, so that later accesses are quick. Blocks."""
        len(self)
        return self

    @cached_property
    def _content(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._secret_box.decrypt(self._ciphertext))
        except InvalidToken:
            # The value counts as not set, like a model key.
            log.warning("%s was encrypted with another secret.key; set it again", self._name)
            return {}
        return content

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


METADATA = MetaData(
    # Constraints need names, or a later migration cannot drop them.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """Stores aware times as UTC and returns them aware, because SQLite stores no time zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be stored.")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class EnumText(TypeDecorator[StrEnum]):
    """A member of a StrEnum, stored as its value."""

    impl = String
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind
        # Faster than calling the class, which matters for thousands of rows.
        self._members = {member.value: member for member in kind}

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self._members[value]


class Table(SQLModel, registry=registry(metadata=METADATA)):
    """The base class, with metadata apart from other users of SQLModel."""


OUTLIVES_INSTANCE = "outlives_instance"


def content_tables() -> list[sqlalchemy.Table]:
    """Those whose rows belong to an instance and go with it, also of features."""
    return [
        each
        for each in METADATA.sorted_tables
        if "instance_id" in each.c and each.c.instance_id.foreign_keys
        if OUTLIVES_INSTANCE not in each.info
    ]


class OrganizationRow(Table, table=True):
    """An organization, which owns instances and keys."""

    __tablename__: ClassVar[str] = "organization"

    id: str = Field(primary_key=True)
    name: str
    tier: Tier = Field(sa_type=EnumText(Tier))
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    stripe_customer_id: str | None
    stripe_subscription_id: str | None
    reuses_sandboxes: bool = Field(sa_column_kwargs={"server_default": false()})


class ModelKeyRow(Table, table=True):
    """An organization's key for a model provider, encrypted."""

    __tablename__: ClassVar[str] = "model_key"

    organization_id: str = Field(primary_key=True, foreign_key="organization.id")
    provider: ModelProvider = Field(primary_key=True, sa_type=EnumText(ModelProvider))
    ciphertext: bytes


class ApiKeyRow(Table, table=True):
    """An API key; the table has only the SHA-256 of its token."""

    __tablename__: ClassVar[str] = "api_key"
    __table_args__ = (UniqueConstraint("sha256"),)

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organization.id", index=True)
    name: str
    prefix: str
    sha256: str
    is_active: bool
    is_organization_key: bool
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(sa_type=UtcDateTime)


class KeyGrantRow(Table, table=True):
    """The permissions of a scoped key for one instance."""

    __tablename__: ClassVar[str] = "key_grant"

    key_id: str = Field(primary_key=True, foreign_key="api_key.id")
    instance_id: str = Field(primary_key=True, foreign_key="instance.id", index=True)
    permissions: list[str] = Field(sa_type=JSON)


class DashboardSessionRow(Table, table=True):
    """A session of the dashboard; the table has only the SHA-256 of its cookie."""

    __tablename__: ClassVar[str] = "dashboard_session"

    sha256: str = Field(primary_key=True)
    key_id: str = Field(foreign_key="api_key.id")
    expires_at: datetime = Field(sa_type=UtcDateTime)


class InstanceRow(Table, table=True):
    """An instance, kept as `terminated` after its sandbox is gone."""

    __tablename__: ClassVar[str] = "instance"
    __table_args__ = (
        UniqueConstraint("sandbox_id"),
        # Terminated rows accumulate, and lists of the other rows must not read them.
        Index(None, "organization_id", "status"),
        Index(None, "status"),
    )

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organization.id")
    name: str
    status: InstanceStatus = Field(sa_type=EnumText(InstanceStatus))
    model_provider: ModelProvider = Field(sa_type=EnumText(ModelProvider))
    sandbox_id: str
    sandbox_provider: str
    openclaw_version: str
    region: str | None
    error_message: str | None
    gateway_url: str | None
    first_ready_at: datetime | None = Field(sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    egress: Egress | None = Field(sa_type=EnumText(Egress))
    openclaw_config_ciphertext: bytes | None
    origin_snapshot_id: str | None
    may_hibernate: bool = Field(sa_column_kwargs={"server_default": true()})
    clock: dict[str, Any] | None = Field(sa_type=JSON(none_as_null=True))
    switched_off_jobs: list[str] | None = Field(sa_type=JSON(none_as_null=True))


class WarmSandboxRow(Table, table=True):
    """A warm sandbox; the transaction in which an instance claims it deletes the row."""

    __tablename__: ClassVar[str] = "warm_sandbox"

    sandbox_id: str = Field(primary_key=True)
    fingerprint: str
    gateway_url: str | None
    created_at: datetime = Field(sa_type=UtcDateTime)
    organization_id: str | None


class SessionRow(Table, table=True):
    """The name of a session. OpenClaw's session key is derived from it."""

    __tablename__: ClassVar[str] = "session"

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    session_key: str = Field(primary_key=True)
    name: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    last_used_at: datetime = Field(sa_type=UtcDateTime)


class DueJobRow(Table, table=True):
    """The next due time of an agent's scheduled jobs, on the agent's own clock."""

    __tablename__: ClassVar[str] = "due_job"

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    at: datetime = Field(sa_type=UtcDateTime)


class ConversationHistoryRow(Table, table=True):
    """The items of a conversation: a status byte and a digest of 16 bytes for each."""

    __tablename__: ClassVar[str] = "conversation_history"

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    session_key: str = Field(primary_key=True)
    openclaw_session_id: str | None
    items: bytes


class UnsavedTurnRow(Table, table=True):
    """A message and its answer that came after the snapshot from which an agent would recover.

    `items_ciphertext` is null if they are too long to be kept.
    """

    __tablename__: ClassVar[str] = "unsaved_turn"

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    session_key: str = Field(primary_key=True)
    at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    is_lost: bool
    """Whether the agent has come back without it, and has not heard it again yet."""
    items_ciphertext: bytes | None


class IdempotentAnswerRow(Table, table=True):
    """The encrypted answer to a message with an idempotency key."""

    __tablename__: ClassVar[str] = "idempotent_answer"
    __table_args__ = (Index(None, "created_at"), Index(None, "instance_id", "created_at"))

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    session_key: str = Field(primary_key=True)
    key_sha256: str = Field(primary_key=True)
    request_sha256: str
    media_type: str
    body_ciphertext: bytes
    created_at: datetime = Field(sa_type=UtcDateTime)


class EntryRow(Table):
    """An entry of an instance, numbered from 1."""

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    number: int = Field(primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    size_bytes: int
    content_ciphertext: bytes


class UnaskedMessageRow(EntryRow, table=True):
    """What an agent has said without being asked."""

    __tablename__: ClassVar[str] = "unasked_message"


COUNTED = (
    "calls",
    "unmetered_calls",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "long_cache_write_tokens",
    "output_tokens",
)
"""The columns of `usage` with counts."""


class UsageRow(Table, table=True):
    """The model calls of a day, by session and model."""

    __tablename__: ClassVar[str] = "usage"
    __table_args__ = (
        # A covering index for sums: a model and day may have many rows.
        Index("ix_usage_sums", "instance_id", "day", "model", "is_billed", *COUNTED),
        # What was spent stays known.
        {"info": {OUTLIVES_INSTANCE: True}},
    )

    instance_id: str = Field(primary_key=True, foreign_key="instance.id")
    day: date = Field(primary_key=True)
    session_key: str = Field(primary_key=True)
    """Empty if it is unknown, because a primary key may not be null."""
    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    is_billed: bool = Field(primary_key=True)
    calls: int
    unmetered_calls: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    long_cache_write_tokens: int
    output_tokens: int


class SnapshotRow(Table, table=True):
    """A snapshot; its home is a file in the data directory with the id as its name."""

    __tablename__: ClassVar[str] = "snapshot"

    id: str = Field(primary_key=True)
    organization_id: str = Field(foreign_key="organization.id", index=True)
    # No foreign key: a snapshot outlives its instance and may be imported.
    instance_id: str | None
    name: str | None
    model_provider: ModelProvider = Field(sa_type=EnumText(ModelProvider))
    egress: Egress | None = Field(sa_type=EnumText(Egress))
    is_kept: bool
    is_whole: bool
    size_bytes: int
    content_ciphertext: bytes
    created_at: datetime = Field(sa_type=UtcDateTime)


class MetaRow(Table, table=True):
    """A value of the server about itself."""

    __tablename__: ClassVar[str] = "meta"

    name: str = Field(primary_key=True)
    value: str
