"""The nodes of a swarm that the server is linked to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable
from chowder_local.core.tasks import contained, every
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.swarm.image_copies import copy_missing_image
from chowder_local.engine.swarm.members import add_label, read_members
from chowder_local.engine.swarm.node_link import beat, rest
from chowder_local.engine.swarm.services import image_label
from chowder_local.engine.swarm.worker import Word

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.swarm.members import Member, WorkerPlace
    from chowder_local.engine.swarm.node_link import Links, Node, NodeNeeds
    from chowder_local.engine.threads import Threads

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0
FIRST_NODE_TIMEOUT_S = 120.0
ALL_NODES_TIMEOUT_S = 15.0
"""At the start: a node takes longer only if it lacks the sandbox image."""
REPLACEMENT_S = 10.0
RELINK_TIMEOUT_S = 30.0
"""Swarm gives a node another worker at an update, and when it is back after it was cut off."""


@dataclass
class Nodes:
    """Keeps a link to each node that has a worker."""

    client: docker.DockerClient
    threads: Threads
    links: Links
    members: list[Member] = field(default_factory=list)
    linked: dict[str, Node] = field(default_factory=dict)
    """Nodes by their ids."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why others are not linked, or how much of the sandbox image they have."""
    _lost_s: dict[str, float] = field(default_factory=dict)
    """When links were lost that are not there again."""
    _tasks: dict[str, tuple[WorkerPlace, asyncio.Task[None]]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, needs: NodeNeeds) -> None:
        """Looks for nodes at intervals, until cancelled."""
        look = partial(self.look, needs)
        try:
            with contained("looking for nodes"):
                await look()
            await every(LOOK_INTERVAL_S, "looking for nodes", look)
        finally:
            await asyncio.gather(*map(self._end, list(self._tasks)))

    async def look(self, needs: NodeNeeds) -> None:
        """Links the nodes whose workers are new, and ends the links of those that are gone."""
        self.members = await self.threads.run(self._read_members)
        wanted = {each.id: (each, each.worker) for each in self.members if each.worker}
        for node_id in wanted.keys() & self.linked.keys():
            self.linked[node_id].member, _ = wanted[node_id]
        for node_id, (place, task) in list(self._tasks.items()):
            _, now = wanted.get(node_id, (None, None))
            if task.done() or now != place:
                await self._end(node_id)
        for node_id in wanted.keys() - self._tasks.keys():
            member, place = wanted[node_id]
            work = self._keep(member, place, needs)
            self._tasks[node_id] = place, asyncio.get_running_loop().create_task(work)

    def get(self, node_id: str) -> Node:
        """A node. Raises NodeUnreachable if it is not linked."""
        if (node := self.linked.get(node_id)) is None:
            raise NodeUnreachable(self.name(node_id))
        return node

    async def get_soon(self, node_id: str) -> Node:
        """A node, whose worker may just be replaced. Raises NodeUnreachable if it stays away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELINK_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: node_id in self.linked)
        return self.get(node_id)

    def has_link(self, worker_address: str) -> bool:
        """Whether a node is linked whose worker is there."""
        return any(node.place.address == worker_address for node in self.linked.values())

    def name(self, node_id: str) -> str:
        """The name of a node, or its id once it has left the swarm."""
        return next((each.hostname for each in self.members if each.id == node_id), node_id)

    async def wait_for_one(self) -> None:
        """Waits until any node is linked. Raises EngineUnavailable if none is in time."""
        try:
            async with asyncio.timeout(FIRST_NODE_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: self.linked)
        except TimeoutError:
            raise EngineUnavailable(
                "No node of the swarm has a worker that answers: see "
                f"'docker service ps {self.links.stack.worker_service}'."
            ) from None

    async def wait_for_all(self) -> None:
        """Waits until all nodes that have a worker are linked, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALL_NODES_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: self.members and not self.missing)

    @property
    def missing(self) -> list[Member]:
        """Nodes that are up and have a worker, but are not linked yet."""
        return [
            each
            for each in self.members
            if each.is_up and each.worker is not None and each.id not in self.linked
        ]

    @property
    def away(self) -> list[str]:
        """The ids of nodes whose links are lost, and not because their workers are replaced."""
        latest_s = time.monotonic() - REPLACEMENT_S
        return [node_id for node_id, lost_s in self._lost_s.items() if lost_s <= latest_s]

    def _read_members(self) -> list[Member]:
        stack = self.links.stack
        with translated_errors("list the nodes of the swarm"):
            return read_members(self.client, stack.worker_service, stack.network)

    async def bring_image(self, tag: str, source: EngineAddress) -> None:
        """Gives all nodes another OpenClaw release's image. Raises EngineUnavailable."""
        for node in list(self.linked.values()):
            dialled = partial(self.links.dial, node.place)
            await copy_missing_image(tag, source, node.address, dialled, log.debug)
            await self.threads.run(self._label, node.member.id, tag)

    def _label(self, node_id: str, tag: str) -> None:
        """Lets Swarm place sandboxes on a node that has their image."""
        with translated_errors("label a node"):
            image_id = str(self.client.images.get(tag).id)
            add_label(self.client, node_id, image_label(image_id), "there")

    async def _end(self, node_id: str) -> None:
        _, task = self._tasks.pop(node_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, member: Member, place: WorkerPlace, needs: NodeNeeds) -> None:
        """Keeps one link until it breaks."""
        with contained(f"node {member.hostname}"), self._noted(member):
            progress = partial(self.problems.__setitem__, member.id)
            async with self.links.linked(member, place, needs, progress) as (node, watch):
                await self.threads.run(self._label, member.id, needs.defaults.image)
                await self._set(member, node)
                try:
                    while True:
                        await rest(watch)
                        await beat(node, watch, await _word(node))
                finally:
                    await self._set(member, None)

    @contextlib.contextmanager
    def _noted(self, member: Member) -> Iterator[None]:
        """Logs why a node cannot be linked, once: it is tried every few seconds."""
        try:
            yield
        except ChowderError as failure:
            if self.problems.get(member.id) != str(failure):
                log.warning("node %s: %s", member.hostname, failure)
            self.problems[member.id] = str(failure)
        except asyncio.CancelledError:
            # Nor is an image on its way then.
            self.problems.pop(member.id, None)
            raise

    async def _set(self, member: Member, node: Node | None) -> None:
        if node is None:
            self.linked.pop(member.id, None)
            self._lost_s[member.id] = time.monotonic()
            log.warning("node %s is lost", member.hostname)
        else:
            self.linked[member.id] = node
            self._lost_s.pop(member.id, None)
            self.problems.pop(member.id, None)
            log.info("node %s is linked", member.hostname)
        async with self._changed:
            self._changed.notify_all()


async def _word(node: Node) -> Word:
    """What a worker has to know of its node."""
    if not node.member.is_drained:
        return Word.SERVE
    return Word.STAY if await node.engine.volumes() else Word.LEAVE
