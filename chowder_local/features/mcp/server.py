"""The protocol's server: its tools and resources are calls of the API, with the client's key."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from chowder_local import __version__
from chowder_local.api.access import Access
from chowder_local.api.operations import IN_PATH
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import OrganizationKeyRequired
from chowder_local.core.strict_model import MAX_NAME_CHARS, MAX_UNKNOWN, nearest
from chowder_local.core.visible_text import visible_text
from chowder_local.features.mcp.tools import (
    CHANGES_STATUS,
    EXPLAIN_FAILURE,
    SEND_MESSAGE,
    EditorTool,
)
from chowder_local.openclaw.models import DEFAULT_MODELS
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    import httpx
    from mcp.server.context import ServerRequestContext

    from chowder_local.api.operations import Operation
    from chowder_local.core.domain import Caller
    from chowder_local.diagnostics.checks import ServerDiagnosis

    Context = ServerRequestContext[Any]
    Progress = Callable[[float, str], Awaitable[None]]


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
    tools: Mapping[str, EditorTool]

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
            tools=[
                _described(each) for each in self.tools.values() if _may_use(caller, each.access)
            ]
        )

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = self.tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name}.")
        arguments = params.arguments or {}
        missing = [name for name in tool.schema.get("required", ()) if name not in arguments]
        if missing:
            return _result(f"{tool.name} requires: {', '.join(missing)}", is_error=True)
        members = tool.schema["properties"]
        if unknown := sorted(arguments.keys() - members.keys())[:MAX_UNKNOWN]:
            near = nearest(unknown[0], members)
            names = ", ".join(each[:MAX_NAME_CHARS] for each in unknown)
            question = f" Did you mean {near}?" if near else ""
            allowed = ", ".join(members) or "none"
            return _result(
                f"{tool.name} has no {names}.{question} It takes: {allowed}", is_error=True
            )
        try:
            return _result(await self._use(context, tool, arguments))
        except (CallRefused, OrganizationKeyRequired) as refused:
            return _result(str(refused), is_error=True)

    async def _use(self, context: Context, tool: EditorTool, arguments: Mapping[str, Any]) -> Any:
        calls = self.calls_of(context)
        if tool.operation is not None:
            return await calls.perform(tool.operation, arguments)
        if tool.name == SEND_MESSAGE:
            return await _send(calls, **arguments)
        if tool.name == EXPLAIN_FAILURE:
            return await _explain(calls, escaped(arguments["instance_id"]))
        # The only other tool is the doctor.
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
) -> dict[str, Any]:
    if model is None:
        # Every key may list instances, but only a key with the permission may read one.
        listed = await calls.call("GET", "/v1/instances")
        providers = {each["id"]: each["model_provider"] for each in listed}
        model = DEFAULT_MODELS[ModelProvider(providers.get(instance_id, ModelProvider.ANTHROPIC))]
    answer = await calls.answer(instance_id, text, session, model)
    parts = (part for item in answer["output"] for part in item.get("content", ()))
    answer_text = "".join(part.get("text", "") for part in parts)
    return {"text": answer_text, "response_id": answer["id"], "usage": answer.get("usage")}


async def _explain(calls: Calls, instance_id: str) -> dict[str, Any]:
    # The first call refuses a key without the permission and an unknown id.
    settings = await calls.call("GET", f"/local/instances/{instance_id}")
    instance, model_calls, faults, log = await asyncio.gather(
        calls.call("GET", f"/v1/instances/{instance_id}"),
        calls.call("GET", f"/local/instances/{instance_id}/model-calls"),
        calls.call("GET", "/local/faults"),
        _log(calls, instance_id),
    )
    is_hibernated = settings["is_hibernated"]
    return explain(instance, model_calls, faults, log, is_hibernated=is_hibernated)


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


def _described(tool: EditorTool) -> types.Tool:
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
    # An editor shows the command of an approval: nothing in it is hidden or turned.
    is_text = isinstance(value, str)
    text = value if is_text else visible_text(json.dumps(value, ensure_ascii=False))
    if not text or value is None:
        text = "Done."
    content = types.TextContent(type="text", text=text)
    structured = value if isinstance(value, dict) else None
    return types.CallToolResult(content=[content], structured_content=structured, is_error=is_error)


POLL_INTERVAL_S = 0.1
LAST_LINES = 200


class CallRefused(ChowderError):
    """The API refused a call; the message is its own."""


@dataclass(frozen=True)
class Calls:
    """Calls of one client, whose headers name its key, to this server at `root_url`."""

    http: httpx.AsyncClient
    root_url: str
    headers: Mapping[str, str]
    on_progress: Progress

    async def perform(self, operation: Operation, arguments: Mapping[str, Any]) -> Any:
        """The answer of an operation. Raises CallRefused if the API refuses it."""
        left = dict(arguments)
        path = IN_PATH.sub(lambda match: escaped(left.pop(match[1])), operation.path)
        names = operation.query.model_fields if operation.query else ()
        query = {name: left.pop(name) for name in names if name in left}
        is_json = isinstance(operation.body, type) and issubclass(operation.body, BaseModel)
        answer = await self.call(operation.method, path, query, left if is_json else None)
        if operation.operation_id in CHANGES_STATUS:
            return await self._until_provisioned(answer)
        return answer

    async def call(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The answer of a call: JSON, or else text. Raises CallRefused if the API refuses it."""
        response = await self.http.request(
            method, self.root_url + path, params=query, json=body, headers=dict(self.headers)
        )
        if not response.is_success:
            raise CallRefused(_message(response.status_code, response.text))
        if "json" in response.headers.get("Content-Type", ""):
            return response.json()
        return response.text

    async def answer(
        self, instance_id: str, text: str, session: str | None, model: str
    ) -> dict[str, Any]:
        """An agent's whole answer, whose text is reported as it comes. Raises CallRefused."""
        whose = "" if session is None else f"/session/{escaped(session)}"
        path = f"/v1/instances/{escaped(instance_id)}{whose}/responses"
        body = {"model": model, "input": text, "stream": True}
        length = 0
        async with self.http.stream(
            "POST", self.root_url + path, json=body, headers=dict(self.headers)
        ) as response:
            if not response.is_success:
                await response.aread()
                raise CallRefused(_message(response.status_code, response.text))
            async for event in _events(response):
                kind = event.get("type")
                if kind == "response.output_text.delta":
                    length += len(event["delta"])
                    await self.on_progress(length, event["delta"])
                elif kind == "response.completed":
                    return dict(event["response"])
                elif kind in {"response.failed", "error"}:
                    error = event.get("response", event).get("error") or event
                    raise CallRefused(str(error.get("message") or "The answer failed."))
        raise CallRefused("The answer broke off before its end.")

    async def _until_provisioned(self, instance: dict[str, Any]) -> dict[str, Any]:
        path = f"/v1/instances/{instance['id']}"
        began, last = time.monotonic(), -1
        while instance["status"] == "provisioning":
            if (took_s := int(time.monotonic() - began)) > last:
                last = took_s
                await self.on_progress(took_s, f"provisioning for {took_s} s")
            await asyncio.sleep(POLL_INTERVAL_S)
            status = await self.call("GET", f"{path}/status")
            if status["status"] != "provisioning":
                instance = await self.call("GET", path)
        return instance


def escaped(argument: Any) -> str:
    """An argument as one segment of a path."""
    return quote(str(argument), safe="")


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    reader = EventReader()
    async for chunk in response.aiter_bytes():
        for event in reader.feed(chunk):
            if event.data is not None and event.data != "[DONE]":
                yield json.loads(event.data)


def _message(status: int, text: str) -> str:
    """The words of an error in any of the contract's shapes, which are sent on as they are."""
    phrase = HTTPStatus(status).phrase
    return f"{status} {phrase}: {text.strip()[:4000]}"


SUSPICIOUS = re.compile(r"error|fail|refus|denied|timeout|timed out|invalid|fatal", re.IGNORECASE)
MAX_LINES = 20

Json = dict[str, Any]


def explain(
    instance: Json,
    calls: Sequence[Json],
    faults: Sequence[Json],
    log: Sequence[str],
    *,
    is_hibernated: bool = False,
) -> Json:
    """All that is known of a failure, and a `summary` for a person.

    `calls` are the agent's model calls, the latest first; `faults` the organization's; `log` the
    last lines of its sandbox.
    """
    own = [each for each in faults if each["instance_id"] in (None, instance["id"])]
    failed = next((each for each in calls if _has_failed(each)), None)
    is_over = failed is not None and failed is not calls[0]
    suspicious = [line for line in log if SUSPICIOUS.search(line)][-MAX_LINES:]
    return {
        "summary": " ".join(_sentences(instance, failed, own, is_over=is_over)),
        "status": instance["status"],
        "error_message": instance["error_message"],
        "is_hibernated": is_hibernated,
        "failed_model_call": failed,
        "faults": own,
        "log": suspicious or list(log)[-MAX_LINES:],
    }


def _has_failed(call: Mapping[str, Any]) -> bool:
    return call["error"] is not None or (call["status"] or 0) >= 400


def _sentences(
    instance: Json, failed: Json | None, faults: Sequence[Json], *, is_over: bool
) -> list[str]:
    sentences: list[str] = []
    if instance["status"] == "error":
        sentences.append(f"The instance is in error: {instance['error_message']}")
    elif instance["status"] != "running":
        sentences.append(
            f"The instance is {instance['status']}, and takes messages when it is running."
        )
    if failed is not None:
        why = failed["error"] or f"the provider answered {failed['status']}"
        sentences.append(f"The model call {failed['id']} to {failed['provider']} failed: {why}.")
        if is_over:
            sentences.append("Later calls succeeded.")
    if faults:
        kinds = ", ".join(f"{each['kind']} ({each['left']} left)" for each in faults)
        sentences.append(f"Faults are set, which make calls fail on purpose: {kinds}.")
    return sentences or ["Nothing has failed: it runs, its model calls succeeded, no fault is set."]
