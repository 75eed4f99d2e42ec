"""Sandboxes as Docker containers: what instances ask of an engine, done with the Docker SDK."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from docker.errors import APIError, NotFound

from chowder_local.core.domain import EngineMemory, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import confinement, labels, specs
from chowder_local.engine.connection import hear, open_client
from chowder_local.engine.containers import info_of, info_of_row
from chowder_local.engine.engine_probe import EngineProbe
from chowder_local.engine.error_translation import in_words, needing
from chowder_local.engine.memory import memory_of
from chowder_local.engine.networks import (
    SandboxNetworks,
    ensure_networks,
    leave_networks,
    remake_networks,
)
from chowder_local.engine.owned_resources import OwnedResources
from chowder_local.engine.sandbox_ops import SandboxOps
from chowder_local.engine.self_container import own_container
from chowder_local.engine.signals import was_signalled
from chowder_local.engine.threads import Threads, ensure_awaited
from chowder_local.engine.volume_archives import Result, put_home, read_home, rework_home
from chowder_local.engine.volume_job import VolumeJobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    import docker
    from docker.models.containers import Container
    from docker.models.images import Image

    from chowder_local.core.domain import SandboxSpec
    from chowder_local.engine.connection import EngineAddress

log = logging.getLogger(__name__)

PAUSE_ATTEMPTS = 5
"""Now and then a busy sandbox is not frozen at the first: the kernel does not catch all of it."""

STOP_TIMEOUT_S = 10
"""OpenClaw ends within a second when it is told to."""

NOT_PREPARED = "The engine is not prepared yet; try again in a moment."


class DockerEngine(SandboxOps):
    """One server's view of an engine: it sees and touches only what bears the server's labels."""

    def __init__(
        self,
        client: docker.DockerClient,
        address: EngineAddress,
        threads: Threads,
        store_id: str,
        timeout_s: float,
    ) -> None:
        super().__init__(client, address, threads, OwnedResources(client, store_id), timeout_s)
        self._store_id = store_id
        self._around: specs.Surroundings | None = None
        self._likeness = ""
        self._relay_port: int | None = None
        self.beside = VolumeJobs(client, threads, self._own, self._surroundings, timeout_s)
        """Runs programs on the volumes of sandboxes that are still."""
        self._confined = confinement.Confined(client)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: EngineAddress, store_id: str, *, timeout_s: float, thread_count: int
    ) -> AsyncIterator[Self]:
        """An engine that has answered once. Raises EngineUnavailable."""
        with (
            closing(EngineProbe(partial(hear, address), "engine-hearing")) as hearing,
            Threads(thread_count, "engine", hearing) as threads,
        ):
            # A kept connection for each thread, or the SDK would throw the surplus away.
            client = await threads.run(open_client, address, timeout_s, thread_count)
            with closing(client):
                engine = cls(client, address, threads, store_id, timeout_s)
                try:
                    yield engine
                finally:
                    await engine.leave()

    async def prepare(
        self,
        image: str,
        limits: specs.Limits,
        ca_bundle: bytes | None,
        environment: Mapping[str, str],
    ) -> SandboxNetworks:
        """Checks the image, makes the networks; sandboxes can be booted from then on.

        Raises ImageMissing, EngineUnavailable.
        """

        def call() -> tuple[Image, SandboxNetworks]:
            with in_words("look for the sandbox image"), needing(image):
                found = self._client.images.get(image)
            with in_words("take away what was left behind"):
                self._own.discard_passing()
            with in_words("make the sandbox networks"):
                own = own_container(self._client)
                return found, ensure_networks(self._client, self._store_id, own)

        found, networks = await self._threads.run(call)
        told = found.attrs["Config"]
        command = (*(told.get("Entrypoint") or ()), *(told.get("Cmd") or ()))
        self._around = specs.Surroundings(
            self._store_id, image, networks, limits, ca_bundle, environment, command
        )
        self._likeness = specs.likeness(str(found.id), self._around)
        return networks

    async def leave(self) -> None:
        """Takes the server's own container, if it is in one, out of the sandboxes' networks."""
        if (around := self._around) is None or around.networks.joined_by is None:
            return

        def call() -> None:
            with in_words("leave the sandbox networks"):
                leave_networks(self._client, around.networks)

        try:
            await self._threads.run(call)
        except EngineUnavailable as problem:
            # The next start joins them all the same, and whoever removes the container leaves them.
            log.warning("%s", problem)

    def relay_is_at(self, port: int) -> None:
        """Tells where sandboxes without egress may go; before it is known, none is booted."""
        self._relay_port = port

    @property
    def likeness(self) -> str:
        """Tells apart sandboxes that were made of another image, or otherwise, than one now."""
        return self._likeness

    @property
    def failure_count(self) -> int:
        """How many calls the engine did not do."""
        return self._threads.failure_count

    async def version(self) -> str:
        """The engine's name and version; that it answers at all is the point."""
        return await self._threads.hear()

    async def check_image(self) -> None:
        """Raises ImageMissing if no sandbox could be made any more."""
        if self._around is None:
            raise EngineUnavailable(NOT_PREPARED)
        image = self._around.image

        def call() -> None:
            with in_words("look for the sandbox image"), needing(image):
                self._client.images.get(image)

        await self._threads.run(call)

    async def file_of_image(self, path: str) -> bytes | None:
        """A file of the image that sandboxes are made of; None if it has no such file."""
        if self._around is None:
            raise EngineUnavailable(NOT_PREPARED)
        image = self._around.image

        def call() -> bytes | None:
            with in_words(f"read {path} of the sandbox image"):
                # Never started: an engine shows a file of a container only.
                marks = labels.store_labels(self._store_id)
                with needing(image):
                    container = self._client.containers.create(
                        image, ["true"], network_mode="none", labels=marks
                    )
                try:
                    return specs.only_file(b"".join(container.get_archive(path)[0]))
                except NotFound:
                    return None
                finally:
                    container.remove(force=True, v=True)

        return await self._threads.run(call)

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        """Makes and starts the container, replacing one of that id; its volume, if any, is kept.

        Raises EgressUnavailable, and then nothing has changed.
        """
        if (around := self._around) is None:
            raise EngineUnavailable(NOT_PREPARED)
        options = specs.container_options(spec, around)
        files = specs.files_of(spec, around)

        def call() -> SandboxInfo:
            with in_words(f"boot sandbox {spec.id}"):
                self._own.discard(spec.id)
                # Somebody may have removed them, which takes the relay's addresses with them.
                remake_networks(self._client, self._store_id, around.networks)
                self._own.ensure_volume(spec.id)
                with needing(around.image):
                    container = self._client.containers.create(**options)
                if spec.home is not None:
                    ensure_awaited()
                    put_home(container, spec.home)
                if files:
                    ensure_awaited()
                    container.put_archive(specs.STATE_DIR, specs.archive(files))
                ensure_awaited()
                container.start()
                is_kept = confinement.is_needed(spec.egress, around.networks)
                if is_kept:
                    confinement.confine(
                        self._client, container, around.networks, spec.egress, self._relay_port
                    )
                container.reload()
                if is_kept:
                    self._confined.note(container)
                return info_of(spec.id, container.attrs)

        return await self._threads.run(call)

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        """The sandbox as it is now; MISSING if its container is gone."""

        def call() -> SandboxInfo:
            with in_words(f"inspect sandbox {sandbox_id}"):
                container = self._own.find(sandbox_id)
                if container is None:
                    return SandboxInfo(sandbox_id, SandboxState.MISSING)
                info = info_of(sandbox_id, container.attrs)
                if info.state is SandboxState.EXITED:
                    info = replace(info, is_signalled=was_signalled(self._client, container))
                return self._confined.seen(info, container.attrs)

        return await self._threads.run(call)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """Every sandbox of ours, in one call to the engine and one for each without egress."""

        def call() -> dict[SandboxId, SandboxInfo]:
            with in_words("list the sandboxes"):
                rows = self._client.api.containers(
                    all=True, filters=labels.store_filter(self._store_id)
                )
                self._confined.forget_all_but(rows)
                found = ((info_of_row(row), row) for row in rows)
                told = (self._confined.listed(info, row) for info, row in found if info)
                return {info.id: info for info in told}

        return await self._threads.run(call)

    async def volumes(self) -> set[SandboxId]:
        """The ids of all sandboxes that have a volume, with or without a container."""

        def call() -> set[SandboxId]:
            with in_words("list the volumes"):
                found = self._client.volumes.list(filters=labels.store_filter(self._store_id))
                return {SandboxId(str(volume.name)) for volume in found}

        return await self._threads.run(call)

    async def pause(self, sandbox_id: SandboxId) -> None:
        """Freezes the sandbox's processes; memory and connections stay."""
        await self._act(sandbox_id, "pause", _pause)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        """Lets a paused sandbox go on where it was; one that runs does so anyway."""

        def act(container: Container) -> None:
            if container.status != "running":
                container.unpause()

        await self._act(sandbox_id, "unpause", act)

    async def promote(self, sandbox_id: SandboxId) -> None:
        """Lets a spare have as much of the processor as any sandbox. Raises SandboxMissing."""
        await self._act(
            sandbox_id, "promote", lambda container: container.update(cpu_shares=specs.CPU_SHARES)
        )

    async def release(self, sandbox_id: SandboxId) -> None:
        """Ends a paused sandbox in good order: its memory is free, its volume stays."""

        def act(container: Container) -> None:
            # A frozen process would not even hear that it is to end.
            if container.status == "paused":
                container.unpause()
                ensure_awaited()
            container.stop(timeout=STOP_TIMEOUT_S)

        await self._act(sandbox_id, "release", act)

    async def memory(self) -> EngineMemory:
        """What the machine that sandboxes run on has, and has left."""

        def call() -> EngineMemory:
            with in_words("ask the engine for its memory"):
                return memory_of(self._client)

        return await self._threads.run(call)

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys container and volume; nothing happens if they are gone already."""

        def call() -> None:
            with in_words(f"remove sandbox {sandbox_id}"):
                self._own.discard(sandbox_id)
                self._own.discard_volume(sandbox_id)

        await self._threads.run(call)

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """What `work`, in a thread, makes of an archive of all that is on the volume.

        Names begin with that of the home's folder. Raises SandboxMissing.
        """
        image = self._surroundings().image

        def call() -> Result:
            with in_words(f"copy the home of sandbox {sandbox_id}"), needing(image):
                return read_home(self._own, sandbox_id, image, work)

        return await self._threads.run(call)

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """The same of an archive of a home that a Python program without a network changes."""
        image = self._surroundings().image

        def call() -> Result:
            with in_words("rework a home"), needing(image):
                return rework_home(self._client, self._store_id, image, program, source, work)

        return await self._threads.run(call)

    def _surroundings(self) -> specs.Surroundings:
        if self._around is None:
            raise EngineUnavailable(NOT_PREPARED)
        return self._around

    async def _act(
        self, sandbox_id: SandboxId, verb: str, action: Callable[[Container], None]
    ) -> None:
        def call() -> None:
            with in_words(f"{verb} sandbox {sandbox_id}"):
                container = self._own.found(sandbox_id)
                action(container)

        await self._threads.run(call)


def _pause(container: Container) -> None:
    for _ in range(PAUSE_ATTEMPTS - 1):
        try:
            container.pause()
        except APIError as refused:
            if not refused.is_server_error():
                raise
        else:
            return
    container.pause()
