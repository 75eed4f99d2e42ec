"""The engine of a node, on which Swarm starts the sandboxes and the server completes them."""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING

from chowder_local.engine import volume_archives
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.swarm.task_containers import TaskContainers

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId, SandboxInfo, SandboxSpec
    from chowder_local.engine import specs
    from chowder_local.engine.networks import SandboxNetworks


class NodeEngine(DockerEngine):
    """One server's view of a node's engine, through the node's worker."""

    resources = TaskContainers

    async def prepare_node(self, defaults: specs.SandboxDefaults, worker: str) -> SandboxNetworks:
        """As `prepare`; `worker` is the id of the container through which sandboxes are reached.

        It stays on their networks when the server leaves.
        """
        return await self._prepare(defaults, lambda: self._networks.ensure(worker))

    async def admit(self, spec: SandboxSpec, container_id: str) -> SandboxInfo:
        """Lets a container begin that Swarm has started, as `boot` does with one that it creates.

        Raises EgressUnavailable as `boot` does.
        """
        template = await self.templates.template(spec.openclaw_version)
        admit = partial(self._starts.admit, spec, template, container_id)
        return await self._run("admit", admit, sandbox_id=spec.id, image=template.image)

    async def discard(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox's container, if it exists; the volume stays."""
        await self._run("remove", partial(self._own.discard, sandbox_id), sandbox_id=sandbox_id)

    async def put_volume(self, sandbox_id: SandboxId, tar: IO[bytes]) -> None:
        """Makes a sandbox's volume of a tar as `read_home` reads it."""
        put = partial(
            volume_archives.put_volume, self._own, sandbox_id, self.templates.own().image, tar
        )
        await self._run("write the home of", put, sandbox_id=sandbox_id)
