"""Handlers: what is done to an instance by a click; the answer is its line, and a word about it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from pydantic import BaseModel

from chowder_local.api.schemas.instances import Fork, ImportQuery, InstanceCreation
from chowder_local.api.uploads import steady
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.instance_rows import STAGES, rows
from chowder_local.dashboard.services import fragment, moved
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, instance_of, services
from chowder_local.instances.lifecycle.service import InstanceDraft

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance, OrganizationId


class Leaving(BaseModel):
    """Whether it is deleted from a page of its own, which is then gone."""

    leaves: bool = False


async def create(request: Request) -> Response:
    """A new instance; its line comes by the stream, as that of one which a program has made."""
    sent = {"name": f"agent-{secrets.token_hex(2)}"} | await form(request)
    draft = InstanceDraft(**validated(InstanceCreation, sent, "body").model_dump())
    made = await services(request).lifecycle.create(caller(request).organization_id, draft)
    return await _told(request, f"{made.name} is on its way.")


async def ask_import(request: Request) -> Response:
    """The question which file a new instance is to be made of."""
    return fragment(request, "import.html")


async def take_in(request: Request) -> Response:
    """A new instance of an agent's file, which is the request's body and is read as it comes."""
    query = parse_query(request, ImportQuery)
    known = services(request)
    body = steady(request.stream(), known.files.idle_timeout_s)
    made = await known.exports.take_in(caller(request).organization_id, body, query.name)
    return await _told(request, f"{made.name} is on its way.")


async def stop(request: Request) -> Response:
    """Freezes it."""
    stopped = await services(request).lifecycle.stop(*_named(request))
    return await _told(request, f"{stopped.name} is stopped.", stopped)


async def start(request: Request) -> Response:
    """Lets it go on."""
    started = await services(request).lifecycle.start(*_named(request))
    return await _told(request, f"{started.name} is running.", started)


async def ask_fork(request: Request) -> Response:
    """The question what the copy is to be called."""
    return fragment(request, "fork.html", instance=await instance_of(request))


async def fork(request: Request) -> Response:
    """Makes a copy, which goes its own way."""
    instance = await instance_of(request)
    sent = validated(Fork, await form(request), "body")
    forked = await services(request).forks.fork(instance, sent.name)
    return await _told(request, f"{forked.name} is made of {instance.name}.")


async def ask_delete(request: Request) -> Response:
    """The question whether it is really to go."""
    leaves = parse_query(request, Leaving).leaves
    return fragment(request, "delete.html", instance=await instance_of(request), leaves=leaves)


async def delete(request: Request) -> Response:
    """Destroys it, with all that it knows."""
    leaves = parse_query(request, Leaving).leaves
    instance = await instance_of(request)
    await services(request).lifecycle.delete(instance.organization_id, instance.id)
    if leaves:
        return moved(request, "/")
    return await _told(request, f"{instance.name} is deleted.")


def _named(request: Request) -> tuple[OrganizationId, str]:
    return caller(request).organization_id, request.path_params["instance_id"]


async def _told(request: Request, words: str, instance: Instance | None = None) -> Response:
    changed = [] if instance is None else await rows(request, [instance])
    return fragment(request, "changed.html", words=words, changed=changed, stages=STAGES)
