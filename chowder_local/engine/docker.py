"""The `Engine` protocol of instances, implemented with the Docker SDK."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

from chowder_local.core.domain import DEFAULT_VERSION, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EngineDiskFull, EngineUnavailable
from chowder_local.engine import container_exec, engine_facts, specs, volume_archives
from chowder_local.engine.connection import ask_version, open_client
from chowder_local.engine.container_exec import DockerProcess, python_command, start_exec
from chowder_local.engine.containers import (
    OwnedResources,
    list_commands,
    parse_container,
    parse_row,
    pause,
    was_signalled,
)
from chowder_local.engine.engine_facts import read_facts, read_memory
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.image_recipe import Templates
from chowder_local.engine.networks import Networks, SandboxNetworks
from chowder_local.engine.sandbox_start import SandboxStarts, networks_under
from chowder_local.engine.self_container import own_container
from chowder_local.engine.threads import EngineProbe, Threads, ensure_awaited
from chowder_local.engine.volume_archives import VolumeJobs

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from datetime import datetime
    from pathlib import Path
    from typing import TypeVar

    import docker
    from docker.models.containers import Container
    from docker.models.images import Image

    from chowder_local.core.domain import EngineMemory, EngineNode, SandboxSpec, SandboxUsage
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.engine_facts import EngineFacts

    Result = TypeVar("Result")

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10
"""OpenClaw ends within a second of the signal."""


class DockerEngine:
    """One server's view of an engine: it sees and changes only what bears the server's labels.

    `instances.engine_protocol.Engine` documents the methods that instances call.
    """

    resources: ClassVar[type[OwnedResources]] = OwnedResources
    """Finds the containers of sandboxes."""

    def __init__(
        self,
        client: docker.DockerClient,
        address: EngineAddress,
        threads: Threads,
        own: OwnedResources,
        timeout_s: float,
    ) -> None:
        self._client = client
        self._address = address
        self._threads = threads
        self._timeout_s = timeout_s
        self._own = own
        self._networks = Networks(client, own.store_id)
        self.templates = Templates(client, threads)
        self._starts = SandboxStarts(client, self._own, self._networks)
        self._checks = self._starts.checks
        self._own_networks: SandboxNetworks | None = None
        self.volume_jobs = VolumeJobs(client, threads, self._own, self.templates.own, timeout_s)
        """Runs programs on the volumes of paused and exited sandboxes."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: EngineAddress,
        store_id: str,
        *,
        timeout_s: float,
        thread_count: int,
    ) -> AsyncIterator[Self]:
        """An engine that has answered once. Raises EngineSilent if it does not answer."""
        with (
            closing(EngineProbe(partial(ask_version, address), "engine-probe")) as probe,
            Threads(thread_count, "engine", probe) as threads,
        ):
            # One connection for each thread, or the SDK would discard the surplus.
            client = await threads.run(open_client, address, timeout_s, thread_count)
            with closing(client):
                own = cls.resources(client, store_id)
                engine = cls(client, address, threads, own, timeout_s)
                try:
                    yield engine
                finally:
                    await engine.leave()
                    # Calls to an engine that has just gone last until their timeouts.
                    await asyncio.to_thread(threads.close)
                    await asyncio.to_thread(probe.close)

    async def prepare(self, defaults: specs.SandboxDefaults) -> SandboxNetworks:
        """Checks the image and creates the networks; from then on, sandboxes can be booted.

        Raises ImageMissing if the engine lacks the image, and EngineUnavailable if a call fails.
        """
        self._own_networks = await self._prepare(
            defaults, lambda: self._networks.ensure(own_container(self._client))
        )
        return self._own_networks

    async def prepare_images(
        self, defaults: specs.SandboxDefaults, networks: SandboxNetworks
    ) -> None:
        """As `prepare`, where other engines run the sandboxes: this one has their images only."""
        await self._prepare(defaults, lambda: networks)

    async def _prepare(
        self, defaults: specs.SandboxDefaults, networks_of: Callable[[], SandboxNetworks]
    ) -> SandboxNetworks:
        image = defaults.image

        def call() -> tuple[Image, SandboxNetworks]:
            with translated_errors("look up the sandbox image", image=image):
                sandbox_image = self._client.images.get(image)
            with translated_errors("remove containers of an earlier run"):
                self._own.discard_temporary_containers()
            with translated_errors("create the sandbox networks"):
                networks = networks_of()
            if (runtime := defaults.runtime) is not None:
                with translated_errors(f"run a sandbox under the runtime {runtime}"):
                    networks = networks_under(runtime, self._own, image, networks)
            return sandbox_image, networks

        sandbox_image, networks = await self._threads.run(call)
        template = specs.template_of(
            defaults, self._own.store_id, networks, sandbox_image.attrs["Config"]
        )
        self.templates.prepare(template, str(sandbox_image.id), defaults.image_of)
        return networks

    async def leave(self) -> None:
        """Leaves the sandboxes' networks, and removes those that no container is on."""
        if self._own_networks is None:
            return
        try:
            leave = partial(self._networks.leave, self._own_networks)
            await self._run("leave the sandbox networks", leave)
        except EngineUnavailable as failure:
            # The next start takes them again; removing the server's container disconnects it, too.
            log.warning("%s", failure)

    async def open_relay(self, port: int) -> None:
        """Sets the only port that sandboxes without egress may call; they boot only after this."""
        self._starts.relay_port = port

    @property
    def fingerprint(self) -> str:
        """A digest of the image and the options that new sandboxes are created with."""
        return self.templates.fingerprint

    @property
    def failure_count(self) -> int:
        return self._threads.failure_count

    async def version(self) -> str:
        return await self._threads.probe()

    async def check_image(self, version: str = DEFAULT_VERSION) -> None:
        image = await self.templates.image(version)
        get = partial(self._client.images.get, image)
        await self._run("look up the sandbox image", get, image=image)

    async def file_of_image(self, path: str, version: str = DEFAULT_VERSION) -> bytes | None:
        image = await self.templates.image(version)
        read = partial(volume_archives.read_image_file, self._own, image, path)
        return await self._run(f"read {path} of the sandbox image", read, image=image)

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        """Creates and starts the container in place of one of that id; an existing volume is kept.

        Raises EgressUnavailable, before any change, if `spec` wants an isolated network in vain.
        """
        template = await self.templates.template(spec.openclaw_version)
        boot = partial(self._starts.boot, spec, template)
        return await self._run(f"boot sandbox {spec.id}", boot, image=template.image)

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        def call() -> SandboxInfo:
            container = self._own.find(sandbox_id)
            if container is None:
                return SandboxInfo(sandbox_id, SandboxState.MISSING)
            info = parse_container(sandbox_id, container.attrs)
            if info.state is SandboxState.EXITED:
                info = replace(info, is_signalled=was_signalled(self._client, container))
            return self._checks.check(info, container.attrs)

        return await self._run("inspect", call, sandbox_id=sandbox_id)

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """Every sandbox of this server; one call, and one for each that needs firewall rules."""

        def call() -> dict[SandboxId, SandboxInfo]:
            rows = self._own.container_rows()
            self._checks.forget_all_but(rows)
            parsed = ((parse_row(row), row) for row in rows)
            infos = (self._checks.check_row(info, row) for info, row in parsed if info)
            return {info.id: info for info in infos}

        return await self._run("list the sandboxes", call)

    async def volumes(self) -> set[SandboxId]:
        return await self._run("list the volumes", self._own.volume_ids)

    async def pause(self, sandbox_id: SandboxId) -> None:
        await self._act(sandbox_id, "pause", pause)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        def act(container: Container) -> None:
            if container.status != "running":
                container.unpause()

        await self._act(sandbox_id, "unpause", act)

    async def promote(self, sandbox_id: SandboxId) -> None:
        await self._act(
            sandbox_id,
            "promote",
            lambda container: container.update(cpu_shares=specs.CPU_SHARES),
        )

    async def release(self, sandbox_id: SandboxId) -> None:
        def act(container: Container) -> None:
            # A frozen process does not get the signal.
            if container.status == "paused":
                container.unpause()
                ensure_awaited()
            container.stop(timeout=STOP_TIMEOUT_S)

        await self._act(sandbox_id, "release", act)

    async def remove(self, sandbox_id: SandboxId) -> None:
        def call() -> None:
            self._own.discard(sandbox_id)
            self._own.discard_volume(sandbox_id)

        await self._run("remove", call, sandbox_id=sandbox_id)

    async def memory(self) -> EngineMemory:
        return await self._run("report its memory", partial(read_memory, self._client))

    def nodes(self) -> list[EngineNode]:
        return []

    def node_of(self, sandbox_id: SandboxId) -> str | None:
        return None

    async def facts(self, address: EngineAddress) -> EngineFacts:
        """The engine's version and limits; `address` is where it is."""
        return await self._run("report its state", partial(read_facts, self._client, address))

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        read = partial(engine_facts.read_usage, self._client, self._own, sandbox_ids)
        return await self._run("report the usage of sandboxes", read)

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        measure = partial(engine_facts.disk_bytes, self._client, limit=limit)
        return await self._act(sandbox_id, "measure the disk usage of", measure)

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        # Not inside the sandbox, which may have ended for the lack of space.
        command = [*python_command("free.py"), specs.HOME]
        try:
            async with self.volume_jobs.process(sandbox_id, command) as process:
                output = (await process.read()).decode() or process.stderr_tail
        except EngineDiskFull:
            return 0
        return engine_facts.parse_measure(sandbox_id, output)

    async def processes(self, sandbox_id: SandboxId) -> list[str]:
        return await self._act(sandbox_id, "list the processes of", list_commands)

    async def log_tail(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> str:
        since_s = container_exec.since_s(since)

        def call() -> str:
            container = self._own.find(sandbox_id)
            if container is None:
                return ""
            return container.logs(tail=line_count, since=since_s).decode(errors="replace")

        return await self._run("read the log of", call, sandbox_id=sandbox_id)

    async def follow_log(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> AsyncIterator[bytes]:
        """Yields the last lines and then new ones, until the sandbox ends or the caller closes it.

        The first chunk is empty, and comes once the log is open. Raises SandboxMissing.
        """
        container_id = await self._act(
            sandbox_id, "follow the log of", lambda container: str(container.id)
        )
        # Followers use no threads, because a few dozen of them, which wait for hours, would take
        # all.
        lines = container_exec.follow(
            self._address, container_id, line_count, since, self._timeout_s
        )
        async with aclosing(lines):
            async for chunk in lines:
                yield chunk

    async def unpack(self, sandbox_id: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        """Unpacks a tar in a folder of the sandbox, with root's rights. Raises SandboxMissing."""
        await self._act(
            sandbox_id,
            "put files into",
            lambda container: container.put_archive(folder, archive),
        )

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program in the sandbox as the agent's user; see `Processes` for its rules."""
        # A cancelled caller gets no connection, so the stack closes it.
        with ExitStack() as stack:
            start = partial(start_exec, self._client, command=command, stack=stack)
            connection = await self._act(sandbox_id, "run a program in", start)
            yield DockerProcess(connection, self._timeout_s)

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """The result of `work`, which reads a tar of the sandbox's home in a thread.

        Its names begin with the home's folder. Raises SandboxMissing if the volume is gone.
        """
        own = self.templates.own()
        read = partial(volume_archives.read_home, self._own, sandbox_id, own.image, work)
        return await self._run("copy the home of", read, sandbox_id=sandbox_id)

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """As `read_home`, of the home in `source` after a program without a network changed it."""
        image = self.templates.own().image
        rework = partial(volume_archives.rework_home, self._own, image, program, source, work)
        return await self._run("rewrite a home", rework)

    async def examine_home(
        self, program: str, source: Path, files: Mapping[str, bytes], version: str
    ) -> bytes:
        image = await self.templates.image(version)
        tar = specs.tar_of_files(files)
        call = partial(volume_archives.examine_home, self._own, image, program, source, tar)
        return await self._run("examine a home", call, image=image)

    async def _act(
        self, sandbox_id: SandboxId, verb: str, action: Callable[[Container], Result]
    ) -> Result:
        def call() -> Result:
            return action(self._own.get(sandbox_id))

        return await self._run(verb, call, sandbox_id=sandbox_id)

    async def _run(
        self,
        doing: str,
        call: Callable[[], Result],
        *,
        sandbox_id: SandboxId | None = None,
        image: str | None = None,
    ) -> Result:
        """Runs a call in a thread; `doing` is a verb phrase for errors, before the sandbox's id."""
        image = image or self.templates.own_image()

        def translated() -> Result:
            with translated_errors(doing, sandbox_id=sandbox_id, image=image):
                return call()

        return await self._threads.run(translated)
