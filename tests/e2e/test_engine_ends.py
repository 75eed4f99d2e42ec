"""An engine that ends, hangs, or has no room; on a second one, so only when asked for."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from platformdirs import user_cache_path

from tests.e2e.api import Api
from tests.e2e.quick_agents import degraded, is_well, made, remembers
from tests.e2e.quick_image import quick_image
from tests.e2e.second_engine import second_engine
from tests.e2e.serving import ServerProcess
from tests.e2e.small_disk import fill, small_disk
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.second_engine import SecondEngine

log = logging.getLogger(__name__)

ENDS = int(os.environ.get("CHOWDER_TEST_ENGINE_ENDS", "0"))
"""How often each way to end is tried. It wants root on Linux, and 2 GB of disk that it keeps:

CHOWDER_TEST_ENGINE_ENDS=3 unshare --net pytest tests/e2e/test_engine_ends.py
"""

DISK_BYTES = 2_600_000_000
"""Of a disk for an engine with the image; a sparse file takes as much as is in it."""
ENGINE_START_BYTES = 2_000_000
"""The engine itself does not start with less."""

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(not ENDS, reason="CHOWDER_TEST_ENGINE_ENDS asks for it"),
]


@pytest.fixture(scope="module")
def second() -> Iterator[SecondEngine]:
    data_root = user_cache_path("chowder-local-tests") / "second-engine"
    with second_engine(data_root) as second:
        yield second


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, second: SecondEngine, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    client = second.client()
    with quick_image(client) as image:
        settings = {"DOCKER_HOST": second.url, "CHOWDER_IMAGE": image, "CHOWDER_OFFLINE": "true"}
        server = ServerProcess(tmp_path_factory.mktemp("ends") / "data", settings)
        with served(server, client, request.config):
            yield server
    client.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
def test_agents_come_back_with_their_engine(
    server: ServerProcess, second: SecondEngine, how: signal.Signals
) -> None:
    with Api(server.base_url, server.key) as api:
        running, stopped = made(api), made(api)
        for number in range(ENDS):
            if api.status(stopped) == "running":
                api.stop(stopped)
            if how is signal.SIGSTOP:
                second.send(how)
            else:
                second.end(how)
            degraded(server)
            assert api.post(f"instances/{stopped}/start").status_code == 502
            assert (api.status(running), api.status(stopped)) == ("running", "stopped")
            if how is signal.SIGSTOP:
                second.send(signal.SIGCONT)
            else:
                second.start()
            began_s = time.monotonic()
            is_well(server)
            remembers(api, running)
            eventually(
                lambda: api.post(f"instances/{stopped}/start").is_success, "it can be started"
            )
            remembers(api, stopped)
            log.info(
                "%s, time %d: well after %.1f s", how.name, number + 1, time.monotonic() - began_s
            )
        for instance_id in (running, stopped):
            assert api.delete(f"instances/{instance_id}").status_code == 204


@pytest.fixture
def full_disk(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[ServerProcess, SecondEngine, Path]]:
    """A server with an engine whose disk is small, and the folder that the disk is at."""
    with (
        small_disk(tmp_path, DISK_BYTES) as disk,
        second_engine(disk / "root") as second,
        closing(second.client()) as client,
        quick_image(client) as image,
    ):
        settings = {"DOCKER_HOST": second.url, "CHOWDER_IMAGE": image}
        server = ServerProcess(tmp_path / "data", settings | {"CHOWDER_OFFLINE": "true"})
        with served(server, client, request.config):
            yield server, second, disk


def test_agents_go_on_once_their_engines_full_disk_has_room(
    full_disk: tuple[ServerProcess, SecondEngine, Path],
) -> None:
    server, second, disk = full_disk
    with Api(server.base_url, server.key) as api:
        running, stopped = made(api), made(api)
        api.stop(stopped)
        (disk / "room").write_bytes(bytes(ENGINE_START_BYTES))
        fill(disk / "before")
        refused = api.post(f"../local/instances/{running}/snapshots", json={})
        assert (refused.status_code, "docker system df" in refused.text) == (507, True)
        server.kill()
        second.end(signal.SIGKILL)
        # Without any room, it is the engine that does not start.
        (disk / "room").unlink()
        second.start()
        fill(disk / "again")
        server.up()
        for each in ("before", "again"):
            (disk / each).unlink()
        api.until(running, "running")
        assert api.post(f"instances/{stopped}/start").is_success
        for instance_id in (running, stopped):
            remembers(api, instance_id)
            assert api.delete(f"instances/{instance_id}").status_code == 204
