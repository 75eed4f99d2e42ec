"""A second dockerd beside the machine's, which a test may end as it likes; needs Linux and root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import EngineAddress, find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    import pytest

END_TIMEOUT_S = 60.0
APART_END_TIMEOUT_S = 150.0
"""A test with a second engine takes about a minute to remove all of it."""
LOAD_TIMEOUT_S = 600.0


def is_apart() -> bool:
    """Whether this process is in a network namespace that nobody uses yet."""
    found = psutil.net_if_stats()
    return "docker0" not in found and not any(
        link.isup for name, link in found.items() if name != "lo"
    )


def run_apart(request: pytest.FixtureRequest) -> None:
    """Runs the calling test once more, in a network namespace of its own; fails as it does.

    If the caller is ended, so is that test, which takes down what it has started.
    """
    script = 'ip link set lo up && exec "$@"'
    test = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script, "sh", *test, request.node.nodeid],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=request.config.rootpath, env=env,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=APART_END_TIMEOUT_S)
    assert process.returncode == 0, output


class SecondEngine:
    """One with folders, socket and containerd of its own.

    It takes the firewall and the bridge `docker0` for its own, as every dockerd does, so it is
    started in a network namespace apart from the machine's only.
    """

    def __init__(self, folder: Path, data_root: Path) -> None:
        # Beside the machine's own it would take that one's network away from it.
        assert is_apart(), "start this with: unshare --net"
        self._folder = folder
        self.data_root = data_root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self._folder}/engine.sock"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        # What a killed one leaves behind may be another process's number by now.
        (self._folder / "dockerd.pid").unlink(missing_ok=True)
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.url}",
                    f"--data-root={self.data_root}",
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

    def ensure_image(self) -> None:
        """Brings the sandbox image from the machine's engine, unless an earlier run has."""
        tag = expected_tag(Settings())
        with (
            closing(self.client(LOAD_TIMEOUT_S)) as client,
            closing(open_client(find_engine(dict(os.environ)), LOAD_TIMEOUT_S)) as other,
        ):
            if not client.images.list(tag):
                client.images.load(other.images.get(tag).save(named=tag))  # type: ignore[arg-type]  # it streams

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "dockerd.log").read_text()[-2000:]
        try:
            self.client().close()
        except EngineUnavailable:
            return False
        return True


@contextmanager
def second_engine(data_root: Path | None = None) -> Iterator[SecondEngine]:
    """One that runs during the block and has the sandbox image.

    What it keeps is removed with the block, unless `data_root` says where to keep it.
    """
    with tempfile.TemporaryDirectory() as folder:
        second = SecondEngine(Path(folder), data_root or Path(folder) / "root")
        try:
            second.start()
            second.ensure_image()
            yield second
        finally:
            second.end(signal.SIGTERM)
            # One that was killed has left its folder mounted over itself.
            subprocess.run(["umount", "--recursive", "--quiet", second.data_root], check=False)
