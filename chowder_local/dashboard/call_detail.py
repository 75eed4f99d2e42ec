"""One model call in full, and the actions that reuse it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import untrusted_json
from chowder_local.core.errors.requests import ExchangeNotFound
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.dashboard.inspector import HERE, all_calls, build_rows
from chowder_local.dashboard.pages import notice, page
from chowder_local.dashboard.snippets import provider_curl
from chowder_local.dashboard.timeline import TimelineRow, timeline
from chowder_local.http.services import caller, services
from chowder_local.relay.metering import Meter
from chowder_local.relay.prompt_format.user_messages import clean
from chowder_local.relay.scripts.files import make_script, serialize
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.turn_steps import steps_of
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.wire.conversation import Conversation, Turn
    from chowder_local.relay.wire.wire_format import ModelOutput, Usage

FAILURE_STATUS = 502
INDENTED_MAX_TIMES = 4
"""How many times as long a request may become by its indentation."""


@dataclass(frozen=True)
class PromptTurn:
    """A turn of the prompt; `name` is the name of a called tool."""

    role: str
    parts: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class ParsedCall:
    """A call's content; `prompt` is None if it is no conversation, such as embeddings."""

    prompt: Conversation | None
    turns: list[PromptTurn]
    answer: ModelOutput
    usage: Usage | None
    cost_usd: float | None
    script: ReplyScript | None
    """It answers the same request in the same way."""
    request_text: str
    curl: str

    @property
    def script_text(self) -> str | None:
        return None if self.script is None else serialize(self.script)


async def show(request: Request) -> Response:
    call = _find(request)
    (row,) = await build_rows(request, [call])
    same_turn = [
        each
        for each in all_calls(request)
        if call.turn_id is not None and each.turn_id == call.turn_id
    ]
    traced = None
    if call.instance_id is not None:
        traced = services(request).traces.with_call(call.instance_id, call.id)
    return await page(
        request,
        "call.html",
        traced=traced,
        timeline=[] if traced is None else await _timeline(request, traced),
        here=HERE,
        row=row,
        call=call,
        content=await asyncio.to_thread(_parse, call),
        turn=(await build_rows(request, same_turn))[::-1],
    )


async def _timeline(request: Request, turn: TracedTurn) -> list[TimelineRow]:
    found = map(services(request).call_log.find, turn.exchange_ids)
    calls = [each for each in found if each is not None]
    # Long conversations take time to parse.
    return await asyncio.to_thread(lambda: timeline(turn, steps_of(calls, turn.at)))


async def add_to_script(request: Request) -> Response:
    """Adds a rule: the offline model gives this answer to the same request of this agent."""
    call = _find(request)
    content = await asyncio.to_thread(_parse, call)
    if content.script is None or call.instance_id is None:
        raise ExchangeNotFound
    scripts = services(request).scripts
    running = scripts.get(call.instance_id)
    script = running.script if running is not None else ReplyScript()
    joined = {
        "tools": sorted({*content.script.tools, *script.tools}),
        "replies": [*content.script.replies, *script.replies],
    }
    scripts.put(call.instance_id, script.model_copy(update=joined))
    text = f"The rule is in force for this agent, before {len(script.replies)} other rules."
    return notice(request, text)


async def fail_next_message(request: Request) -> Response:
    call = _find(request)
    draft = FaultDraft(
        FaultKind.MESSAGE,
        instance_id=call.instance_id,
        status=FAILURE_STATUS,
        detail="Requested on the dashboard.",
    )
    services(request).faults.add(caller(request).organization_id, draft)
    text = f"The agent's next message fails with {FAILURE_STATUS}. “Faults” lists this fault."
    return notice(request, text)


def _find(request: Request) -> LoggedCall:
    organization_id = caller(request).organization_id
    call = services(request).call_log.get(organization_id, request.path_params["exchange_id"])
    if call is None:
        raise ExchangeNotFound
    return call


def _parse(call: LoggedCall) -> ParsedCall:
    parsed = call.call.parse()
    prompt = parsed.conversation if isinstance(parsed, ParsedRequest) else None
    answer = call.output
    meter = Meter(call.call.wire)
    meter.feed(call.answer)
    usage = meter.usage
    return ParsedCall(
        prompt=prompt,
        turns=[_prompt_turn(turn) for turn in prompt.turns] if prompt else [],
        answer=answer,
        usage=usage,
        cost_usd=None if usage is None else call.cost_usd(usage),
        script=make_script(prompt, answer, call.status) if prompt and call.outcome else None,
        request_text=_indented(call.request),
        curl=provider_curl(call),
    )


def _prompt_turn(turn: Turn) -> PromptTurn:
    if isinstance(turn, UserMessage):
        # OpenClaw also writes messages in the user's role.
        return PromptTurn("user" if any(map(clean, turn.parts)) else "OpenClaw", turn.parts)
    if isinstance(turn, AssistantText):
        return PromptTurn("model", (turn.text,))
    if isinstance(turn, ToolCall):
        return PromptTurn("calls", (turn.arguments_json,), turn.name)
    return PromptTurn("result", (turn.text,), turn.name)


def _indented(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        content = untrusted_json.read(text)
    except ValueError:
        return text
    pieces, left = [], INDENTED_MAX_TIMES * max(len(text), 1000)
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(content):
        # Many values on many levels would be gigabytes of indentation.
        if (left := left - len(piece)) < 0:
            return text
        pieces.append(piece)
    return "".join(pieces)
