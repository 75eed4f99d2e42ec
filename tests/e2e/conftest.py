"""One engine, one browser and one server with quick agents, and nothing left of them after it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error as PlaywrightError

from chowder_local.engine.connection import find_engine, open_client
from tests.e2e.api import Api
from tests.e2e.browser import shared_browser
from tests.e2e.dashboards import Served, served_in_thread, visit
from tests.e2e.engine_door import EngineDoor
from tests.e2e.local_model import LocalModel
from tests.e2e.quick_agents import made
from tests.e2e.quick_image import quick_image
from tests.e2e.serving import RECONCILE_INTERVAL, ServerProcess, bare_environment
from tests.e2e.stand_in import StandIn
from tests.e2e.three_nodes import ThreeNodes
from tests.e2e.whole_life import ENGINE, SERVERS, sandbox_logs, served

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from tests.e2e.browser import SharedBrowser


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The real one; without it these tests fail, they are not skipped."""
    client = open_client(find_engine(dict(os.environ)))
    yield client
    client.close()


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    """What the server's relay takes for Anthropic, OpenAI and Gemini."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def local_model() -> Iterator[LocalModel]:
    """A real small model, which is fetched and loaded by the first test that starts it."""
    with LocalModel() as local_model:
        yield local_model


@pytest.fixture(scope="session")
def own_server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    local_model: LocalModel,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server for tests of OpenClaw that make agents of their own."""
    settings = {
        "CHOWDER_PROVIDERS": f"smol={local_model.url}",
        "CHOWDER_PROVIDER_CONTEXT_TOKENS": f"smol={local_model.CONTEXT_TOKENS}",
    }
    server = ServerProcess(tmp_path_factory.mktemp("own") / "data", settings)
    with served(server, engine, request.config):
        yield server


@pytest.fixture(scope="session")
def door() -> Iterator[EngineDoor]:
    """What the quick server takes for the engine's socket."""
    # Not pytest's folder: a socket's path has room for about a hundred characters.
    with tempfile.TemporaryDirectory() as folder:
        engine_url = find_engine(bare_environment()).url
        with EngineDoor(Path(folder) / "engine.sock", engine_url) as door:
            yield door


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> Iterator[str]:
    """The sandbox image with a gateway that is there at once, in the place of OpenClaw."""
    with quick_image(engine) as tag:
        yield tag


@pytest.fixture(scope="session")
def only_quick_server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    door: EngineDoor,
    image: str,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server whose agents are of that image; `quick_server` is what tests ask for."""
    settings = {
        "DOCKER_HOST": door.url,
        "CHOWDER_IMAGE": image,
        "CHOWDER_OFFLINE": "true",
        "CHOWDER_MEMORY_LIMIT_MB": "768",
        # Every test of an engine that hangs waits for it.
        "CHOWDER_ENGINE_TIMEOUT_S": "5",
    }
    constants = {RECONCILE_INTERVAL: 1, "app.process:STOP_GRACE_S": 1}
    server = ServerProcess(tmp_path_factory.mktemp("quick") / "data", settings, constants)
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def quick_server(only_quick_server: ServerProcess) -> ServerProcess:
    """The quick server, started again if a test before has ended it."""
    only_quick_server.ensure_up()
    return only_quick_server


@pytest.fixture
def quick_api(quick_server: ServerProcess) -> Iterator[Api]:
    """A client of the quick server."""
    with Api(quick_server.base_url, quick_server.key) as api:
        yield api


@pytest.fixture(scope="module")
def quick_ids(only_quick_server: ServerProcess) -> Iterator[list[str]]:
    """Two quick agents that the tests of a module have in common, and leave running."""
    only_quick_server.ensure_up()
    with Api(only_quick_server.base_url, only_quick_server.key) as api:
        ids = [made(api), made(api)]
        yield ids
        only_quick_server.ensure_up()
        for instance_id in ids:
            assert api.delete(f"instances/{instance_id}").status_code == 204


@pytest.fixture(scope="session")
def only_browser() -> Iterator[SharedBrowser]:
    """The browser of the run; `browser` is what tests ask for."""
    with shared_browser() as shared:
        yield shared


@pytest.fixture
def browser(only_browser: SharedBrowser) -> Iterator[Browser]:
    """A real one; each test has a profile of its own in it."""
    with only_browser.in_use() as browser:
        yield browser


@pytest.fixture(name="served")
def served_world(tmp_path: Path) -> Iterator[Served]:
    """A server whose engine is scripted."""
    with served_in_thread(tmp_path) as served:
        yield served


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page that is signed in there; what the browser complains of fails the test."""
    with visit(browser, served) as page:
        yield page


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SERVERS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Ends the search: what the server, its sandboxes and the page said goes with the failure."""
    report = yield
    if report.failed:
        mine: dict[str, Any] = getattr(item, "funcargs", {})
        swarms = [each for each in mine.values() if isinstance(each, ThreeNodes)]
        for swarm in swarms:
            report.sections += swarm.logs()
        # One may have several names, and those of other modules have nothing to do with it.
        asked = {each for each in mine.values() if isinstance(each, ServerProcess)}
        known = [] if swarms else item.config.stash[SERVERS]
        for server in asked or known:
            if (engine := item.config.stash.get(ENGINE, None)) is not None:
                report.sections += sandbox_logs(engine, server)
            report.sections.append(("the server's log", server.log_tail()))
        # Last, for that is what a CI's log ends with.
        if call.when == "call" and "page" in mine:
            with suppress(PlaywrightError):
                report.sections.append(("the page", mine["page"].locator("body").inner_text()))
    return report
