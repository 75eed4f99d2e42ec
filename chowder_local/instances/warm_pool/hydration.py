"""Hydrating a blank sandbox with the home and configuration of its instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.core.tasks import together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.instances.configuration.initial_config import InitialConfigs
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.openclaw.gateway import GatewayOf
    from chowder_local.openclaw.home.state_transfer import StateTransfers


class Hydration:
    """Transfers a snapshot's state into a warm sandbox, if the instance has an origin."""

    def __init__(
        self,
        state_transfers: StateTransfers,
        snapshots: Snapshots,
        initial_configs: InitialConfigs,
        gateway_of: GatewayOf,
    ) -> None:
        self._state_transfers = state_transfers
        self._snapshots = snapshots
        self._initial_configs = initial_configs
        self._gateway_of = gateway_of

    async def prepare(self, sandbox_id: SandboxId) -> None:
        """Starts the program that receives a state in advance."""
        await self._state_transfers.prepare(sandbox_id)

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Ends that program."""
        await self._state_transfers.forget(sandbox_id)

    async def patch(
        self, instance: Instance, when_booted: Callable[[], Awaitable[str]] | None = None
    ) -> dict[str, Any]:
        """Transfers the instance's home; returns the configuration patch that remains to be made.

        `when_booted` returns the gateway's address of a sandbox that still boots. The snapshot may
        still be being copied. Raises ChowderError.
        """
        if instance.origin_snapshot_id is None:
            return self._initial_configs.patch_of_blank(instance, None)
        async with self._state_transfers.open(instance.sandbox_id) as transfer:
            await transfer.unpack(await self._snapshots.chunks(instance))
            if when_booted is not None:
                await transfer.check()
                gateway = self._gateway_of(instance.sandbox_id, await when_booted())
                await gateway.open_conversations()
            _, origin = await together(transfer.apply(), self._snapshots.origin(instance))
        if origin is None:
            raise SandboxMissing("The instance has no snapshot that it could be created from.")
        return self._initial_configs.patch_of_blank(instance, origin)
