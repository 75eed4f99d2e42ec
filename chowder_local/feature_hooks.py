"""Where features take part in what the kernel does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.routing import BaseRoute

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.relay.holds import BeforeModelCall
    from chowder_local.relay.metering import Reserve

    Asked = Callable[[InstanceId], bool]


@dataclass(frozen=True, eq=False)
class FeatureHooks:
    """A list for each place. A feature adds to it when it is opened; the kernel calls in order."""

    before_model_call: list[BeforeModelCall] = field(default_factory=list)
    """The first that holds a call decides how it goes on."""
    reserve: list[Reserve] = field(default_factory=list)
    """Each keeps what a call may take before it is sent, or refuses it."""
    relay_routes: list[BaseRoute] = field(default_factory=list)
    """What agents call besides models, on the relay's sockets."""
    offline_fields: list[Callable[[Instance, str], Mapping[str, Any]]] = field(default_factory=list)
    """Connects a channel of an agent without its messenger; the first does so."""
    on_start: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Begins work for agents, once the store and the engine agree."""
    may_hold: list[Asked] = field(default_factory=list)
    """Whether an agent's model calls may be held, so that streams of its answers show it."""
    standing_work: list[Asked] = field(default_factory=list)
    """Whether there is something for which an agent must stay in memory."""
    on_instance_gone: list[Callable[[InstanceId], None]] = field(default_factory=list)
    """Drops what is in memory of an instance that is deleted."""
