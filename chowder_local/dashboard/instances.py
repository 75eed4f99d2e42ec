"""Rows and names of instances in lists, and the actions of their buttons."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from chowder_local.api.schemas.instances import Fork, ImportQuery, InstanceCreation
from chowder_local.api.uploads import steady
from chowder_local.core.domain import Instance, InstanceStatus
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.dashboard.charts import Sparkline, cpu_sparkline, memory_sparkline
from chowder_local.dashboard.pages import (
    dialog,
    form,
    instance_parts,
    notice,
    parse_form,
    part,
    redirect,
)
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, instance_of, services
from chowder_local.instances.snapshots.service import COPYABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.relay.call_log import ModelCall

MACROS = "_overview.html"
CHOICES = 100
"""The number of instances in a list to choose from; a form takes the ids of others."""


@dataclass(frozen=True)
class InstanceListRow:
    """A row of the list; `stage` is 0 while an instance waits for its boot, 1 while it boots."""

    instance: Instance
    stage: int | None
    queue_text: str | None
    memory: Sparkline | None
    cpu: Sparkline | None
    last_call: ModelCall | None
    notes: Sequence[Markup]
    """Of features, beside its status."""

    @property
    def can_fork(self) -> bool:
        return self.instance.status in COPYABLE and self.instance.first_ready_at is not None


class DeletionQuery(BaseModel):
    leaves: bool = False
    """Whether the button is on the instance's own page, which the deletion removes."""


async def build_rows(request: Request, instances: Sequence[Instance]) -> list[InstanceListRow]:
    latest = services(request).call_log.latest()
    calls = {each.id: latest[each.id] for each in instances if each.id in latest}
    await asyncio.to_thread(_parse, calls.values())
    return [_row(request, each, calls.get(each.id)) for each in instances]


def _parse(calls: Iterable[ModelCall]) -> None:
    """Parses each call's body, which takes a millisecond; the call caches the result."""
    for each in calls:
        _ = each.model, each.last_message


def _row(request: Request, instance: Instance, last_call: ModelCall | None) -> InstanceListRow:
    stage, queue_text = _stage(request, instance)
    is_running = instance.status is InstanceStatus.RUNNING
    gauge = services(request).usage_samples.get(instance.id) if is_running else None
    return InstanceListRow(
        instance=instance,
        stage=stage,
        queue_text=queue_text,
        memory=None if gauge is None else memory_sparkline(gauge),
        cpu=None if gauge is None else cpu_sparkline(gauge),
        last_call=last_call,
        notes=instance_parts(request, instance, lambda parts: parts.list_note),
    )


def _stage(request: Request, instance: Instance) -> tuple[int | None, str | None]:
    if instance.status is not InstanceStatus.PROVISIONING:
        return None, None
    if (position := services(request).boot_queue.position(instance.id)) is not None:
        return 0, f"number {position} in the queue"
    # Without a boot in progress, the reconciler begins one as soon as it can.
    is_booting = services(request).provisioner.is_in_progress(instance.id)
    return (1, None) if is_booting else (0, None)


async def find_instance(request: Request, instance_id: str) -> Instance | None:
    """The organization's instance with this id, or None."""
    try:
        return await services(request).directory.get(caller(request).organization_id, instance_id)
    except InstanceNotFound:
        return None


async def instance_names(
    request: Request, ids: Iterable[InstanceId]
) -> dict[InstanceId | None, str]:
    """The name of each instance, or the beginning of its id if it does not exist any more."""
    names: dict[InstanceId | None, str] = {}
    for each in ids:
        instance = await find_instance(request, each)
        names[each] = each[:8] if instance is None else instance.name
    return names


async def instance_choices(request: Request) -> list[Instance]:
    """The organization's newest instances."""
    return await services(request).directory.search(caller(request).organization_id, limit=CHOICES)


async def create(request: Request) -> Response:
    """Creates an instance; the page's stream adds its row."""
    sent = {"name": f"agent-{secrets.token_hex(2)}"} | await form(request)
    fields = validated(InstanceCreation, sent, "body").model_dump()
    instance = await services(request).creation.create(caller(request).organization_id, **fields)
    return await changed(request, f"{instance.name} is being created.")


async def choose_import(request: Request) -> Response:
    return dialog(request, MACROS, "choose_import")


async def import_archive(request: Request) -> Response:
    """Creates an instance from an exported file, which is the request's body."""
    query = parse_query(request, ImportQuery)
    body = steady(request.stream(), services(request).files.idle_timeout_s)
    instance = await services(request).exports.import_archive(
        caller(request).organization_id, body, query.name
    )
    return await changed(request, f"{instance.name} is being created.")


async def stop(request: Request) -> Response:
    stopped = await services(request).lifecycle.stop(*_ids(request))
    return await changed(request, f"{stopped.name} is stopped.", stopped)


async def start(request: Request) -> Response:
    started = await services(request).lifecycle.start(*_ids(request))
    return await changed(request, f"{started.name} is running.", started)


async def propose_fork(request: Request) -> Response:
    return dialog(request, MACROS, "propose_fork", await instance_of(request))


async def fork(request: Request) -> Response:
    instance = await instance_of(request)
    sent = await parse_form(request, Fork)
    forked = await services(request).forks.fork(instance, sent.name)
    return await changed(request, f"{forked.name} is being created from {instance.name}.")


async def confirm_delete(request: Request) -> Response:
    return dialog(request, MACROS, "confirm_delete", await instance_of(request))


async def delete(request: Request) -> Response:
    leaves = parse_query(request, DeletionQuery).leaves
    instance = await instance_of(request)
    await services(request).lifecycle.delete(instance.organization_id, instance.id)
    if leaves:
        return redirect(request, "/")
    return await changed(request, f"{instance.name} is deleted.")


def _ids(request: Request) -> tuple[OrganizationId, str]:
    return caller(request).organization_id, request.path_params["instance_id"]


async def changed(request: Request, text: str, instance: Instance | None = None) -> Response:
    """A notice, with the row of an instance that has changed in the list of all."""
    if instance is None:
        return notice(request, text)
    (row,) = await build_rows(request, [instance])
    return notice(request, text, part(request, MACROS, "instance_row", row, oob=True))
