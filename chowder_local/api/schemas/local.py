"""Bodies: what only the local server tells."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.bounds import Id
from chowder_local.core.domain import Egress, InstanceStatus

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance

LINES_MAX = 100_000


class LogQuery(BaseModel):
    """Which part of a log."""

    tail: int = Field(200, ge=1, le=LINES_MAX, description="So many of the last lines.")
    follow: bool = Field(False, description="Whether to go on with what is printed from now on.")


class LocalInstanceChange(BaseModel):
    """What only the local server lets choose for an instance."""

    egress: Annotated[
        Egress | None,
        Field(
            description="`off`: its sandbox reaches the model relay and nothing outside; "
            "null: as the server's own setting has it.",
            examples=["off"],
        ),
    ]


class LocalInstanceView(BaseModel):
    """What only the local server tells of an instance."""

    id: Id
    name: Annotated[str, Field(examples=["my-first-agent"])]
    status: Annotated[
        InstanceStatus,
        Field(description="`provisioning` while its sandbox is made anew.", examples=["running"]),
    ]
    egress: Annotated[
        Egress | None,
        Field(description="What was chosen for it; null: nothing.", examples=[None]),
    ]
    egress_in_force: Annotated[
        Egress, Field(description="What its sandbox is, or will be, made by.", examples=["on"])
    ]

    @classmethod
    def of(cls, instance: Instance, egress_in_force: Egress) -> Self:
        """The view; the server's own setting is for the caller to know."""
        return cls(
            id=instance.id,
            name=instance.name,
            status=instance.status,
            egress=instance.egress,
            egress_in_force=egress_in_force,
        )


class GatewayView(BaseModel):
    """How this machine reaches an agent's gateway directly."""

    gateway_url: Annotated[str | None, Field(examples=["http://127.0.0.1:32768"])]
    token: Annotated[str, Field(examples=["9f2c4e…"])]


class ReadyView(BaseModel):
    """The server takes calls."""

    ready: bool


class EngineHealth(BaseModel):
    """Whether the container engine answers."""

    reachable: bool
    version: Annotated[str | None, Field(examples=["Docker 28.3"])]
    error: Annotated[
        str | None,
        Field(
            description="Why no agent could boot: it does not answer, or the image is gone.",
            examples=[None],
        ),
    ]


class RelayHealth(BaseModel):
    """Where sandboxes find the model relay."""

    url: Annotated[str, Field(examples=["http://relay.local:2470"])]


class BootsHealth(BaseModel):
    """How many instances are on their way, and how many of them wait for their turn."""

    under_way: int
    queued: int


class PoolHealth(BaseModel):
    """Spares: blank agents that wait for an instance."""

    size: Annotated[int, Field(description="How many are wanted.", examples=[2])]
    ready: Annotated[int, Field(description="How many may be claimed.", examples=[2])]
    error: Annotated[
        str | None, Field(description="Why the last one could not be made.", examples=[None])
    ]


class HealthView(BaseModel):
    """What the server says of itself."""

    status: Literal["ok", "degraded"]
    version: Annotated[str, Field(examples=["1.2.3"])]
    openclaw_version: Annotated[str, Field(examples=["2026.9.6"])]
    image: Annotated[str, Field(description="The sandbox image.", examples=["chowder-sandbox:1"])]
    base_url: Annotated[str, Field(examples=["http://127.0.0.1:2469"])]
    data_dir: Annotated[str, Field(examples=["/home/me/.local/share/chowder-local"])]
    pid: Annotated[int, Field(description="The server's process.", examples=[4242])]
    started_at: datetime
    engine: EngineHealth
    relay: RelayHealth
    places: Annotated[
        int | None,
        Field(description="Agents that the machine has memory for, if known.", examples=[12]),
    ]
    boots: BootsHealth
    pool: PoolHealth
    instances: Annotated[
        dict[InstanceStatus, int],
        Field(description="How many there are in each status.", examples=[{"running": 2}]),
    ]
