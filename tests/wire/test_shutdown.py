"""Shutdown of a real server process: signals, lock, and clients on real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.cli.main import run
from chowder_local.engine.self_container import process_namespace
from tests.scripted.server_process import GO
from tests.wire.forked_servers import ForkedServers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE_S = 30.0
FOR_EVER_S = "3600"
"""A grace period longer than any test: requests that end within it were not waited for."""
POLL_S = 0.02
STOPPING = "Gateway unavailable – the server is stopping"


class Server:
    """A server process and its output."""

    def __init__(self, forks: ForkedServers, data_dir: Path, grace_s: str) -> None:
        self.forks = forks
        self.port = free_port()
        self.env = {
            "CHOWDER_DATA_DIR": str(data_dir),
            "CHOWDER_PORT": str(self.port),
            "TEST_GRACE_S": grace_s,
        }
        read_end, write_end = os.pipe()
        self.output = open(read_end, encoding="utf-8")  # noqa: SIM115 - see `end`
        self.process_id = forks.start(self.env, write_end)
        os.close(write_end)
        self.has_ended = False
        facts = self.next_line()
        self.path = f"/v1/instances/{facts['instance_id']}"
        self.client = httpx.Client(
            verify=False,  # The loopback needs no certificates.
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {facts['key']}"},
            timeout=DEADLINE_S,
            trust_env=False,
        )

    def next_line(self) -> dict[str, Any]:
        """The next line of its output."""
        results: dict[str, Any] = json.loads(self.output.readline())
        return results

    def message(self, words: str, **more: Any) -> httpx.Response:
        payload = {"model": "gpt-4o", "input": words} | more
        return self.client.post(f"{self.path}/responses", json=payload)

    def terminate(self) -> None:
        """Sends SIGTERM, and waits until it accepts no new connections."""
        self.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DEADLINE_S
        while not is_refused(self.port):
            assert time.monotonic() < deadline, "it still takes connections"
            time.sleep(POLL_S)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.process_id, number)

    def exit_code(self) -> int:
        code = self.forks.exit_code(self.process_id, DEADLINE_S)
        self.has_ended = True
        return code

    def end(self) -> None:
        self.client.close()
        if not self.has_ended:
            self.send_signal(signal.SIGKILL)
            self.exit_code()
        self.output.close()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkedServers]:
    with ForkedServers() as forks:
        yield forks


@pytest.fixture
def start(forks: ForkedServers, tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Starts a server with a grace period in seconds."""
    with ExitStack() as stack:

        def started(grace_s: str = FOR_EVER_S) -> Server:
            server = Server(forks, tmp_path / "data", grace_s)
            stack.callback(server.end)
            return server

        yield started


def events_of(lines: Iterator[str]) -> Iterator[str]:
    """The data of each event."""
    return (line.removeprefix("data: ") for line in lines if line.startswith("data: "))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_get_the_reason_and_end_properly(
    start: Callable[..., Server], number: signal.Signals
) -> None:
    server = start()
    payload = {"model": "gpt-4o", "input": "endless", "stream": True}
    with ExitStack() as stack:
        streams = []
        for path in ("responses", "session/a/responses"):
            request = server.client.stream("POST", f"{server.path}/{path}", json=payload)
            events = events_of(stack.enter_context(request).iter_lines())
            created, delta = json.loads(next(events)), json.loads(next(events))
            assert (created["type"], delta["type"]) == (
                "response.created",
                "response.output_text.delta",
            )
            streams.append(events)
        server.send_signal(number)
        for events in streams:
            # To the end of the stream: a broken connection would raise.
            error, _, done = list(events)
            reply = json.loads(error)
            assert (reply["type"], reply["code"]) == ("error", "server_error")
            assert (reply["message"], reply["sequence_number"]) == (STOPPING, 2)
            assert done == "[DONE]"
    assert server.exit_code() == 0


def test_a_followed_log_ends_properly(start: Callable[..., Server]) -> None:
    server = start()
    path = server.path.replace("/v1", "/local") + "/logs?follow=true"
    with server.client.stream("GET", path) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "The first line."
        server.send_signal(signal.SIGTERM)
        assert list(lines) == []
    assert server.exit_code() == 0


def test_a_stream_that_has_not_begun_is_refused_at_once(start: Callable[..., Server]) -> None:
    server = start()
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(server.message, "silent", stream=True)
        assert server.next_line() == {"begun": "silent"}
        server.send_signal(signal.SIGTERM)
        answer = sending.result()
    assert (answer.status_code, answer.json()["detail"]) == (502, {"error": STOPPING})
    assert server.exit_code() == 0


def test_a_message_is_answered_within_the_grace_and_new_ones_are_refused(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start()
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(server.message, GO)
        assert server.next_line() == {"begun": GO}
        server.terminate()
        assert not sending.done()
        (tmp_path / "data" / GO).touch()
        answer = sending.result()
    assert answer.status_code == 200
    assert answer.json()["output"][0]["content"][0]["text"] == "Hello there."
    assert server.exit_code() == 0


def test_a_message_that_outlasts_the_grace_gets_an_error(start: Callable[..., Server]) -> None:
    server = start("0")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(server.message, "silent")
        assert server.next_line() == {"begun": "silent"}
        server.send_signal(signal.SIGTERM)
        answer = sending.result()
    assert (answer.status_code, answer.json()["detail"]) == (502, {"error": STOPPING})
    assert server.exit_code() == 0


def test_a_second_signal_waits_for_nothing(start: Callable[..., Server]) -> None:
    server = start()
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(server.message, "silent")
        assert server.next_line() == {"begun": "silent"}
        server.terminate()
        assert not sending.done()
        server.send_signal(signal.SIGINT)
        answer = sending.result()
    assert (answer.status_code, answer.json()["detail"]) == (502, {"error": STOPPING})
    assert server.exit_code() == 0


def test_a_second_server_cannot_take_the_data_directory_before_the_first_has_died(
    start: Callable[..., Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("chowder_local.engine.images.is_there", lambda tag, env: True)
    # Otherwise the command would find the first server healthy and succeed.
    monkeypatch.setattr("chowder_local.cli.up.healthy_server", lambda _: None)
    monkeypatch.setattr("chowder_local.cli.up.starting_server", lambda _: None)
    # It would configure logging in this process for all later tests.
    monkeypatch.setattr("chowder_local.core.logs.configure", lambda *_: None)
    first = start()
    assert first.client.get("/local/ready").status_code == 200
    before = (tmp_path / "data" / "server.json").read_bytes()
    assert json.loads(before)["process_namespace"] == process_namespace()
    for port in (first.port, free_port()):
        assert run(["up", "--port", str(port)], first.env) == 4
        reply = capsys.readouterr().err
        assert f"Another chowder-local server uses {tmp_path / 'data'}." in reply
        assert "chowder-local down" in reply
    assert (tmp_path / "data" / "server.json").read_bytes() == before
    assert first.client.get("/local/ready").status_code == 200

    first.send_signal(signal.SIGKILL)
    assert first.exit_code() == -signal.SIGKILL
    # It could not clean up; the lock ends with the process all the same.
    assert (tmp_path / "data" / "server.json").exists()
    second = start()
    assert second.client.get("/local/ready").status_code == 200


def test_changes_that_were_confirmed_survive_kill_9(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start()
    body = {"name": "ci", "instance_ids": [server.path[-36:]], "permissions": ["read"]}
    acknowledged: list[str] = []

    def create_keys() -> None:
        with suppress(httpx.TransportError):
            while True:
                answer = server.client.post("/v1/keys", json=body)
                assert answer.status_code == 201
                acknowledged.append(answer.json()["id"])

    with ThreadPoolExecutor() as pool:
        creating = [pool.submit(create_keys) for _ in range(4)]
        deadline = time.monotonic() + DEADLINE_S
        while len(acknowledged) < 50:
            assert time.monotonic() < deadline, "keys are made"
            time.sleep(POLL_S)
        server.send_signal(signal.SIGKILL)
    assert [each.exception() for each in creating] == [None] * 4
    (database,) = (tmp_path / "data").glob("world-*/chowder.db")
    with closing(sqlite3.connect(database)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = {key_id for (key_id,) in file.execute("SELECT id FROM api_key")}
    assert set(acknowledged) <= kept
