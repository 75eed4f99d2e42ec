"""An agent's files through the API, and that the agent itself can use them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from chowder_local.engine.containers import list_commands
from chowder_local.openclaw.standing_work import FILE_PROGRAM, has_foreign_process
from tests.e2e.containers import container_of, inside
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    import httpx
    from docker.models.containers import Container

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

FOLDER = "workspace/files-test"
MEMORY = "workspace/memory"
SESSION = "files"
LARGE_BYTES = 64 * 1024 * 1024
MAY_GROW_BYTES = 16 * 1024 * 1024


@pytest.fixture
def container(engine: docker.DockerClient, api: Api, instance: str) -> Iterator[Container]:
    """The shared agent's container, whose test folder is taken away at the end."""
    container = container_of(engine, api, instance)
    yield container
    inside(container, f"rm -rf /data/.openclaw/{FOLDER}")


@pytest.fixture
def files(instance: str) -> str:
    """Where the shared agent's files are."""
    return f"instances/{instance}/files"


def put(api: Api, files: str, path: str, content: str) -> None:
    answer = api.put(f"{files}/content", json={"path": path, "content": content})
    assert answer.status_code == 204, answer.text


def text_at(api: Api, files: str, path: str) -> str:
    answer = api.get(f"{files}/content", params={"path": path})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["content"]
    return text


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["name"] for entry in answer.json()["entries"]]


def test_a_file_program_waits_for_the_next_call_and_ends_without_one(
    api: Api, files: str, container: Container
) -> None:
    def programs() -> list[str]:
        return [each for each in list_commands(container) if FILE_PROGRAM in each]

    put(api, files, f"{FOLDER}/x", "x")
    waiting = programs()
    assert waiting
    assert text_at(api, files, f"{FOLDER}/x") == "x"
    # It does not keep its agent in memory.
    assert not has_foreign_process(["openclaw-gateway", *waiting])
    eventually(lambda: not programs(), "the program has ended")


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 1000, "naïve 日本語 😀\r\n".encode()])
def test_a_file_goes_up_and_down_and_belongs_to_the_agent(
    api: Api, files: str, container: Container, content: bytes
) -> None:
    path = f"{FOLDER}/déjà/vu 日本.bin"
    answer = api.post(f"{files}/upload", files={"file": content}, data={"path": path})
    assert answer.status_code == 204, answer.text
    answer = api.get(f"{files}/download", params={"path": path})
    assert (answer.status_code, answer.content) == (200, content)
    assert names(api.get(files, params={"path": f"{FOLDER}/déjà"})) == ["vu 日本.bin"]
    _, owners = inside(container, f"cd /data/.openclaw/{FOLDER}; stat -c '%u:%g %a' . déjà déjà/*")
    assert owners.split("\n")[:3] == ["1000:1000 755", "1000:1000 755", "1000:1000 644"]


def test_the_agent_reads_what_was_written_and_what_it_adds_is_read(
    api: Api, files: str, instance: str, container: Container
) -> None:
    put(api, files, f"{FOLDER}/notes.md", "The tide turns at noon.\n")
    seen = api.say(
        instance, 'call read {"path": "files-test/notes.md"}', session=SESSION
    )  # fmt: skip
    assert "The tide turns at noon." in seen
    add = json.dumps({"command": "echo And again at midnight. >> files-test/notes.md"})
    api.say(instance, f"call exec {add}", session=SESSION)
    both = "The tide turns at noon.\nAnd again at midnight.\n"
    assert text_at(api, files, f"{FOLDER}/notes.md") == both
    put(api, files, f"{FOLDER}/notes.md", "Low water.\n")
    seen = api.say(
        instance, 'call exec {"command": "cat files-test/notes.md"}', session=SESSION
    )  # fmt: skip
    assert "Low water." in seen


def test_the_agent_finds_in_its_memory_what_was_written_there(
    api: Api, files: str, instance: str, container: Container
) -> None:
    put(api, files, f"{MEMORY}/lighthouse.md", "The keeper's parrot is called Bartleby.\n")
    # The tools for it are among those that OpenClaw has its models call by name.
    search = json.dumps({"id": "memory_search", "args": {"query": "parrot Bartleby"}})

    def found() -> str:
        said = api.say(instance, f"call tool_call {search}", session=SESSION)
        return said if "memory/lighthouse.md" in said else ""

    assert "The keeper's parrot" in eventually(found, "what is new in its memory is found")
    get = json.dumps({"id": "memory_get", "args": {"path": "memory/lighthouse.md"}})
    assert "is called Bartleby" in api.say(instance, f"call tool_call {get}", session=SESSION)
    inside(container, f"rm /data/.openclaw/{MEMORY}/lighthouse.md")


def test_links_that_the_agent_has_planted_lead_nowhere(
    api: Api, files: str, container: Container
) -> None:
    put(api, files, f"{FOLDER}/x", "")
    code, words = inside(
        container,
        f"cd /data/.openclaw/{FOLDER} && ln -s /etc/passwd file && ln -s / all && ln -s /tmp tmp "
        "&& ln -s ../.. up && mkfifo fifo && echo mine > /tmp/of-the-agent",
    )
    assert code == 0, words
    for path in ["file", "all/etc/passwd", "tmp/of-the-agent", "up/openclaw.json", "fifo"]:
        for call in ("content", "download"):
            answer = api.get(f"{files}/{call}", params={"path": f"{FOLDER}/{path}"})
            assert answer.status_code == 400, f"{path}: {answer.text}"
    for path in ["all", "tmp", "up"]:
        assert api.get(files, params={"path": f"{FOLDER}/{path}"}).status_code == 400
    for path in ["file", "tmp/new", "tmp/of-the-agent", "up/new", "fifo"]:
        body = {"path": f"{FOLDER}/{path}", "content": "not mine"}
        assert api.put(f"{files}/content", json=body).status_code == 400
        answer = api.post(
            f"{files}/upload", files={"file": b"not mine"}, data={"path": f"{FOLDER}/{path}"}
        )
        assert answer.status_code == 400
    _, words = inside(container, "cat /tmp/of-the-agent; ls /tmp/new /data/.openclaw/new 2>&1")
    assert words.startswith("mine\n")
    assert words.count("No such file") == 2
    modes = {
        entry["name"]: entry["permissions"][0]
        for entry in api.get(files, params={"path": FOLDER}).json()["entries"]
    }
    assert modes == {"all": "l", "fifo": "p", "file": "l", "tmp": "l", "up": "l", "x": "-"}


def memory_of(server: ServerProcess) -> dict[str, int]:
    """The server's memory in bytes: now, and the most since `forget_most`."""
    status = Path(f"/proc/{pid_of(server)}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def forget_most(server: ServerProcess) -> None:
    Path(f"/proc/{pid_of(server)}/clear_refs").write_text("5")


def pid_of(server: ServerProcess) -> int:
    pid: int = json.loads((server.data_dir / "server.json").read_text())["pid"]
    return pid


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells of memory")
def test_a_large_file_passes_through_a_server_that_does_not_grow(
    api: Api, server: ServerProcess, files: str, container: Container, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES))
    put(api, files, f"{FOLDER}/small", "")
    before = memory_of(server)["VmRSS"]
    forget_most(server)
    with large.open("rb") as content:
        answer = api.post(f"{files}/upload", files={"file": content}, data={"path": f"{FOLDER}/"})
    assert answer.status_code == 204, answer.text
    digest = hashlib.sha256()
    path = f"{FOLDER}/large.bin"
    with api.stream("GET", f"{files}/download", params={"path": path}) as answer:
        assert answer.headers["Content-Length"] == str(LARGE_BYTES)
        for chunk in answer.iter_bytes():
            digest.update(chunk)
    assert memory_of(server)["VmHWM"] - before < MAY_GROW_BYTES
    assert digest.digest() == hashlib.sha256(large.read_bytes()).digest()


def programs(container: Container) -> int:
    """How many of our programs run in the sandbox."""
    _, found = inside(container, "ps -eo args | grep -c '^/usr/bin/python3 -I'")
    return int(found)


def test_clients_that_vanish_leave_nothing_behind(
    api: Api, server: ServerProcess, files: str, container: Container
) -> None:
    put(api, files, f"{FOLDER}/large", "")
    inside(container, f"truncate -s 1G /data/.openclaw/{FOLDER}/large")
    where = urlsplit(f"{server.base_url}/{files}")
    head = f"Host: localhost\r\nAuthorization: Bearer {server.key}\r\n"
    form = (
        "--b\r\nContent-Disposition: form-data; name=path\r\n\r\n"
        f"{FOLDER}/large\r\n--b\r\nContent-Disposition: form-data; name=file\r\n\r\n"
    )
    upload = (
        f"POST {where.path}/upload HTTP/1.1\r\n{head}"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        f"{form}beginning"
    )
    download = f"GET {where.path}/download?path={FOLDER}/large HTTP/1.1\r\n{head}\r\n"
    for said in (upload, download):
        with socket.create_connection((str(where.hostname), where.port or 80)) as client:
            client.sendall(said.encode())
            eventually(lambda: programs(container), "a program runs")
        eventually(lambda: programs(container) == 0, "the program has ended")
    (entry,) = api.get(files, params={"path": FOLDER}).json()["entries"]
    assert (entry["name"], entry["size"]) == ("large", 1024**3)
