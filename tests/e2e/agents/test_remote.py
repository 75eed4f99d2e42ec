"""A real agent is pulled, changed and pushed over a line that has no `/local` and is bad."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest

from chowder_local.cli.main import run
from tests.e2e.containers import container_of, inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

# It boots an agent.
pytestmark = [pytest.mark.docker, pytest.mark.nightly]

FOLDER = "workspace/remote-test"
LATENCY_S = 0.01
LIMITED_EVERY, CUT_EVERY = 7, 11


class BadLine(ThreadingHTTPServer):
    """Forwards `/v1` late, answers some calls with a 429, and cuts some answers."""

    daemon_threads = True

    def __init__(self, root_url: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client = httpx.Client(base_url=root_url, timeout=300)
        self.numbers = itertools.count(1)
        self.refused: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: BadLine

    def do_GET(self) -> None:
        number = next(self.server.numbers)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(LATENCY_S)
        if not self.path.startswith("/v1/"):
            self.server.refused.append(self.path)
            self._send(404, b"{}", 0)
        elif number % LIMITED_EVERY == 0:
            self._send(429, b'{"detail": "Slowly."}', 0)
        else:
            kept = ("authorization", "content-type")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            answer = self.server.client.request(
                self.command, self.path, content=body, headers=headers
            )
            # Its length says more than comes.
            missing = 9 if number % CUT_EVERY == 0 and self.command == "GET" else 0
            self._send(answer.status_code, answer.content, missing)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the library reads these names

    def _send(self, status: int, content: bytes, missing: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) + missing))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def line(server: ServerProcess) -> Iterator[BadLine]:
    with BadLine(server.base_url.removesuffix("/v1")) as line:
        thread = threading.Thread(target=line.serve_forever, args=(0.05,))
        thread.start()
        yield line
        line.shutdown()
        thread.join()
        line.client.close()


def test_an_agent_goes_here_and_back_over_a_bad_line(
    server: ServerProcess,
    api: Api,
    instance: str,
    engine: docker.DockerClient,
    line: BadLine,
    tmp_path: Path,
) -> None:
    url = f"http://127.0.0.1:{line.server_port}/v1"
    folder, seed = tmp_path / "copy", str(tmp_path / "copy" / "seed.yaml")
    # The server plays both, so its own key is the remote one, too.
    env = server.env | {
        "CHOWDER_DATA_DIR": str(server.data_dir),
        "CHOWDER_REMOTE_KEY": server.key,
    }
    files = {f"{FOLDER}/{number}.bin": bytes([number]) * 100_000 for number in range(20)}
    made: list[str] = []
    try:
        for path, content in files.items():
            form = {"path": path}
            sent = api.post(
                f"instances/{instance}/files/upload", data=form, files={"file": content}
            )
            assert sent.status_code == 204, sent.text
        pull = ["pull", url, instance, "--as", "copy", "--to", str(folder)]
        assert run(pull, env) == 0
        assert {path: (folder / "home" / path).read_bytes() for path in files} == files
        (copy,) = [each for each in api.get("instances").json() if each["name"] == "copy"]
        made.append(f"instances/{copy['id']}")
        found = api.get(
            f"instances/{copy['id']}/files/download", params={"path": f"{FOLDER}/7.bin"}
        )
        assert found.content == files[f"{FOLDER}/7.bin"]
        assert "Hello" in api.say(copy["id"], "Hello")
        changed = folder / "home" / FOLDER / "7.bin"
        changed.write_bytes(b"changed")
        push = ["push", seed, url, instance, "--yes"]
        assert run(push, env) == 0
        assert run(["diff", seed, url, instance, "--exit-code"], env) == 0
        sandbox = container_of(engine, api, instance)
        assert inside(sandbox, f"cat /data/.openclaw/{FOLDER}/7.bin") == (0, "changed")
        assert line.refused == []
    finally:
        for path in made:
            api.delete(path)
        inside(container_of(engine, api, instance), f"rm -rf /data/.openclaw/{FOLDER}")
