"""The server for testcontainers: ready when agents can boot, and takes them along when it ends."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from chowder_local.client import Client
from chowder_local.client.abandoned_runs import container_facts, end_abandoned
from chowder_local.core.errors import ChowderError
from chowder_local.core.leases import Lease
from chowder_local.core.settings import Settings
from chowder_local.engine import server_container
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.images import is_there
from chowder_local.engine.server_image import build_server, is_current, server_tag
from chowder_local.engine.store_resources import sweep

try:
    from testcontainers.core.config import ConnectionMode, testcontainers_config
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.exceptions import ContainerStartException
    from testcontainers.core.waiting_utils import WaitStrategy
except ImportError as missing:
    raise ImportError(
        "ChowderLocalContainer needs testcontainers: pip install 'chowder-local[testcontainers]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from testcontainers.core.waiting_utils import WaitStrategyTarget

STARTUP_TIMEOUT_S = 900
"""A first start builds the sandbox image."""

CALL_TIMEOUT_S = 10.0


class AgentsCanBoot(WaitStrategy):
    """Waits until the server says by its published port that it is well, or its container ends.

    Its log may say that it listens while there is no image for its agents.
    """

    def __init__(self) -> None:
        super().__init__()
        self.with_startup_timeout(STARTUP_TIMEOUT_S)
        self.with_poll_interval(0.2)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Raises ContainerStartException with the end of the log, and TimeoutError."""

        def is_well() -> bool:
            container.reload()
            if container.status not in {"created", "running"}:
                raise ContainerStartException(f"The server has ended: {_log_tail(container)}")
            host = container.get_container_host_ip()
            port = container.get_exposed_port(server_container.PORT)
            with Client(f"http://{host}:{port}", timeout_s=CALL_TIMEOUT_S) as client:
                return client.is_ready() and client.health()["status"] == "ok"

        if not self._poll(is_well, [ChowderError]):
            raise TimeoutError(f"No agent can boot: {_log_tail(container)}")


class ChowderLocalContainer(DockerContainer):
    """A server of chowder-local, with the engine's socket, for as long as a test needs it.

    ```python
    with ChowderLocalContainer() as server:
        agent = OpenAI(base_url=f"{server.base_url}/instances/{instance}", api_key=server.key)
    ```

    Without `image` it is this version's own, which is built if it is not there. The agents, which
    are containers beside it, go with it. `env` are settings of the server; its models are the
    offline ones, unless CHOWDER_OFFLINE says otherwise. Other services reach it by the name
    `chowder-local`, or by its aliases in a network that it is given.

    Testcontainers' own reaper (Ryuk) watches over it where its image is there; it is not fetched.
    In any case a run that was killed is cleared up after by the next one, here or by the pytest
    plugin, and by `chowder-local reset --abandoned`.

    Raises ImageBuildFailed, EngineUnavailable, and what testcontainers raises.
    """

    def __init__(
        self, image: str | None = None, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        chosen = {"CHOWDER_OFFLINE": "true", **(env or {})}
        super().__init__(image or server_tag(), env=chosen, **options)
        self._is_ours = image is None
        self._lease: Lease | None = None
        self.with_kwargs(**server_container.RIGHTS)
        self.waiting_for(AgentsCanBoot())

    @property
    def base_url(self) -> str:
        """Where clients find the API, with `/v1`."""
        port = self.get_exposed_port(server_container.PORT)
        return f"http://{self.get_container_host_ip()}:{port}/v1"

    @property
    def key(self) -> str:
        """The key of its default organization, which has any number of instances."""
        path = server_container.KEY_FILE
        key = server_container.read_file(self.get_wrapped_container(), path)
        if key is None:
            raise ContainerStartException(f"The server has no {path}: CHOWDER_KEY_FILE is set.")
        return key

    def client(self) -> Client:
        """All calls of the API as methods, with that key; close it, or use it in a `with`."""
        return Client(self.base_url, self.key)

    def start(self) -> Self:
        """Builds the image if that is not there, starts the server, waits until agents can boot."""
        env = dict(os.environ)
        if self._is_ours:
            settings = Settings.read({})
            if not is_current(settings, env):
                build_server(settings, lambda _: None, env=env)
        address = EngineAddress(self.get_docker_client().client.api.base_url, "testcontainers")
        socket = server_container.engine_socket_path(address, env)
        self.with_volume_mapping(socket, server_container.SOCKET, "rw")
        names = ["chowder-local", *(self._network_aliases or ())]
        # Elsewhere than on the loopback, strangers would reach it as well.
        place: Any = ("127.0.0.1", None)
        if self.get_docker_client().get_connection_mode() is not ConnectionMode.docker_host:
            place = None
        elif (host := self.get_docker_client().host()) not in {"localhost", "127.0.0.1"}:
            names.append(host)
            place = None
        self.ports[str(server_container.PORT)] = place
        self.env.setdefault("CHOWDER_ALLOWED_HOSTS", ",".join(names))
        folder = Settings.read(env).leases_dir
        # What a killed run has left; what cannot be ended is the next one's.
        list(end_abandoned(folder, env))
        if self._name is None:
            self.with_name(f"chowder-tests-{uuid.uuid4().hex[:12]}")
        self._lease = Lease.take(folder, container_facts(str(self._name)))
        with _reaper_if_there(env):
            super().start()
        path = server_container.STORE_FILE
        self._lease.update(
            store_id=server_container.read_file(self.get_wrapped_container(), path) or ""
        )
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:
        """Ends the server and removes every agent that it has made, with all data."""
        store_id, engine = None, self.get_docker_client().client
        if self._container is not None:
            path = server_container.STORE_FILE
            store_id = server_container.read_file(self._container, path)
            self._container.remove(force=force, v=delete_volume)
            self._container = None
        if store_id:
            sweep(engine, store_id)
        super().stop(force, delete_volume)
        if self._lease is not None:
            self._lease.end()
            self._lease = None


@contextmanager
def _reaper_if_there(env: Mapping[str, str]) -> Iterator[None]:
    """Does without Ryuk where it would have to be fetched: there may be no registry to reach."""
    was_disabled = testcontainers_config.ryuk_disabled
    if not is_there(testcontainers_config.ryuk_image, env):
        testcontainers_config.ryuk_disabled = True
    try:
        yield
    finally:
        testcontainers_config.ryuk_disabled = was_disabled


def _log_tail(container: WaitStrategyTarget) -> str:
    lines = b"".join(container.get_logs()).decode(errors="replace").splitlines()
    return "\n".join(lines[-server_container.LOG_LINES :])
