"""An agent that writes too much, and one whose disk is full; only the agents are not real."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.api import CLAUDE, Api, responses_path
from tests.e2e.containers import container_of, inside, volumes
from tests.e2e.quick_agents import made, remembers
from tests.e2e.serving import ServerProcess
from tests.e2e.small_disk import fill, small_disk
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

LIMIT_MB = 256
SMALL = "8m"
HOG = "/data/hog"
DATA_DISK_BYTES = 24_000_000
KEYS = 40
"""More than what a write-ahead log has room for that is there already."""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    image: str,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    settings = {
        "CHOWDER_IMAGE": image,
        "CHOWDER_OFFLINE": "true",
        "CHOWDER_DISK_LIMIT_MB": str(LIMIT_MB),
    }
    constants = {"instances.monitoring.usage:DISK_INTERVAL_S": 0.2}
    server = ServerProcess(tmp_path_factory.mktemp("disk") / "data", settings, constants)
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    with Api(server.base_url, server.key) as api:
        yield api


def test_an_agent_that_writes_more_than_it_may_is_ended_with_words_and_keeps_its_files(
    api: Api, engine: docker.DockerClient, server: ServerProcess
) -> None:
    hog, neighbour = made(api), made(api)
    container = container_of(engine, api, hog)
    # As one would that wants to hide it: by the time that it is looked at, nobody else can read it.
    script = f"mkdir -m 0 {HOG} && chmod 700 {HOG} && head -c {LIMIT_MB}M /dev/zero > {HOG}/it"
    code, said = inside(container, f"{script} && chmod 0 {HOG}")
    # It may have been caught while it still wrote.
    assert code in {0, 137}, said

    def ended() -> dict[str, Any] | None:
        row: dict[str, Any] = api.get(f"instances/{hog}").json()
        return row if row["status"] == "error" else None

    row = eventually(ended, "it was ended")
    assert f"more than the {LIMIT_MB} MB of disk" in row["error_message"]
    assert row["gateway_url"] is None
    container.wait()
    assert row["sandbox_id"] in {each.name for each in volumes(engine, server.store_id)}
    remembers(api, neighbour)
    for each in (hog, neighbour):
        assert api.delete(f"instances/{each}").status_code == 204
    assert volumes(engine, server.store_id) == []


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_agent_whose_disk_is_full_says_so_and_goes_on_once_there_is_room(
    api: Api, engine: docker.DockerClient, is_streamed: bool
) -> None:
    instance_id = made(api)
    api.stop(instance_id)
    with moved_to_a_small_disk(engine, container_of(engine, api, instance_id)):
        api.start(instance_id)
    remembers(api, instance_id)
    container = container_of(engine, api, instance_id)
    code, said = inside(container, f"cat /dev/zero > {HOG}")
    assert (code, "No space left" in said) == (1, True), said
    body = {"model": CLAUDE, "input": "Is there room?", "stream": is_streamed}
    answer = api.post(responses_path(instance_id), json=body)
    assert answer.status_code == 507, answer.text
    told = answer.json()["detail"]["error"]
    assert told.startswith("Gateway unavailable – no space is left on the disk")
    assert "docker system df" in told
    assert inside(container, f"rm {HOG}") == (0, "")
    remembers(api, instance_id)
    assert api.delete(f"instances/{instance_id}").status_code == 204


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_server_whose_disk_is_full_loses_nothing_and_goes_on_once_there_is_room(
    tmp_path: Path, engine: docker.DockerClient, image: str, request: pytest.FixtureRequest
) -> None:
    with small_disk(tmp_path, DATA_DISK_BYTES) as disk:
        settings = {"CHOWDER_IMAGE": image, "CHOWDER_OFFLINE": "true"}
        server = ServerProcess(disk, settings)
        with served(server, engine, request.config), Api(server.base_url, server.key) as api:
            instance_id = made(api)
            key = {"name": "one of many", "instance_ids": [instance_id], "permissions": ["read"]}
            answers = [api.post("keys", json=key)]
            fill(disk / "hog")
            answers += [api.post("keys", json=key) for _ in range(KEYS)]
            answers.append(api.post("instances", json={"name": "too many"}))
            assert (answers[-1].status_code, "is full" in answers[-1].text) == (507, True)
            acknowledged = {each.json()["id"] for each in answers if each.is_success}
            remembers(api, instance_id)
            server.down()
            fill(disk / "more")
            command = [*server.command(), "up", "--detach"]
            refused = subprocess.run(
                command, env=server.env, capture_output=True, text=True, check=False
            )
            assert refused.returncode != 0
            assert f"The disk that holds {server.data_dir} is full" in refused.stderr
            (disk / "hog").unlink()
            (disk / "more").unlink()
            server.up()
            assert {each["id"] for each in api.get("keys").json()} == acknowledged
            assert [each["id"] for each in api.get("instances").json()] == [instance_id]
            remembers(api, instance_id)


@contextmanager
def moved_to_a_small_disk(engine: docker.DockerClient, container: Container) -> Iterator[None]:
    """Gives a sandbox that is stopped a volume of another kind with the same content.

    The volume is in memory, so it is there only as long as a container has it.
    """
    name, image = str(container.name), str(container.attrs["Image"])
    content = b"".join(container.get_archive("/data/.openclaw")[0])
    container.remove(force=True)
    volume = engine.volumes.get(name)
    labels = volume.attrs["Labels"]
    volume.remove()
    # Mounted where the engine is, which need not be this machine.
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={SMALL},uid=1000,gid=1000"}
    engine.volumes.create(name, driver="local", driver_opts=options, labels=labels)
    holder = engine.containers.create(
        image, ["sleep", "600"], entrypoint="", volumes={name: {"bind": "/data", "mode": "rw"}}
    )
    try:
        holder.start()
        assert holder.put_archive("/data", content)
        yield
    finally:
        holder.remove(force=True)
