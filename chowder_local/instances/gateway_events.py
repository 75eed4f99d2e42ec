"""OpenClaw's events, which the gateways of sandboxes send to the relay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus, SandboxId
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.core.long_values import off_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.instances import InstanceQueries

PATH = "gateway-events"
"""Its segment in the relay's addresses; `docker/sandbox/control.cjs` is the other end."""
MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(eq=False, repr=False)
class GatewayEvents:
    """Passes events to what handles them; `handlers` has that by OpenClaw's name of the event."""

    secret_box: SecretBox
    instances: InstanceQueries
    handlers: dict[str, Callable[[Instance, Any], None]] = field(default_factory=dict)

    def sandbox_of(self, relay_token: str) -> SandboxId:
        """The sandbox that has a token. Raises RelayTokenInvalid."""
        if (sandbox_id := self.secret_box.sandbox_of(relay_token)) is None:
            raise RelayTokenInvalid
        return SandboxId(sandbox_id)

    async def receive(self, sandbox_id: SandboxId, body: bytes) -> None:
        """Takes the events of a sandbox, oldest first; those of a warm sandbox concern nobody.

        Raises ValueError if the body is not a JSON object.
        """
        content = await off_loop(untrusted_json.read_encodable_object, body)
        instance = await self.instances.by_sandbox(sandbox_id)
        if instance is None or instance.status is InstanceStatus.TERMINATED:
            return
        for each in untrusted_json.objects_of(content.get("events")):
            handler = self.handlers.get(untrusted_json.text_of(each.get("event")))
            if handler is not None:
                handler(instance, each.get("payload"))
