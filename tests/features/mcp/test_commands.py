"""`mcp`: what it prints for editors, and the process that serves one."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from chowder_local.app.application import api
from chowder_local.cli.main import run
from chowder_local.http.listener import with_state
from tests.scripted.serving import no_lifespan
from tests.scripted.serving import serve as serve_app
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    Serve = Callable[[dict[str, Any]], tuple[dict[str, str], list[Any]]]


def test_the_lines_for_editors_have_no_key(
    serve_answers: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    env, _ = serve_answers({})
    assert run(["mcp"], env) == 0
    printed = capsys.readouterr().out
    assert "chd_org_" not in printed
    lines = printed.splitlines()
    (claude,) = (line for line in lines if "claude mcp add" in line)
    (cursor,) = (line for line in lines if "mcpServers" in line and "{" in line)
    process = json.loads(cursor)["mcpServers"]["chowder-local"]
    assert [process["command"], *process["args"]] == shlex.split(claude)[5:]
    assert process["args"] == ["--data-dir", env["CHOWDER_DATA_DIR"], "mcp", "--stdio"]


def test_for_another_server_only_its_address_is_told(
    serve_answers: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    env, _ = serve_answers({})
    assert run(["mcp"], env | {"CHOWDER_BASE_URL": "http://10.0.0.7:2469/v1"}) == 0
    printed = capsys.readouterr().out
    assert "http://10.0.0.7:2469/mcp" in printed
    assert "--stdio" not in printed


async def test_the_process_passes_on_tools_answers_progress_and_resources(tmp_path: Path) -> None:
    said: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    async with open_world(tmp_path) as world:
        instance = await world.created()
        app = with_state(api([], no_lifespan, world.metrics), world.state)
        async with serve_app(app) as url:
            env = {"CHOWDER_BASE_URL": f"{url}/v1", "CHOWDER_KEY": world.key, "PATH": "/nowhere"}
            env["CHOWDER_DATA_DIR"] = str(tmp_path)
            arguments = ["-m", "chowder_local", "mcp", "--stdio"]
            process = StdioServerParameters(command=sys.executable, args=arguments, env=env)
            async with Client(process) as client:
                tools = await client.list_tools()
                message = {"instance_id": instance.id, "text": "Hi"}
                answer = await client.call_tool("send_message", message, progress_callback=note)
                document = await client.read_resource("chowder://server/openapi.json")
                templates = await client.list_resource_templates()
                (resource,) = (await client.list_resources()).resources
    assert "explain_failure" in {each.name for each in tools.tools}
    assert answer.structured_content is not None
    assert answer.structured_content["text"] == "".join(said) != ""
    assert document.contents[0].uri == resource.uri
    assert len(templates.resource_templates) == 3
