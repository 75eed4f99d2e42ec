"""Handlers: scoped keys; a new one is shown once, in the answer to who made it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.accounts.keys import KeyDraft
from chowder_local.api.schemas.keys import MOST_INSTANCES, KeyCreation
from chowder_local.core.domain import Permission
from chowder_local.dashboard.forms import fields
from chowder_local.dashboard.instance_names import instance_names
from chowder_local.dashboard.services import fragment
from chowder_local.http.audit import note
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import ApiKey

PORTION = 50
NAMED = 4
"""So many of the instances that a key is for are named; others are counted."""


class KeysWanted(BaseModel):
    """From where on the list goes."""

    before: str | None = Field(None, max_length=64)


@dataclass(frozen=True)
class KeyLine:
    """A line of the list."""

    key: ApiKey
    permissions: list[Permission]
    instances: list[str]
    """The names of some of them."""

    @property
    def others(self) -> int:
        """How many more there are."""
        return len(self.key.grants) - len(self.instances)

    @property
    def state(self) -> str:
        """Whether it opens anything, and else why not."""
        if self.key.is_active:
            return "active"
        expires_at = self.key.expires_at
        return (
            "expired" if expires_at is not None and expires_at <= datetime.now(UTC) else "revoked"
        )


async def lines(request: Request) -> tuple[list[KeyLine], str | None]:
    """The newest keys, and the address of more."""
    found = await services(request).keys.latest(
        caller(request).organization_id,
        limit=PORTION + 1,
        before_id=parse_query(request, KeysWanted).before,
    )
    shown = found[:PORTION]
    more = f"/organization?before={shown[-1].id}" if len(found) > PORTION else None
    return await _lines(request, shown), more


async def create(request: Request) -> Response:
    """Makes one, and shows it."""
    sent = await fields(request, max_count=MOST_INSTANCES + 50)
    first = {name: value.strip() for name, value in sent if value.strip()}
    draft = KeyDraft(
        **validated(
            KeyCreation,
            {
                "name": first.get("name"),
                "instance_ids": [
                    *(value for name, value in sent if name == "instance_ids"),
                    *re.findall(r"[^\s,]+", first.get("more_ids", "")),
                ],
                "permissions": [value for name, value in sent if name == "permissions"],
                "expires_at": first.get("expires_at"),
            },
            "body",
        ).model_dump()
    )
    key, raw_key = await services(request).keys.create(caller(request).organization_id, draft)
    note(request, key=key.id)
    (line,) = await _lines(request, [key])
    return fragment(request, "new_key.html", line=line, raw_key=raw_key)


async def ask_revoke(request: Request) -> Response:
    """The question whether it is really to end."""
    return fragment(request, "revoke.html", key=await _key(request))


async def revoke(request: Request) -> Response:
    """Ends it."""
    key = await _key(request)
    await services(request).keys.revoke(key.organization_id, key.id)
    (line,) = await _lines(request, [await _key(request)])
    return fragment(request, "revoked.html", line=line, words=f"{key.name} opens nothing any more.")


async def _key(request: Request) -> ApiKey:
    return await services(request).keys.get(
        caller(request).organization_id, request.path_params["key_id"]
    )


async def _lines(request: Request, keys: Sequence[ApiKey]) -> list[KeyLine]:
    told = [list(islice(each.grants, NAMED)) for each in keys]
    names = await instance_names(request, {each for ids in told for each in ids})
    return [
        KeyLine(
            key=key,
            permissions=[
                each
                for each in Permission
                if any(each in permissions for permissions in key.grants.values())
            ],
            instances=[names[each] for each in ids],
        )
        for key, ids in zip(keys, told, strict=True)
    ]
