"""A chowder-local server process of a benchmark."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil

from benchmarks.waiting import POLL_S, NotMeasured, ms_since, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.samples import Sample

MODEL = "claude-sonnet-4-20250514"
KEPT = ("CHOWDER_IMAGE", "CHOWDER_BASE_IMAGE", "CHOWDER_CA_BUNDLE", "CHOWDER_BOOT_TIMEOUT_S")
"""The user's settings that a benchmark's server keeps."""
FOREIGN = ("CHOWDER_", "ANTHROPIC_", "OPENAI_", "GEMINI_")
UP_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 30.0
BOOT_TIMEOUT_S = 240.0
CALL_TIMEOUT_S = 120.0


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_environment(env: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """An environment with these settings, and without other settings and keys."""
    bare = {name: value for name, value in env.items() if not name.startswith(FOREIGN)}
    return bare | {name: env[name] for name in KEPT if name in env} | dict(settings)


class Server:
    """`chowder-local up` in its own process group, so that the benchmark handles Ctrl-C."""

    def __init__(self, data_dir: Path, env: Mapping[str, str], *, is_offline: bool = True) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._env = dict(env)
        self._options = ["--port", str(self.port)] + (["--offline"] if is_offline else [])
        self._log_file = data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(timeout=CALL_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.down()
            if self.data_dir.exists():
                self._reset()
        finally:
            self._http.close()

    @property
    def url(self) -> str:
        """The server's root URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The default organization's authorization header."""
        return {"Authorization": f"Bearer {(self.data_dir / 'default.key').read_text()}"}

    @property
    def process(self) -> psutil.Process:
        """The id of the running process."""
        if self._process is None:
            raise NotMeasured("the server does not run")
        return psutil.Process(self._process.pid)

    def up(self) -> Sample:
        """Starts the server; the seconds until it was healthy, and its processor time."""
        began_s = time.perf_counter()
        with self._log_file.open("ab") as log:
            self._process = process = subprocess.Popen(  # noqa: S603 - our own command line
                [*self._command(), "up", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

        def is_ready() -> bool:
            if process.poll() is not None:
                raise NotMeasured(f"the server ended at once: {self._log_tail()}")
            try:
                return self._http.get(f"{self.url}/local/ready").is_success
            except httpx.TransportError:
                return False

        until(is_ready, "the server is up", UP_TIMEOUT_S)
        wall_ms = ms_since(began_s)
        return {"wall_s": wall_ms / 1000, "cpu_s": self.used_s()}

    def down(self) -> None:
        """Stops the server like Ctrl-C; agents stay."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(DOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer to a call. Raises NotMeasured if the call is refused."""
        answer = self._http.request(method, self.url + path, json=body, headers=self.headers)
        if not answer.is_success:
            raise NotMeasured(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    def used_s(self) -> float:
        """Processor time of the server's process, in seconds."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    def create(self, poll_s: float = POLL_S, **members: str) -> tuple[dict[str, Any], float]:
        """A new running instance, and the milliseconds since the call."""
        return self._made("/v1/instances", {"model_provider": "anthropic", **members}, poll_s)

    def fork(self, instance: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """A running fork of an instance, and the milliseconds since the call."""
        return self._made(f"/local/instances/{instance['id']}/fork", {})

    def restore(self, instance: Mapping[str, Any], snapshot_id: str) -> float:
        """Takes an instance back to a snapshot; the milliseconds until it runs."""
        began_s = time.perf_counter()
        path = f"/local/instances/{instance['id']}/restore"
        self.call("POST", path, {"snapshot_id": snapshot_id})
        self._wait_until_running(instance["id"], POLL_S)
        return ms_since(began_s)

    def delete(self, instance: Mapping[str, Any]) -> None:
        """Deletes an instance."""
        self.call("DELETE", f"/v1/instances/{instance['id']}")

    def say(self, instance: Mapping[str, Any], text: str) -> float:
        """Sends a message to the main session; the milliseconds until the answer was complete."""
        began_s = time.perf_counter()
        self.answer(instance, text)
        return ms_since(began_s)

    def answer(self, instance: Mapping[str, Any], text: str) -> str:
        """Sends a message to the main session; the answer's text."""
        body = {"model": MODEL, "input": text}
        response = self.call("POST", f"/v1/instances/{instance['id']}/responses", body)
        return "".join(part["text"] for item in response["output"] for part in item["content"])

    def wait_for_pool(self, size: int) -> None:
        """Waits until a number of warm sandboxes are ready; failed ones are made again."""
        pool: dict[str, Any] = {}

        def is_full() -> bool:
            pool.update(self.call("GET", "/local/health")["pool"])
            return bool(pool["ready"] >= size)

        try:
            until(is_full, "the warm pool is full", BOOT_TIMEOUT_S, poll_s=0.05)
        except NotMeasured as late:
            raise NotMeasured(f"{late}; {pool['error'] or 'no warm sandbox has failed'}") from late

    def _made(
        self, how: str, body: Mapping[str, str], poll_s: float = POLL_S
    ) -> tuple[dict[str, Any], float]:
        began_s = time.perf_counter()
        named = {"name": f"bench-{secrets.token_hex(3)}", **body}
        instance_id = self.call("POST", how, named)["id"]
        self._wait_until_running(instance_id, poll_s)
        took_ms = ms_since(began_s)
        return self.call("GET", f"/v1/instances/{instance_id}"), took_ms

    def _wait_until_running(self, instance_id: str, poll_s: float) -> None:
        path = f"/v1/instances/{instance_id}"

        def is_running() -> bool:
            status = self.call("GET", f"{path}/status")["status"]
            if status not in {"provisioning", "running"}:
                raise NotMeasured(f"the instance is {status}: {self.call('GET', path)}")
            return bool(status == "running")

        until(is_running, "the instance runs", BOOT_TIMEOUT_S, poll_s)

    def _reset(self) -> None:
        done = subprocess.run(  # noqa: S603 - our own command line
            [*self._command(), "reset", "--yes"],
            env=self._env,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotMeasured(f"a server was not taken away: {done.stderr.strip()[-300:]}")

    def _command(self) -> list[str]:
        # -P: files of the current folder must not shadow modules.
        python = [sys.executable, "-P", "-m", "chowder_local"]
        return [*python, "--data-dir", str(self.data_dir)]

    def _log_tail(self) -> str:
        return " ".join(self._log_file.read_text(errors="replace").splitlines()[-5:])
