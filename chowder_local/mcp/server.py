"""The protocol's server: lists and calls the tools, and reads the resources."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from chowder_local import __version__
from chowder_local.api.access import Access
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.requests import OrganizationKeyRequired
from chowder_local.mcp.calls import LAST_LINES, CallRefused, Calls, escaped
from chowder_local.mcp.explanation import explain
from chowder_local.mcp.tools import EXPLAIN_FAILURE, SEND_MESSAGE, Tool, tools
from chowder_local.openclaw.models import DEFAULT_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.context import ServerRequestContext

    from chowder_local.core.domain import Caller
    from chowder_local.diagnostics.checks import ServerDiagnosis

    Context = ServerRequestContext[Any]

INSTRUCTIONS = (
    "Tools of chowder-local, which runs OpenClaw agents on this machine. List the instances "
    "first: most tools take an instance's id. After something unexpected, explain_failure says "
    "what is known."
)
SCHEME = "chowder"
DOCUMENT = f"{SCHEME}://server/openapi.json"
OF_INSTANCE = f"{SCHEME}://instances/{{instance_id}}"
TEMPLATES: Mapping[str, tuple[str, str]] = {
    f"{OF_INSTANCE}/transcript": ("transcript", "The main conversation of an agent."),
    f"{OF_INSTANCE}/sessions/{{session_id}}/transcript": (
        "session-transcript",
        "A named conversation of an agent.",
    ),
    f"{OF_INSTANCE}/recording": ("recording", "An agent's recorded model calls, for a replay."),
}
JSON = "application/json"


@dataclass(frozen=True)
class ToolServer:
    """Answers requests of the protocol by calls of the API, with the key of their client."""

    calls_of: Callable[[Context], Calls]
    caller_of: Callable[[Context], Caller]
    diagnosis: ServerDiagnosis

    def make(self) -> Server[Any]:
        return Server(
            "chowder-local",
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=_list_resources,
            on_list_resource_templates=_list_templates,
            on_read_resource=self._read_resource,
        )

    async def _list_tools(
        self, context: Context, _: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        caller = self.caller_of(context)
        return types.ListToolsResult(
            tools=[_described(each) for each in tools().values() if _may_use(caller, each.access)]
        )

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = tools().get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name}.")
        arguments = params.arguments or {}
        missing = [name for name in tool.schema.get("required", ()) if name not in arguments]
        if missing:
            return _result(f"{tool.name} requires: {', '.join(missing)}", is_error=True)
        try:
            return _result(await self._use(context, tool, arguments))
        except (CallRefused, OrganizationKeyRequired) as refused:
            return _result(str(refused), is_error=True)

    async def _use(self, context: Context, tool: Tool, arguments: Mapping[str, Any]) -> Any:
        calls = self.calls_of(context)
        if tool.operation is not None:
            return await calls.perform(tool.operation, arguments)
        if tool.name == SEND_MESSAGE:
            return await _send(calls, **arguments)
        if tool.name == EXPLAIN_FAILURE:
            return await _explain(calls, escaped(arguments["instance_id"]))
        # What remains is the doctor.
        if not self.caller_of(context).is_organization_key:
            raise OrganizationKeyRequired
        _, findings = await self.diagnosis.report()
        return [{**vars(each), "level": str(each.level)} for each in findings]

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            content = await self.calls_of(context).call("GET", _path_of(uri))
        except CallRefused as refused:
            raise MCPError(types.INVALID_PARAMS, str(refused)) from refused
        text = types.TextResourceContents(uri=uri, mime_type=JSON, text=json.dumps(content))
        return types.ReadResourceResult(contents=[text])


async def _list_resources(
    _: Context, __: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    document = types.Resource(
        uri=DOCUMENT, name="openapi", description="The API as an OpenAPI document.", mime_type=JSON
    )
    return types.ListResourcesResult(resources=[document])


async def _list_templates(
    _: Context, __: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[
            types.ResourceTemplate(uri_template=uri, name=name, description=text, mime_type=JSON)
            for uri, (name, text) in TEMPLATES.items()
        ]
    )


async def _send(
    calls: Calls,
    instance_id: str,
    text: str,
    session: str | None = None,
    model: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    if model is None:
        # The list is for any key, an instance itself only for one that may read it.
        listed = await calls.call("GET", "/v1/instances")
        providers = {each["id"]: each["model_provider"] for each in listed}
        model = DEFAULT_MODELS[ModelProvider(providers.get(instance_id, ModelProvider.ANTHROPIC))]
    answer = await calls.answer(instance_id, text, session, model)
    parts = (part for item in answer["output"] for part in item.get("content", ()))
    answer_text = "".join(part.get("text", "") for part in parts)
    return {"text": answer_text, "response_id": answer["id"], "usage": answer.get("usage")}


async def _explain(calls: Calls, instance_id: str) -> dict[str, Any]:
    # The first call refuses a key that may not, and an id that is unknown.
    settings = await calls.call("GET", f"/local/instances/{instance_id}")
    instance, exchanges, faults, log = await asyncio.gather(
        calls.call("GET", f"/v1/instances/{instance_id}"),
        calls.call("GET", f"/local/instances/{instance_id}/exchanges"),
        calls.call("GET", "/local/faults"),
        _log(calls, instance_id),
    )
    is_hibernated = settings["is_hibernated"]
    return explain(instance, exchanges, faults, log, is_hibernated=is_hibernated)


async def _log(calls: Calls, instance_id: str) -> list[str]:
    """The last lines of the sandbox's log, or why there are none."""
    try:
        text = await calls.call("GET", f"/local/instances/{instance_id}/logs", {"tail": LAST_LINES})
    except CallRefused as refused:
        return [str(refused)]
    return str(text).splitlines()


def _path_of(uri: str) -> str:
    """The path of the call that a resource stands for. Raises MCPError if there is none."""
    if uri == DOCUMENT:
        return "/openapi.json"
    parts = urlsplit(uri)
    match parts.path.split("/")[1:]:
        case [_, "transcript"] | [_, "recording"] | [_, "sessions", _, "transcript"] if (
            parts.scheme == SCHEME and parts.netloc == "instances"
        ):
            return f"/local/instances{parts.path}"
    raise MCPError(types.INVALID_PARAMS, f"There is no resource {unquote(uri)}.")


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=dict(tool.schema),
        annotations=types.ToolAnnotations(
            read_only_hint=tool.is_read_only,
            destructive_hint=tool.is_destructive,
            open_world_hint=False,
        ),
    )


def _may_use(caller: Caller, access: Access) -> bool:
    """Whether the caller's key may use a tool for at least one instance."""
    if caller.is_organization_key or access in {Access.ANYONE, Access.ANY_KEY}:
        return True
    return any(access.permission in granted for granted in caller.grants.values())


def _result(value: Any, *, is_error: bool = False) -> types.CallToolResult:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text or value is None:
        text = "Done."
    content = types.TextContent(type="text", text=text)
    structured = value if isinstance(value, dict) else None
    return types.CallToolResult(content=[content], structured_content=structured, is_error=is_error)
