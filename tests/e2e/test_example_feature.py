"""A feature of another package: installed from a wheel of its own, and used in every way."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from playwright.sync_api import expect

from tests.e2e.api import Api
from tests.e2e.dashboards import root, visit_server
from tests.e2e.quick_agents import open_quick_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

EXAMPLE = Path(__file__).parents[2] / "examples" / "feature"
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as an installer would unpack its wheel."""
    folder = tmp_path_factory.mktemp("example")
    build = [str(UV), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(EXAMPLE)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "packages")
    return folder / "packages"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
    installed: Path,
) -> Iterator[ServerProcess]:
    settings = {"PYTHONPATH": str(installed), "CHOWDER_X_NOTES_MAX": "2"}
    folder = tmp_path_factory.mktemp("notes")
    with open_quick_server(folder, engine, request.config, settings) as server:
        server.ensure_up()
        yield server


def told(server: ServerProcess, *words: str) -> str:
    """What our command line says, for this server."""
    done = subprocess.run(
        [*server.command(), *words], env=server.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_feature_is_one_of_the_servers_in_every_way(
    server: ServerProcess, browser: Browser
) -> None:
    with Api(server.base_url, server.key) as api:
        agent = api.created("fish")
        path = f"{root(server)}/local/instances/{agent}/notes"
        events = f"{root(server)}/local/events"
        with api.stream("GET", events, timeout=60) as stream:
            assert api.post(path, json={"text": "It likes tea."}).status_code == 201
            lines = (
                each.removeprefix("data: ") for each in stream.iter_lines() if "note_id" in each
            )
            event = json.loads(next(lines))
        assert (event["type"], event["instance_id"]) == ("note.added", agent)
        assert "Note 2 is added." in told(server, "notes", "add", "fish", "And coffee.")
        assert "It likes tea." in told(server, "notes", "ls", "fish")
        full = api.post(path, json={"text": "And milk."})
        assert full.status_code == 409
        assert full.headers["X-Error-Code"] == "notes_full"
        assert "CHOWDER_X_NOTES_MAX" in full.json()["detail"]

        # The browser's own loop is in this thread.
        with ThreadPoolExecutor(1) as thread:
            listed = thread.submit(anyio.run, list_by_the_editors_tool, server, agent).result()
        assert [each["text"] for each in listed] == ["It likes tea.", "And coffee."]

        with visit_server(browser, server) as page:
            page.goto(f"{root(server)}/instances/{agent}")
            page.get_by_role("link", name="Notes").click()
            expect(page.get_by_role("listitem").filter(has_text="And coffee.")).to_be_visible()

        assert "notes" in api.get(f"{root(server)}/local/health").json()["features"]
        assert "notes" in told(server, "doctor")
        document = api.get(f"{root(server)}/openapi.json").json()
        assert "/local/instances/{instance_id}/notes" in document["paths"]
        api.until(agent, "running")
        assert api.delete(f"instances/{agent}").status_code == 204
        assert api.get(path).json() == []


async def list_by_the_editors_tool(server: ServerProcess, agent: str) -> list[dict[str, str]]:
    command, *arguments = server.command()
    process = StdioServerParameters(
        command=command, args=[*arguments, "mcp", "--stdio"], env=server.env
    )
    async with Client(process) as client:
        result = await client.call_tool("list_notes", {"instance_id": agent})
    content: Any = result.content[0]
    found: list[dict[str, str]] = json.loads(content.text)
    return found
