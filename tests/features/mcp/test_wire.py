"""The tools by the official client, over real sockets on all sides."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, TextResourceContents

from chowder_local.api.access import Access
from chowder_local.api.operations import PICTURE_BODY_BYTES
from chowder_local.app.application import api
from chowder_local.core.domain import Permission
from chowder_local.core.errors.requests import KeyInvalid, KeyMissing
from chowder_local.features.front import all_operations
from chowder_local.features.mcp.tools import EditorTool, tools
from chowder_local.http.listener import with_state
from tests.scripted.serving import loopback_client, no_lifespan, serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chowder_local.core.domain import Instance


@dataclass
class Server:
    """A server with one agent, and clients of its tools."""

    world: World
    url: str
    instance: Instance

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {key or self.world.key}"}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False) as http,
            Client(streamable_http_client(f"{self.url}/mcp", http_client=http)) as client,
        ):
            yield client

    async def scoped_key(self, permission: Permission) -> str:
        async with loopback_client(headers={"Authorization": f"Bearer {self.world.key}"}) as client:
            body = {
                "name": str(permission),
                "instance_ids": [self.instance.id],
                "permissions": [str(permission)],
            }
            answer = await client.post(f"{self.url}/v1/keys", json=body)
            return str(answer.json()["raw_key"])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with open_world(tmp_path) as world:
        instance = await world.created()
        state = world.state
        async with serve(with_state(api([], no_lifespan, world.metrics), state)) as url:
            yield Server(world, url, instance)


def text_of(result: Any) -> str:
    (content,) = result.content
    return str(content.text)


async def test_a_longer_body_than_tools_need_is_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_body_bytes=2 * PICTURE_BODY_BYTES) as world:
        app = with_state(api([], no_lifespan, world.metrics), world.state)
        headers = {"Authorization": f"Bearer {world.key}", "Content-Type": "application/json"}
        async with serve(app) as url, loopback_client(headers=headers) as client:
            answer = await client.post(f"{url}/mcp", content=b" " * (PICTURE_BODY_BYTES + 1))
    assert answer.status_code == 413


async def test_a_message_is_answered_and_its_text_reported_as_it_comes(server: Server) -> None:
    reported: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.append(message or "")

    async with server.client() as client:
        arguments = {"instance_id": server.instance.id, "text": "Hi"}
        result = await client.call_tool("send_message", arguments, progress_callback=note)
    assert not result.is_error
    answer = json.loads(text_of(result))
    assert answer["text"] == "".join(reported) != ""
    assert result.structured_content == answer


async def test_a_refusal_is_told_in_the_words_of_the_api(server: Server) -> None:
    async with server.client() as client:
        unknown = await client.call_tool("get_instance", {"instance_id": "../../v1/keys"})
        incomplete = await client.call_tool("create_instance", {})
        with pytest.raises(MCPError, match="no tool"):
            await client.call_tool("make_tea", {})
    assert unknown.is_error
    assert text_of(unknown).startswith("404 Not Found")
    assert incomplete.is_error
    assert text_of(incomplete) == "create_instance requires: name"


async def test_an_argument_that_a_tool_does_not_have_is_refused(server: Server) -> None:
    message = {"instance_id": server.instance.id, "text": "hi", "sesion": "x"}
    async with server.client() as client:
        sent = await client.call_tool("send_message", message)
        created = await client.call_tool("create_instance", {"name": "Ada", "nmae": "Bo"})
    assert sent.is_error
    assert created.is_error
    assert text_of(sent) == (
        "send_message has no sesion. Did you mean session? "
        "It takes: instance_id, text, session, model"
    )
    assert "has no nmae. Did you mean name?" in text_of(created)


async def test_a_failure_is_explained_from_all_that_is_known(server: Server) -> None:
    async with server.client() as client:
        await client.call_tool("set_fault", {"kind": "message", "status": 429})
        told = await client.call_tool("explain_failure", {"instance_id": server.instance.id})
        findings = await client.call_tool("doctor", {})
    assert "on purpose: message (1 left)" in text_of(told)
    assert any(each["subject"] == "engine" for each in json.loads(text_of(findings)))


async def test_documents_and_transcripts_are_resources(server: Server) -> None:
    async with server.client() as client:
        document = await client.read_resource("chowder://server/openapi.json")
        names = [each.name for each in (await client.list_resource_templates()).resource_templates]
        with pytest.raises(MCPError, match="404"):
            await client.read_resource("chowder://instances/nobody/transcript")
        with pytest.raises(MCPError, match="no resource"):
            await client.read_resource("chowder://instances/nobody/keys")
    (content,) = document.contents
    assert isinstance(content, TextResourceContents)
    assert json.loads(content.text)["openapi"] == "3.1.0"
    assert names == ["transcript", "session-transcript", "recording"]


async def test_a_key_is_needed_as_for_the_api(server: Server) -> None:
    async with loopback_client() as client:
        answer = await client.post(f"{server.url}/mcp", json={})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        error = {"code": INVALID_REQUEST, "message": KeyMissing.message}
        assert answer.json() == {"jsonrpc": "2.0", "id": None, "error": error}
        assert (await client.get(f"{server.url}/mcp")).status_code == 405
    # The client shows it only of JSON-RPC.
    with pytest.raises(ExceptionGroup) as raised:
        async with server.client("chd_org_wrong"):
            pass
    assert raised.group_contains(MCPError, match=KeyInvalid.message)


def may(permission: Permission, tool: EditorTool) -> bool:
    return tool.access in {Access.ANY_KEY, Access(permission)}


@pytest.mark.parametrize("permission", Permission)
async def test_a_scoped_key_sees_and_uses_the_tools_of_its_permission_only(
    server: Server, permission: Permission
) -> None:
    async with server.client(await server.scoped_key(permission)) as client:
        seen = {each.name for each in (await client.list_tools()).tools}
        assert seen == {
            name for name, tool in tools(all_operations()).items() if may(permission, tool)
        }
        for name, tool in tools(all_operations()).items():
            arguments = dict.fromkeys(tool.schema.get("required", ()), "x")
            if "instance_id" in arguments:
                arguments["instance_id"] = server.instance.id
            result = await client.call_tool(name, arguments)
            is_refused = "403" in text_of(result) or "organization" in text_of(result)
            assert (result.is_error and is_refused) is not may(permission, tool), name


async def test_tools_that_cannot_start_are_an_error_with_words_and_start_with_a_later_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": f"Bearer {server.world.key}"}
    async with loopback_client(headers=headers) as client:
        with monkeypatch.context() as patched:
            # Fails only where files are missing from an installation.
            patched.setitem(sys.modules, "mcp.server.streamable_http_manager", None)
            answers = await asyncio.gather(
                *(client.post(f"{server.url}/mcp", json={}) for _ in range(2))
            )
    for answer in answers:
        assert answer.status_code == 500
        assert "could not start" in answer.json()["error"]["message"]
    async with server.client() as client:
        assert (await client.list_tools()).tools
