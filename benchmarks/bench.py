"""The resources of a run: the engine, a folder, and servers, which it removes at its end."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Any

import httpx
from docker.errors import DockerException

from benchmarks import containers
from benchmarks.servers import Server, free_port, server_environment
from benchmarks.waiting import NotMeasured, until
from chowder_local.core.errors import ChowderError
from chowder_local.engine.connection import find_engine, open_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import docker
    from docker.models.containers import Container

ROOT = Path(__file__).parents[1]
ENGINE_TIMEOUT_S = 120.0
LISTEN_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
UNMEASURED = (NotMeasured, ChowderError, httpx.HTTPError, DockerException, SubprocessError)
"""Errors that end a row, but not the run."""
POOL = "WARM_POOL_SIZE"


@dataclass(frozen=True)
class SharedAgent:
    """A server that the rows of a quick run share, and its agent."""

    server: Server
    instance: dict[str, Any]
    settings: Mapping[str, str]

    def fits(self, wanted: Mapping[str, str]) -> bool:
        """Whether the server has these settings and no others, but for a warm pool."""
        is_alike = wanted.items() <= self.settings.items()
        return is_alike and self.settings.keys() - wanted.keys() <= {POOL}


@dataclass
class Bench:
    """One run, with the resources that its rows share."""

    env: Mapping[str, str]
    client: docker.DockerClient
    folder: Path
    run: str
    progress: Callable[[str], None]
    rounds: int | None = None
    kept: ExitStack | None = None
    """Closes what the rows of a quick run share; None in a whole run."""
    _servers: int = field(default=0)
    _agents: list[SharedAgent] = field(default_factory=list)

    def rounds_or(self, usual: int) -> int:
        """The number of rounds that the user chose, or the row's usual one."""
        return self.rounds or usual

    def warm_up_or_none(self, usual: int) -> int:
        """The number of rounds before those that count: a quick run has none that need a boot."""
        return usual if self.kept is None else 0

    @contextmanager
    def agent(self, **settings: str) -> Iterator[tuple[Server, dict[str, Any]]]:
        """A `server` and its agent, which has answered one message.

        In a quick run, those of an earlier row that fit, and the agent has answered more; used
        sandboxes serve again, which spares boots. A row that asks for a warm pool waits for that
        itself.
        """
        if POOL not in settings:
            self.settle()
        if self.kept is None:
            with self.server(settings) as server:
                yield server, self._created(server)
            return
        kept = next((each for each in self._agents if each.fits(settings)), None)
        if kept is None:
            server = self.kept.enter_context(self.server({"REUSE": "on", **settings}))
            kept = SharedAgent(server, self._created(server), settings)
            self._agents.append(kept)
        yield kept.server, kept.instance

    def settle(self) -> None:
        """Waits until no shared server boots a warm sandbox, which would disturb a measurement."""
        for each in self._agents:
            each.server.wait_for_pool(int(each.settings.get(POOL, "0")))

    def _created(self, server: Server) -> dict[str, Any]:
        self.progress("booting an agent")
        instance, _ = server.create()
        server.say(instance, "Hello.")
        return instance

    @contextmanager
    def server(
        self, more: Mapping[str, str] | None = None, *, is_up: bool = True, **settings: str
    ) -> Iterator[Server]:
        """A server with its own data directory; `settings`, and `more` of them, have no prefix.

        By default it has no warm sandboxes, and freezes those that the settings ask for. With an
        `ANTHROPIC_API_KEY` it calls that provider; without one, all models are offline.
        """
        settings = dict(more or {}) | settings
        if POOL not in settings:
            self.settle()
        self._servers += 1
        key = settings.pop("ANTHROPIC_API_KEY", None)
        usual = {POOL: "0", "WARM_POOL_MAX": "0", "LOG_LEVEL": "warning"}
        chosen = {f"CHOWDER_{name}": value for name, value in (usual | settings).items()}
        if key is not None:
            chosen["ANTHROPIC_API_KEY"] = key
        env = server_environment(self.env, chosen)
        data_dir = self.folder / f"server-{self._servers}"
        with Server(data_dir, env, is_offline=key is None) as server:
            if is_up:
                self.progress("starting a server")
                server.up()
            yield server

    def sandbox(self, instance: Mapping[str, str]) -> Container:
        """The container of an instance."""
        return self.client.containers.get(instance["sandbox_id"])

    @contextmanager
    def stand_in_server(self) -> Iterator[Server]:
        """A server that calls the stand-in model, for long answers."""
        with self.python("benchmarks.model_stand_in") as port:
            url = f"http://127.0.0.1:{port}/anthropic"
            with self.server(ANTHROPIC_API_KEY="benchmark", ANTHROPIC_BASE_URL=url) as server:
                yield server

    @contextmanager
    def python(self, module: str, host: str = "127.0.0.1") -> Iterator[int]:
        """Runs a module of the benchmarks as a server process, and yields its port."""
        port = free_port()
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", module, host, str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            until(lambda: listens(host, port), f"{module} listens", LISTEN_TIMEOUT_S)
            yield port
        finally:
            process.terminate()
            process.wait(END_TIMEOUT_S)


@contextmanager
def open_bench(
    env: Mapping[str, str], progress: Callable[[str], None], *, keep_image: bool, is_quick: bool
) -> Iterator[Bench]:
    """Opens a run, and removes everything that it made at the end."""
    with ExitStack() as stack:
        client = open_client(find_engine(env), timeout_s=ENGINE_TIMEOUT_S)
        stack.callback(client.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chowder-bench-"))
        run = containers.run_label()
        if not keep_image:
            stack.callback(containers.remove_images, client)
        stack.callback(containers.remove_all, client, run)
        # The user of stock OpenClaw's container needs access to the folder.
        Path(folder).chmod(0o711)
        kept = stack.enter_context(ExitStack()) if is_quick else None
        yield Bench(env, client, Path(folder), run, progress, kept=kept)


def listens(host: str, port: int) -> bool:
    """Whether the address accepts a connection."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
