"""Hydrating a blank sandbox with the home and configuration of its instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.core.tasks import together
from chowder_local.openclaw.shortcuts import STATE_TRANSFER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.instances.configuration.initial_config import InitialConfigs, Origin
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.openclaw.gateway import GatewayOf
    from chowder_local.openclaw.home.state_transfer import StateTransfers
    from chowder_local.openclaw.shortcuts import Allows


class Homes(Protocol):
    """Where the homes of instances are read from; either may still be being copied."""

    async def chunks(self, instance: Instance) -> Iterator[bytes]:
        """The archive of the instance's home."""

    async def origin(self, instance: Instance) -> Origin | None:
        """Its configuration, once the archive is whole."""


@dataclass(eq=False, repr=False)
class Hydration:
    """Transfers a home into a warm sandbox, if the instance has one: its own, or a snapshot's."""

    state_transfers: StateTransfers
    snapshots: Snapshots
    initial_configs: InitialConfigs
    gateway_of: GatewayOf
    allows: Allows

    async def prepare(self, sandbox_id: SandboxId) -> None:
        """Starts the program that receives a state in advance."""
        if await self.allows(STATE_TRANSFER):
            await self.state_transfers.prepare(sandbox_id)

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Ends that program."""
        await self.state_transfers.forget(sandbox_id)

    async def patch(
        self,
        instance: Instance,
        when_booted: Callable[[], Awaitable[str]] | None = None,
        homes: Homes | None = None,
    ) -> dict[str, Any]:
        """Transfers the instance's home; returns the configuration patch that remains to be made.

        `when_booted` returns the gateway's address of a sandbox that still boots. Without `homes`,
        the home is that of the snapshot that the instance is created from. Raises ChowderError.
        """
        if homes is None and instance.origin_snapshot_id is None:
            return self.initial_configs.patch_of_blank(instance, None)
        if not await self.allows(STATE_TRANSFER):
            raise GatewayUnavailable("the state transfer does not fit this OpenClaw")
        homes = homes or self.snapshots
        async with self.state_transfers.open(instance.sandbox_id) as transfer:
            await transfer.unpack(await homes.chunks(instance))
            if when_booted is not None:
                await transfer.check()
                gateway = self.gateway_of(instance.sandbox_id, await when_booted())
                await gateway.open_conversations()
            _, origin = await together(transfer.apply(), homes.origin(instance))
            if homes is not self.snapshots:
                # The former volume is removed next; a snapshot's archive stays for a while.
                await transfer.sync()
        if origin is None:
            raise SandboxMissing("The instance has no snapshot that it could be created from.")
        return self.initial_configs.patch_of_blank(instance, origin)
