"""A server of this project for a run without a service, with its own folder and port."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chowder_local.core.addresses import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def local_service(data_dir: Path, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Base URL and key of a server with offline models, which is removed afterwards."""
    program = Path(sys.executable).with_name("chowder-local")
    # Settings for another server must not affect this one; the OpenClaw release is to be judged.
    # A run makes few agents, so warm sandboxes would be wasted.
    own = {
        name: value
        for name, value in env.items()
        if name == "CHOWDER_OPENCLAW_VERSION" or not name.startswith("CHOWDER_")
    }
    own["CHOWDER_WARM_POOL_SIZE"] = "0"

    def run(*arguments: str) -> str:
        command = [str(program), "--data-dir", str(data_dir), *arguments]
        done = subprocess.run(command, env=own, check=True, capture_output=True, text=True)  # noqa: S603 - our own
        return done.stdout

    try:
        run("up", "--detach", "--offline", "--port", str(free_port()))
        values = json.loads(run("env", "--format", "json"))
        yield values["CHOWDER_BASE_URL"], values["CHOWDER_KEY"]
    finally:
        run("reset", "--yes")
