"""Bodies: scoped keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, Field

from chowder_local.api.schemas.fields import Id, Name, View
from chowder_local.core.domain import Permission

if TYPE_CHECKING:
    from chowder_local.core.domain import ApiKey

MOST_INSTANCES = 1000


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not within the years 1 to 9999 of UTC") from None


class KeyCreation(BaseModel):
    """A new scoped key: it has each of the permissions for each of the instances."""

    name: Name
    instance_ids: list[Id] = Field(
        min_length=1,
        max_length=MOST_INSTANCES,
        description="The instances that it is for. None may be terminated.",
    )
    permissions: list[Permission] = Field(
        min_length=1,
        max_length=MOST_INSTANCES,
        description="What it may do with them. No permission includes another one.",
        examples=[["read", "interact"]],
    )
    expires_at: Annotated[datetime, AfterValidator(_in_utc)] | None = Field(
        None, description="When it expires; a time without a zone is in UTC."
    )


class KeyView(View):
    """A scoped key; `is_active` is false once it is revoked or expired."""

    id: Id
    organization_id: Id
    name: Annotated[str, Field(examples=["the shop's page"])]
    key_prefix: Annotated[str, Field(validation_alias="prefix", examples=["chd_sk_Xy3k"])]
    is_active: bool
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class IssuedKeyView(KeyView):
    """A new key with its token, which no other answer has."""

    raw_key: Annotated[str, Field(examples=["chd_sk_…"])]

    @classmethod
    def from_key(cls, key: ApiKey, raw_key: str) -> Self:
        return cls(**vars(key), raw_key=raw_key)


class GrantView(BaseModel):
    """What a key may do with one instance."""

    instance_id: Id
    permissions: list[Permission]


class KeyDetailsView(KeyView):
    """A key with its permissions for the instances that are not terminated."""

    instances: list[GrantView]

    @classmethod
    def from_key(cls, key: ApiKey) -> Self:
        instances = [
            GrantView(
                instance_id=instance_id,
                permissions=[each for each in Permission if each in permissions],
            )
            for instance_id, permissions in key.grants.items()
        ]
        return cls(**vars(key), instances=instances)
