"""What happens to an organization or one instance, for a stream that has to act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request

    from chowder_local.core.domain import InstanceId


async def watch(
    request: Request,
    kinds: Collection[EventType],
    notice: Callable[[], None],
    *,
    instance_id: InstanceId | None = None,
    after: str | None = None,
) -> None:
    """Calls `notice` for events of these kinds, or if some may be lost, from `after` or now on.

    With an instance, only its own count, and those of no instance, which are everybody's.
    """
    events, is_outrun = services(request).events, True
    wanted = {*kinds, EventType.EVENTS_MISSED}
    while is_outrun:
        with events.follow(caller(request).organization_id, after) as follower:
            async for batch in follower.batches():
                if any(
                    each.type in wanted
                    and (instance_id is None or each.instance_id in {None, instance_id})
                    for each in batch
                ):
                    notice()
            is_outrun = follower.is_outrun.is_set()
        after = "lost"
