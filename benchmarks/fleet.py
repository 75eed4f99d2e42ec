"""The peer `openclaw fleet`, OpenClaw's own command for containers of tenants on one machine."""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from benchmarks import containers
from benchmarks.servers import free_port
from benchmarks.stock_openclaw import READY_TIMEOUT_S, answers
from benchmarks.waiting import NotMeasured, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.stock_openclaw import Stock

SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True)
class Fleet:
    """An operator's environment: a container with OpenClaw, the `docker` command and its socket, on
    the host's network, so that it sees the engine like a host with OpenClaw.
    """

    bench: Bench
    image: str
    operator: Container

    def create(self) -> Sample:
        """One tenant by `fleet create`, until its gateway is ready and the command has ended."""
        tenant, port = f"bench-{secrets.token_hex(4)}", free_port()
        used_before_s = containers.cpu_s(self.operator)
        began_s = time.perf_counter()
        try:
            self._fleet("create", tenant, "--image", self.image, "--port", str(port))
            until(
                lambda: answers(f"http://127.0.0.1:{port}/startupz"),
                "a tenant of openclaw fleet takes turns",
                READY_TIMEOUT_S,
            )
            wall_s = time.perf_counter() - began_s
            cell = self.bench.client.containers.get(f"openclaw-cell-{tenant}")
            command_cpu_s = containers.cpu_s(self.operator) - used_before_s
            return {"wall_s": wall_s, "cpu_s": containers.cpu_s(cell) + command_cpu_s}
        finally:
            self._remove(tenant)

    def _fleet(self, *arguments: str) -> None:
        code, output = self.operator.exec_run(["openclaw", "fleet", *arguments])
        if code != 0:
            text = bytes(output).decode(errors="replace")  # type: ignore[arg-type]  # not streamed
            raise NotMeasured(f"openclaw fleet {arguments[0]}: {text[-400:]}")

    def _remove(self, tenant: str) -> None:
        """Removes container and network by fleet's names; the data are in the run's folder."""
        client = self.bench.client
        # It may not exist.
        with suppress(NotFound):
            containers.remove(client.containers.get(f"openclaw-cell-{tenant}"))
        for network in client.networks.list(names=[f"openclaw-cell-{tenant}-net"]):
            network.remove()


@contextmanager
def fleet(stock: Stock) -> Iterator[Fleet]:
    """Fleet with stock OpenClaw's image. Raises NotMeasured if fleet cannot work here."""
    bench = stock.bench
    command = shutil.which("docker", path=bench.env.get("PATH"))
    if command is None or not SOCKET.is_socket():
        raise NotMeasured(f"openclaw fleet needs the docker command, and its engine at {SOCKET}")
    # Bind mounts use the host's paths, so fleet's folder must have the same path there.
    state = bench.folder / "fleet"
    state.mkdir(mode=0o700)
    places = {str(SOCKET): str(SOCKET), command: "/usr/local/bin/docker", str(state): str(state)}
    try:
        operator = bench.client.containers.run(
            stock.tag,
            ["tail", "-f", "/dev/null"],
            detach=True,
            init=True,
            user="0:0",
            network_mode="host",
            labels={containers.LABEL: bench.run},
            environment={
                "OPENCLAW_STATE_DIR": str(state),
                "HOME": str(state),
                "DOCKER_HOST": f"unix://{SOCKET}",
            },
            volumes={ours: {"bind": theirs, "mode": "rw"} for ours, theirs in places.items()},
        )
    except APIError as refused:
        raise NotMeasured(f"openclaw fleet's surroundings: {refused.explanation}") from refused
    try:
        yield Fleet(bench, stock.tag, operator)
    finally:
        # Its files belong to root and tenants, and the run has to remove the folder.
        operator.exec_run(["find", str(state), "-mindepth", "1", "-delete"])
        containers.remove(operator)
