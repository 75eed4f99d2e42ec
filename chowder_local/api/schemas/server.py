"""Bodies: health and readiness."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from chowder_local.api.schemas.fields import Id
from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.events import EventType
from chowder_local.relay.prompt_format import TurnKind


class ReadyView(BaseModel):
    """Whether the server takes calls."""

    ready: bool


class ServerEvent(BaseModel):
    """An event of the server; its type says which members it has. See the events reference."""

    type: EventType
    at: datetime
    instance_id: Id | None = None
    status: Annotated[InstanceStatus | int | None, Field(examples=["running"])] = None
    before: InstanceStatus | None = None
    error_message: str | None = None
    outcome: str | None = None
    took_s: float | None = None
    sandbox_id: str | None = None
    # In its place, as some generators have one name for a value, and instances run, too.
    state: (
        Annotated[SandboxState, WithJsonSchema({"type": "string", "enum": [*SandboxState]})] | None
    ) = None
    provider: str | None = None
    code: str | None = None
    fault_id: Id | None = None
    fault: str | None = None
    left: int | None = None
    snapshot_id: Id | None = None
    of_instance_id: Id | None = None
    node: str | None = None
    copied_at: datetime | None = None
    messages: int | None = None
    sessions: list[str] | None = None
    now: datetime | None = None
    until: datetime | None = None
    runs: int | None = None
    number: int | None = None
    kind: TurnKind | None = None
    job: str | None = None
    session_key: str | None = None
    trace_id: str | None = None
    response_id: str | None = None
    text: str | None = None
    tool: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    result: str | None = None
    task_id: str | None = None
    task_kind: str | None = None
    title: str | None = None
    own_session_key: str | None = None
    job_id: str | None = None
    due_at: datetime | None = None
    began_at: datetime | None = None
    run_id: str | None = None
    is_forced: bool | None = None
    method: str | None = None
    path: str | None = None
    channel: str | None = None
    message_id: int | None = None
    author: str | None = None
    message_kind: str | None = None
    model_call_id: str | None = None
    how: str | None = None
    per: Literal["day", "month", "total"] | None = None
    usd: float | None = None
    tokens: int | None = None
    model_calls: int | None = None
    limit: str | None = None
    approval_id: str | None = None
    command: str | None = None
    decision: str | None = None


class EngineHealth(BaseModel):
    """Whether the container engine answers."""

    reachable: bool
    version: Annotated[str | None, Field(examples=["Docker 28.3"])]
    error: Annotated[
        str | None,
        Field(
            description="Why no agent can boot: no answer of the engine, or no image.",
            examples=[None],
        ),
    ]


class RelayHealth(BaseModel):
    """The model relay's address for sandboxes."""

    url: Annotated[str, Field(examples=["http://relay.local:2470"])]


class BootsHealth(BaseModel):
    """How many instances are being provisioned, and how many wait in the boot queue."""

    in_progress: int
    queued: int


class PoolHealth(BaseModel):
    """The pool of warm sandboxes: blank agents that new instances claim."""

    size: Annotated[int, Field(description="The target size.", examples=[2])]
    ready: Annotated[int, Field(description="How many may be claimed.", examples=[2])]
    error: Annotated[
        str | None, Field(description="Why the last one failed to boot.", examples=[None])
    ]


class NodeHealth(BaseModel):
    """A machine of a swarm."""

    name: Annotated[str, Field(examples=["node2"])]
    is_linked: Annotated[bool, Field(description="Whether its worker answers.", examples=[True])]
    is_drained: Annotated[
        bool, Field(description="Whether it gives its agents to others.", examples=[False])
    ]
    sandboxes: Annotated[int, Field(description="How many have their files there.", examples=[7])]
    memory_bytes: Annotated[int, Field(examples=[25_000_000_000])]
    available_bytes: Annotated[int | None, Field(examples=[9_000_000_000])]
    problem: Annotated[
        str | None,
        Field(
            description="Why it is not linked, or how much of the sandbox image it has got.",
            examples=["It gets the sandbox image: about 29%."],
        ),
    ]


class HealthView(BaseModel):
    """The health of the server."""

    status: Literal["ok", "degraded"]
    version: Annotated[str, Field(examples=["1.2.3"])]
    openclaw_version: Annotated[str, Field(examples=["2026.9.6"])]
    image: Annotated[str, Field(description="The sandbox image.", examples=["chowder-sandbox:1"])]
    base_url: Annotated[str, Field(examples=["http://127.0.0.1:2469"])]
    data_dir: Annotated[str, Field(examples=["/home/me/.local/share/chowder-local"])]
    pid: Annotated[int, Field(description="The server's process id.", examples=[4242])]
    started_at: datetime
    features: Annotated[
        list[str],
        Field(
            description="The features that are on, in the order in which they take part.",
            examples=[["breakpoints", "approvals"]],
        ),
    ]
    engine: EngineHealth
    shortcuts_off: Annotated[
        dict[str, str] | None,
        Field(
            description="The uses of OpenClaw's inside that do not fit its release, each with the "
            "reason; the server works without them. Null if that is not known.",
            examples=[{}],
        ),
    ]
    relay: RelayHealth
    places: Annotated[
        int | None,
        Field(description="How many agents the machine has memory for, if known.", examples=[12]),
    ]
    nodes: Annotated[
        list[NodeHealth],
        Field(description="The machines of a swarm; empty for a server on one machine."),
    ]
    boots: BootsHealth
    pool: PoolHealth
    instances: Annotated[
        dict[InstanceStatus, int],
        Field(description="How many have each status.", examples=[{"running": 2}]),
    ]
    hibernated: Annotated[
        int, Field(description="How many of the running ones are not in memory.", examples=[0])
    ]
