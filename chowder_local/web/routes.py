"""The one route table: an index of what the server answers, and what /openapi.json is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.routing import Route

from chowder_local.web import payloads as p
from chowder_local.web.access import Access, guarded
from chowder_local.web.local import instances as local_instances
from chowder_local.web.local import server
from chowder_local.web.v1 import instances, organization, responses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from chowder_local.web.access import Handler

ANYONE, ORG = Access.ANYONE, Access.ORGANIZATION


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answer` is the body's model, a list of one, a media type or None."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | list[type[BaseModel]] | str | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The subject, for grouping in the documentation."""
        return self.path.split("/")[2] if self.path.startswith("/v1/") else "local"


# fmt: off
OPERATIONS: tuple[Operation, ...] = (
    Operation("POST",   "/v1/organization/signup",                      organization.signup,     ANYONE, "Sign up",                 p.Signup,             p.SignupView, 201, (422,)),
    Operation("GET",    "/v1/organization",                             organization.show,       ORG,    "Show the organization",   None,                 p.OrganizationView),
    Operation("PATCH",  "/v1/organization",                             organization.change,     ORG,    "Change the organization", p.OrganizationChange, p.OrganizationView, 200, (422,)),
    Operation("POST",   "/v1/instances",                                instances.create,        ORG,    "Create an instance",      p.InstanceCreation,   p.InstanceView, 201, (400, 402, 422)),
    Operation("GET",    "/v1/instances",                                instances.index,         ORG,    "List instances",          None,                 [p.InstanceView]),
    Operation("GET",    "/v1/instances/{instance_id}",                  instances.show,          ORG,    "Show an instance",        None,                 p.InstanceView, 200, (404,)),
    Operation("PATCH",  "/v1/instances/{instance_id}",                  instances.change,        ORG,    "Change an instance",      p.InstanceChange,     p.InstanceView, 200, (400, 404, 409, 422, 502)),
    Operation("DELETE", "/v1/instances/{instance_id}",                  instances.delete,        ORG,    "Delete an instance",      None,                 None, 204, (404, 502)),
    Operation("GET",    "/v1/instances/{instance_id}/status",           instances.status,        ORG,    "Poll an instance",        None,                 p.InstanceStatusView, 200, (404,)),
    Operation("POST",   "/v1/instances/{instance_id}/stop",             instances.stop,          ORG,    "Stop an instance",        None,                 p.InstanceView, 200, (404, 409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/start",            instances.start,         ORG,    "Start an instance",       None,                 p.InstanceView, 200, (404, 409, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/responses",        responses.respond,       ORG,    "Send a message",          p.Message,            p.ResponseView, 200, (400, 404, 409, 413, 422, 502)),
    Operation("POST",   "/v1/instances/{instance_id}/session/{session_id:path}/responses",
                                                                        responses.respond,       ORG,    "Send a message to a session", p.Message,        p.ResponseView, 200, (400, 404, 409, 413, 422, 502)),
    Operation("GET",    "/local/health",                                server.health,           ANYONE, "How the server is",       None,                 p.HealthView),
    Operation("GET",    "/local/ready",                                 server.ready,            ANYONE, "Whether calls are taken", None,                 p.ReadyView),
    Operation("GET",    "/local/instances/{instance_id}/logs",          local_instances.logs,    ORG,    "Read a sandbox's log",    None,                 "text/plain", 200, (404, 422, 502), ("tail", "follow")),
    Operation("GET",    "/local/instances/{instance_id}/gateway",       local_instances.gateway, ORG,    "Reach a gateway directly", None,                p.GatewayView, 200, (404,)),
)
# fmt: on


def routes(operations: Iterable[Operation] = OPERATIONS) -> list[Route]:
    """Starlette's routes for the table; each is guarded as its row says."""
    return [
        Route(each.path, guarded(each.handler, each.access), methods=[each.method])
        for each in operations
    ]
