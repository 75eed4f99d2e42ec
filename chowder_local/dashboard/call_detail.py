"""Handlers: one model call, whole, and what can be made of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.requests import ExchangeNotFound
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.dashboard.call_rows import call_lines
from chowder_local.dashboard.curl import curl
from chowder_local.dashboard.inspector import HERE
from chowder_local.dashboard.services import fragment, page
from chowder_local.http.services import caller, services
from chowder_local.relay.metering import Meter
from chowder_local.relay.prices import cost_usd
from chowder_local.relay.prompt_format.user_messages import clean
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.scripts.serializer import rule_of
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.request_format import ParsedRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.scripts.rules import Rule
    from chowder_local.relay.wire.conversation import Conversation, Turn
    from chowder_local.relay.wire.wire_format import ModelOutput, Usage

FAILURE_STATUS = 502


@dataclass(frozen=True)
class Spoken:
    """A turn of a conversation: who speaks, and each part of it, the person's words last."""

    who: str
    parts: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Sheet:
    """A call, read; `asked` is None for what is no conversation, such as embeddings."""

    asked: Conversation | None
    spoken: list[Spoken]
    said: ModelOutput
    usage: Usage | None
    cost_usd: float | None
    rule: Rule | None
    request_text: str
    answer_text: str
    curl: str

    @property
    def rule_text(self) -> str | None:
        """The rule as a file has it."""
        if self.rule is None:
            return None
        # Few servers are asked for one.
        import yaml

        written = {"replies": [self.rule.model_dump(mode="json", exclude_unset=True)]}
        return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=100)


async def show(request: Request) -> Response:
    """All that was sent and answered."""
    call = _call(request)
    (line,) = await call_lines(request, [call])
    same_turn = [
        each
        for each in services(request).exchanges.of_organization(caller(request).organization_id)
        if call.turn_id is not None and each.turn_id == call.turn_id
    ]
    return await page(
        request,
        "exchange.html",
        here=HERE,
        line=line,
        call=call,
        sheet=await asyncio.to_thread(_read, call),
        turn=(await call_lines(request, same_turn))[::-1],
    )


async def script(request: Request) -> Response:
    """Has the offline model say it again whenever this agent is asked the same."""
    call = _call(request)
    sheet = await asyncio.to_thread(_read, call)
    if sheet.rule is None or call.instance_id is None:
        raise ExchangeNotFound
    scripts = services(request).scripts
    running = scripts.of(call.instance_id)
    before = running.script if running is not None else ReplyScript()
    replies = [sheet.rule, *before.replies]
    scripts.put(call.instance_id, before.model_copy(update={"replies": replies}))
    words = f"In force for this agent, before {len(before.replies)} other rules of its own."
    return fragment(request, "told.html", words=words)


async def fail(request: Request) -> Response:
    """Lets the agent's next message fail."""
    call = _call(request)
    draft = FaultDraft(
        FaultKind.MESSAGE, instance_id=call.instance_id, status=FAILURE_STATUS,
        detail="Asked for on the dashboard.",
    )  # fmt: skip
    services(request).faults.add(caller(request).organization_id, draft)
    words = f"The agent's next call for a message fails with {FAILURE_STATUS}; see the faults."
    return fragment(request, "told.html", words=words)


def _call(request: Request) -> LoggedCall:
    organization_id = caller(request).organization_id
    found = services(request).exchanges.get(organization_id, request.path_params["exchange_id"])
    if found is None:
        raise ExchangeNotFound
    return found


def _read(call: LoggedCall) -> Sheet:
    parsed = call.call.parse()
    asked = parsed.conversation if isinstance(parsed, ParsedRequest) else None
    said = call.output
    meter = Meter(call.call.wire)
    meter.feed(call.answer)
    usage = meter.usage
    cost = None
    if usage is not None:
        cost = cost_usd(call.model, usage, is_billed=call.source == "provider")
    return Sheet(
        asked=asked,
        spoken=[_spoken(turn) for turn in asked.turns] if asked else [],
        said=said,
        usage=usage,
        cost_usd=cost,
        rule=rule_of(asked, said, call.status) if asked and call.outcome else None,
        request_text=_indented(call.request),
        answer_text=_indented(call.answer),
        curl=curl(call),
    )


def _spoken(turn: Turn) -> Spoken:
    if isinstance(turn, UserMessage):
        # OpenClaw says things in the user's name.
        return Spoken("user" if any(map(clean, turn.parts)) else "OpenClaw", turn.parts)
    if isinstance(turn, AssistantText):
        return Spoken("model", (turn.text,))
    if isinstance(turn, ToolCall):
        return Spoken("calls", (turn.arguments_json,), turn.name)
    return Spoken("result", (turn.text,), turn.name)


def _indented(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(found, indent=2, ensure_ascii=False)
