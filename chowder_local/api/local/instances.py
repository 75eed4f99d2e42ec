"""Handlers: operations on instances that only the local server has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.faults import ResetView
from chowder_local.api.schemas.instances import (
    GatewayView,
    LocalInstanceChange,
    LocalInstanceView,
    LogQuery,
)
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.middleware import note
from chowder_local.http.responses import ClosingStream
from chowder_local.http.services import caller, instance_of, running, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance


async def show(request: Request) -> LocalInstanceView:
    """The settings of the instance that only the local server has, and whether it hibernates."""
    return _view(request, await instance_of(request))


async def change(request: Request) -> LocalInstanceView:
    """Sets whether the sandbox reaches the outside, and whether the instance may hibernate.

    An instance that may no longer hibernate is brought back into memory.
    """
    instance = await instance_of(request)
    body = await parse(request, LocalInstanceChange)
    if "egress" in body.model_fields_set:
        note(request, egress=body.egress or "default")
        instance = await services(request).lifecycle.change_egress(instance, body.egress)
    if body.hibernate is not None:
        note(request, hibernate=str(body.hibernate).lower())
        instance = await services(request).lifecycle.allow_hibernation(instance, body.hibernate)
    return _view(request, instance)


async def logs(request: Request) -> Response:
    """The log of the instance's sandbox; with `follow`, a stream that goes on."""
    instance = await _living(request)
    query = parse_query(request, LogQuery)
    engine = services(request).engine
    if query.follow:
        if instance.status is InstanceStatus.RUNNING:
            instance = await running(request, instance)
        lines = engine.follow_log(instance.sandbox_id, query.tail, query.since)
        shutdown = services(request).shutdown
        return ClosingStream(lines, shutdown=shutdown, media_type="text/plain")
    text = await engine.log_tail(instance.sandbox_id, query.tail, query.since)
    return Response(text, media_type="text/plain")


async def gateway(request: Request) -> GatewayView:
    """The address and token with which this machine reaches the agent's gateway directly."""
    instance = await _living(request)
    if instance.status is InstanceStatus.RUNNING:
        instance = await running(request, instance)
    token = services(request).box.gateway_token(instance.sandbox_id)
    return GatewayView(gateway_url=instance.gateway_url, token=token)


async def reset(request: Request) -> ResetView:
    """Removes the organization's instances, snapshots, scoped keys, faults and scripted replies.

    The organization, its own key, its model keys and its tier stay. Other organizations are not
    affected. The answer comes when all is removed.
    """
    removed = await services(request).organization_reset.reset(caller(request).organization_id)
    return ResetView(**vars(removed))


async def _living(request: Request) -> Instance:
    """The path's instance. Raises InstanceNotFound, and InstanceStateWrong if it is terminated."""
    instance = await instance_of(request)
    if instance.status is InstanceStatus.TERMINATED:
        raise InstanceStateWrong(instance.status, "alive")
    return instance


def _view(request: Request, instance: Instance) -> LocalInstanceView:
    egress_in_force = services(request).egress_rule.effective(instance)
    node = services(request).engine.node_of(instance.sandbox_id)
    return LocalInstanceView.from_instance(instance, egress_in_force, node)
