"""What OpenClaw is asked for a page comes behind the page: an agent may be busy, or stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.dashboard.services import fragment
from chowder_local.http.services import instance_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

STOP_POLLING = 286
"""To htmx: what comes is put in place, and is not asked for again."""


async def running_of(request: Request) -> Instance:
    """The instance that the path names, if its agent can be asked something now.

    Raises InstanceNotFound, InstanceStateWrong.
    """
    instance = await instance_of(request)
    if instance.status is not InstanceStatus.RUNNING:
        raise InstanceStateWrong(instance.status, InstanceStatus.RUNNING)
    return instance


async def answered(
    request: Request,
    template: str,
    ask: Callable[[Request, Instance], Awaitable[dict[str, Any]]],
    *,
    again: str,
) -> Response:
    """The part of a page that is made of an agent's answer, or why there is none.

    `again` is the address of that part, below the instance's.
    """
    instance = await instance_of(request)
    try:
        await running_of(request)
        return fragment(request, template, it=instance, **await ask(request, instance))
    except ChowderError as problem:
        response = fragment(
            request, "unanswered.html", STOP_POLLING, it=instance, problem=str(problem), again=again
        )
        response.headers["HX-Reswap"] = "innerHTML"
        return response
