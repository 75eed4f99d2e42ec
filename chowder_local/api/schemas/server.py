"""Bodies: what the server says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from chowder_local.core.domain import InstanceStatus


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

    in_progress: int
    queued: int


class PoolHealth(BaseModel):
    """Warm sandboxes: blank agents that wait for an instance."""

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
