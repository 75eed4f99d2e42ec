"""A second dockerd beside the machine's, which a test may end as it likes; needs Linux and root."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import psutil

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress, open_client
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import signal
    from pathlib import Path

    import docker

END_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 600.0


def is_apart() -> bool:
    """Whether this process is in a network namespace that nobody uses yet."""
    found = psutil.net_if_stats()
    return "docker0" not in found and not any(
        link.isup for name, link in found.items() if name != "lo"
    )


class SecondEngine:
    """One with folders, socket and containerd of its own.

    It takes the firewall and the bridge `docker0` for its own, as every dockerd does, so it is
    started in a network namespace apart from the machine's only.
    """

    def __init__(self, folder: Path, data_root: Path) -> None:
        # Beside the machine's own it would take that one's network away from it.
        assert is_apart(), "start this with: unshare --net"
        self._folder = folder
        self._data_root = data_root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self._folder}/engine.sock"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # What a killed one leaves behind may be another process's number by now.
        (self._folder / "dockerd.pid").unlink(missing_ok=True)
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.url}",
                    f"--data-root={self._data_root}",
                    f"--exec-root={self._folder}/exec",
                    f"--pidfile={self._folder}/dockerd.pid",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, "the second engine answers")

    def end(self, how: signal.Signals) -> None:
        """Ends it, and waits until it has."""
        self.send(how)
        assert self._process is not None
        self._process.wait(END_TIMEOUT_S)

    def send(self, number: signal.Signals) -> None:
        """Ends, stops or wakes it."""
        assert self._process is not None
        self._process.send_signal(number)

    def client(self, timeout_s: float = 30.0) -> docker.DockerClient:
        """A client, which the caller closes."""
        return open_client(EngineAddress(self.url, "the test"), timeout_s)

    def ensure_image(self, tag: str, other: docker.DockerClient) -> None:
        """Brings an image from another engine; it is kept for the next run."""
        client = self.client(LOAD_TIMEOUT_S)
        try:
            if not client.images.list(tag):
                client.images.load(other.images.get(tag).save(named=tag))  # type: ignore[arg-type]  # it streams
        finally:
            client.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "dockerd.log").read_text()[-2000:]
        try:
            self.client().close()
        except EngineUnavailable:
            return False
        return True
