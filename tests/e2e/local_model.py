"""A real small model on this machine, behind an OpenAI-compatible server that is not ours."""

from __future__ import annotations

import socket
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from tests.e2e.made_once import made_once
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
PACKAGES = HERE / "local-model.txt"
PYTHON = Path("bin") / "python"
INSTALL_TIMEOUT_S = 600
LOAD_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10


class LocalModel:
    """Serves `smollm2` at `url` once it is started; its port is known before."""

    MODEL = "smollm2"
    CONTEXT_TOKENS = 8192
    """What it was trained with."""

    def __init__(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self._port = unused.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `--provider` is given."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def start(self, env: Mapping[str, str]) -> None:
        """Fetches what it takes, unless it is there, and waits until the model is loaded."""
        if self._process is not None:
            return
        program = [str(_python(env)), str(HERE / "local_model_server.py")]
        self._process = process = subprocess.Popen(
            [*program, str(self._port), str(self.CONTEXT_TOKENS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def is_loaded() -> bool:
            assert process.poll() is None, f"the model's server ended with {process.returncode}"
            try:
                return httpx.get(f"{self.url}/models", trust_env=False).is_success
            except httpx.TransportError:
                return False

        eventually(is_loaded, "the model is loaded", LOAD_TIMEOUT_S)


def _python(env: Mapping[str, str]) -> Path:
    """The Python of an environment with the packages."""

    def make(place: Path) -> None:
        venv.create(place, with_pip=True)
        command = [str(place / PYTHON), "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--requirement", str(PACKAGES)]
        done = subprocess.run(
            command, env=dict(env), capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
        )
        assert done.returncode == 0, f"the model's packages: {done.stdout}{done.stderr}"

    # An environment is of the Python that made it.
    made = made_once("local-model", make, PACKAGES.read_bytes(), sys.version, sys.base_prefix)
    return made / PYTHON
