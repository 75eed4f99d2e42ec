"""What instances are called, where others are told of them, and the ones to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from chowder_local.core.domain import Instance, InstanceId

CHOICES = 100
"""So many are in a list to choose from; others are named by their ids."""


async def instance_names(
    request: Request, ids: Iterable[InstanceId]
) -> dict[InstanceId | None, str]:
    """The name of each; of one that is gone, the beginning of its id."""
    names: dict[InstanceId | None, str] = {}
    for each in ids:
        try:
            found = await services(request).directory.get(caller(request).organization_id, each)
        except InstanceNotFound:
            names[each] = each[:8]
        else:
            names[each] = found.name
    return names


async def choices(request: Request) -> list[Instance]:
    """The organization's newest instances."""
    return await services(request).directory.search(caller(request).organization_id, limit=CHOICES)
