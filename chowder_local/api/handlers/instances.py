"""Handlers: the life of instances, and their settings that only the local server has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.schemas.faults_and_replies import ResetView
from chowder_local.api.schemas.instances import (
    GatewayView,
    InstanceChange,
    InstanceCreation,
    InstanceStatusView,
    InstanceView,
    LocalInstanceChange,
    LocalInstanceView,
    LogQuery,
)
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.middleware import QUEUE_POSITION_HEADER, note
from chowder_local.http.responses import ClosingStream, array
from chowder_local.http.services import caller, instance, instance_of, running, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance


async def create_instance(request: Request) -> InstanceView:
    """Creates an instance, which is provisioned in the background."""
    body = await parse(request, InstanceCreation)
    organization_id = caller(request).organization_id
    created = await services(request).creation.create(organization_id, **body.model_dump())
    return InstanceView.from_instance(created, caller(request))


async def list_instances(request: Request) -> Response:
    """The organization's instances, or those that a scoped key is for; no terminated ones.

    `sandbox_id`, `gateway_url`, `openclaw_config` and `error_message` of an instance that the key
    may not `read` are null.
    """
    by = caller(request)
    instances = services(request).directory.all(by)
    return await array(instances, lambda each: InstanceView.from_instance(each, by))


async def get_instance(request: Request) -> InstanceView:
    """One instance."""
    return InstanceView.from_instance(instance(request), caller(request))


async def get_instance_status(request: Request) -> Response:
    """The instance's status, cheap to poll. A header has its place in the boot queue."""
    polled = instance(request)
    view = InstanceStatusView(id=polled.id, status=polled.status, gateway_url=polled.gateway_url)
    position = services(request).boot_queue.position(polled.id)
    # The position is in a header, because the hosted service defines the body.
    headers = None if position is None else {QUEUE_POSITION_HEADER: str(position)}
    return Response(view.model_dump_json(), headers=headers, media_type="application/json")


async def update_instance(request: Request) -> InstanceView:
    """Renames an instance, or changes its OpenClaw configuration while it runs.

    A scoped key that may not `read` the instance gets the same members as null as in the list.
    """
    body = await parse(request, InstanceChange)
    changed = await services(request).reconfiguration.change(
        caller(request).organization_id,
        request.path_params["instance_id"],
        name=body.name,
        overrides=body.openclaw_config,
    )
    return InstanceView.from_instance(changed.instance, caller(request))


async def stop_instance(request: Request) -> InstanceView:
    """Pauses a running instance, and keeps its files, sessions and memory."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    stopped = await services(request).lifecycle.stop(organization_id, instance_id)
    return InstanceView.from_instance(stopped, caller(request))


async def start_instance(request: Request) -> InstanceView:
    """Starts a stopped instance again, where it was."""
    organization_id = caller(request).organization_id
    instance_id = request.path_params["instance_id"]
    started = await services(request).lifecycle.start(organization_id, instance_id)
    return InstanceView.from_instance(started, caller(request))


async def delete_instance(request: Request) -> None:
    """Terminates an instance, and deletes its sandbox and data."""
    instance_id = request.path_params["instance_id"]
    await services(request).lifecycle.delete(caller(request).organization_id, instance_id)


async def get_instance_settings(request: Request) -> LocalInstanceView:
    """The settings of the instance that only the local server has, and whether it hibernates."""
    return _settings(request, await instance_of(request))


async def set_instance_settings(request: Request) -> LocalInstanceView:
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
    return _settings(request, instance)


async def read_logs(request: Request) -> Response:
    """The log of the instance's sandbox; with `follow`, a stream that goes on."""
    instance = await _living(request)
    query = parse_query(request, LogQuery)
    engine, since = services(request).engine, instance.log_start(query.since)
    if query.follow:
        if instance.status is InstanceStatus.RUNNING:
            instance = await running(request, instance)
        lines = engine.follow_log(instance.sandbox_id, query.tail, since)
        shutdown = services(request).shutdown
        return ClosingStream(lines, shutdown=shutdown, media_type="text/plain")
    text = await engine.log_tail(instance.sandbox_id, query.tail, since)
    return Response(text, media_type="text/plain")


async def get_gateway(request: Request) -> GatewayView:
    """The address and token with which this machine reaches the agent's gateway directly."""
    instance = await _living(request)
    if instance.status is InstanceStatus.RUNNING:
        instance = await running(request, instance)
    token = services(request).secret_box.gateway_token(instance.sandbox_id)
    return GatewayView(gateway_url=instance.gateway_url, token=token)


async def reset_organization(request: Request) -> ResetView:
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


def _settings(request: Request, instance: Instance) -> LocalInstanceView:
    egress_in_force = services(request).egress_rule.effective(instance)
    node = services(request).engine.node_of(instance.sandbox_id)
    return LocalInstanceView.from_instance(instance, egress_in_force, node)
