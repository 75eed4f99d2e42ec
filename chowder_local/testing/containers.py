"""A testcontainers class for the server, which removes its agents when it stops."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from chowder_local.client import Client
from chowder_local.client.abandoned_runs import container_facts, end_abandoned
from chowder_local.core.data_dir import Lease
from chowder_local.core.errors import ChowderError
from chowder_local.core.settings import Settings
from chowder_local.engine import server_container
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.images import is_there
from chowder_local.engine.server_container import build_server, is_current, server_tag
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
"""A first start builds the sandbox image in this time."""

CALL_TIMEOUT_S = 10.0


class AgentsCanBoot(WaitStrategy):
    """Waits until the server is healthy, by a call of its published port.

    Its log does not tell: the server listens before the image of its agents is built.
    """

    def __init__(self) -> None:
        super().__init__()
        self.with_startup_timeout(STARTUP_TIMEOUT_S)
        self.with_poll_interval(0.2)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Raises ContainerStartException if the container ends, and TimeoutError if it is late."""

        def is_healthy() -> bool:
            container.reload()
            if container.status not in {"created", "running"}:
                raise ContainerStartException(
                    f"The server has ended. The end of its log:\n{_log_tail(container)}"
                )
            host = container.get_container_host_ip()
            port = container.get_exposed_port(server_container.PORT)
            with Client(f"http://{host}:{port}", timeout_s=CALL_TIMEOUT_S) as client:
                return client.is_ready() and client.health()["status"] == "ok"

        if not self._poll(is_healthy, [ChowderError]):
            raise TimeoutError(
                f"No agent can boot. The end of the server's log:\n{_log_tail(container)}"
            )


class ChowderLocalContainer(DockerContainer):
    """A chowder-local server in a container that has the engine's socket.

    ```python
    with ChowderLocalContainer() as server:
        agent = OpenAI(base_url=f"{server.base_url}/instances/{instance}", api_key=server.key)
    ```

    `image` is this version's server image by default; it is built if it is missing. Agents are
    containers beside the server, and are removed with it. `env` has settings of the server. Models
    are offline unless CHOWDER_OFFLINE is `false` in it. Other containers reach the server by the
    name `chowder-local`, or by its aliases in a network.

    Testcontainers' reaper (Ryuk) is used if its image is on the engine; it is not pulled. The next
    run, the pytest plugin and `chowder-local reset --abandoned` remove what a killed run left.

    Raises ImageBuildFailed if the image cannot be built, EngineUnavailable if the engine does not
    answer, and the errors of testcontainers.
    """

    def __init__(
        self, image: str | None = None, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        settings = {"CHOWDER_OFFLINE": "true", **(env or {})}
        super().__init__(image or server_tag(), env=settings, **options)
        self._is_ours = image is None
        self._lease: Lease | None = None
        self.with_kwargs(**server_container.RIGHTS)
        self.waiting_for(AgentsCanBoot())

    @property
    def base_url(self) -> str:
        """The URL of the API, with `/v1`."""
        port = self.get_exposed_port(server_container.PORT)
        return f"http://{self.get_container_host_ip()}:{port}/v1"

    @property
    def key(self) -> str:
        """The key of the default organization, which may have any number of instances."""
        path = server_container.KEY_FILE
        key = server_container.read_file(self.get_wrapped_container(), path)
        if key is None:
            raise ContainerStartException(
                f"The server has no {path}, because CHOWDER_KEY_FILE is set. Unset it."
            )
        return key

    def client(self) -> Client:
        """A client with `key`; close it, or use it as a context manager."""
        return Client(self.base_url, self.key)

    def start(self) -> Self:
        """Builds the image if it is missing, starts the server, and waits until agents can boot."""
        env = dict(os.environ)
        if self._is_ours:
            settings = Settings.read({})
            if not is_current(settings, env):
                build_server(settings, lambda _: None, env=env)
        address = EngineAddress(self.get_docker_client().client.api.base_url, "testcontainers")
        socket = server_container.engine_socket_path(address, env)
        self.with_volume_mapping(socket, server_container.SOCKET, "rw")
        names = ["chowder-local", *(self._network_aliases or ())]
        # Other machines could reach a port on any address but the loopback.
        binding: Any = ("127.0.0.1", None)
        if self.get_docker_client().get_connection_mode() is not ConnectionMode.docker_host:
            binding = None
        elif (host := self.get_docker_client().host()) not in {"localhost", "127.0.0.1"}:
            names.append(host)
            binding = None
        self.ports[str(server_container.PORT)] = binding
        self.env.setdefault("CHOWDER_ALLOWED_HOSTS", ",".join(names))
        folder = Settings.read(env).leases_dir
        # Removes what killed runs left; what cannot be removed now is left for the next run.
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
        """Stops the server and removes all its agents, with all data."""
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
    """Disables Ryuk if its image would have to be pulled, because there may be no registry."""
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
