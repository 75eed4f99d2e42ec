"""A server of this project for a run without a service, with its own folder and port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def local_service(data_dir: Path) -> Iterator[tuple[str, str]]:
    """Base URL and key of a server with offline models, which is removed afterwards."""
    program = Path(sys.executable).with_name("chowder-local")
    command = [str(program), "--data-dir", str(data_dir)]
    # Settings for another server must not affect this one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("CHOWDER_")}
    # A run makes few agents, so warm sandboxes would be wasted.
    env["CHOWDER_WARM_POOL_SIZE"] = "0"
    up = [*command, "up", "--detach", "--offline", "--port", str(_free_port())]
    try:
        subprocess.run(up, env=env, check=True, capture_output=True)
        result = subprocess.run(
            [*command, "env", "--format", "json"], env=env, check=True, capture_output=True
        )
        values = json.loads(result.stdout)
        yield values["CHOWDER_BASE_URL"], values["CHOWDER_KEY"]
    finally:
        subprocess.run([*command, "reset", "--yes"], env=env, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
