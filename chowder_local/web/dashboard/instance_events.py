"""What happens to one instance, for a stream that has to do something about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.events import EventType
from chowder_local.web.state import caller, services

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request

    from chowder_local.domain import InstanceId


async def watch(
    request: Request,
    instance_id: InstanceId,
    kinds: Collection[EventType],
    notice: Callable[[], None],
    after: str | None = None,
) -> None:
    """Calls `notice` for events of these kinds, or if some may be lost, from `after` or now on.

    Those of no instance are everybody's.
    """
    events, is_outrun = services(request).events, True
    wanted = {*kinds, EventType.EVENTS_MISSED}
    while is_outrun:
        with events.follow(caller(request).organization_id, after) as follower:
            async for batch in follower.batches():
                if any(
                    each.instance_id in {None, instance_id} and each.type in wanted
                    for each in batch
                ):
                    notice()
            is_outrun = follower.is_outrun.is_set()
        after = "lost"
