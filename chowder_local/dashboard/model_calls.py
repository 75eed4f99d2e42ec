"""Model calls: the live list of all agents', one in full, and commands that repeat it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, Field

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.core.errors.requests import ModelCallNotFound
from chowder_local.core.fault_injection import FaultDraft, FaultKind
from chowder_local.core.model_endpoints import MODEL_KEY_VARIABLES
from chowder_local.core.visible_text import visible_text
from chowder_local.dashboard.charts import TimelineRow, timeline
from chowder_local.dashboard.instances import instance_names
from chowder_local.dashboard.pages import (
    dashboard,
    notice,
    page,
    part,
    with_query,
)
from chowder_local.dashboard.streams import (
    LiveStream,
    PageEvent,
    RowChanged,
    changed_rows,
    each_news,
)
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.relay.calls import wire_format
from chowder_local.relay.metering import Meter
from chowder_local.relay.prompt_format import clean
from chowder_local.relay.scripts.files import make_script, serialize
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.turn_steps import steps_of
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.streams import Marks
    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.wire.conversation import Conversation, PromptTurn
    from chowder_local.relay.wire.wire_format import ModelOutput, Usage

MODELS = {
    "anthropic": "claude-sonnet-4-20250514",
    "openai": "gpt-4o",
    "gemini": "gemini-2.5-flash",
}
PROVIDER_URLS = {
    ModelProvider.ANTHROPIC: "https://api.anthropic.com",
    ModelProvider.OPENAI: "https://api.openai.com",
    ModelProvider.GEMINI: "https://generativelanguage.googleapis.com",
}
GREETING = "Hey! Who are you and what can you do?"


@dataclass(frozen=True)
class Snippet:
    """Text to copy; `id` is the HTML element's."""

    id: str
    title: str
    text: str


def snippets(instance: Instance | None) -> list[Snippet]:
    """Commands that send a message to a running agent, or create the first instance.

    They read the key from the environment, as `chowder-local env` sets it.
    """
    if instance is None:
        path, body = "", {"name": "my-first-agent"}
    else:
        path = f"/{instance.id}/responses"
        body = {"model": model_of(instance.model_provider), "input": GREETING}
    return [
        Snippet("curl", "curl", _curl(path, body)),
        Snippet("python", "Python", _python(path, body)),
        Snippet("javascript", "JavaScript", _javascript(path, body)),
    ]


def model_of(provider: ModelProvider) -> str:
    """The provider's default model on the dashboard."""
    return MODELS[provider.value]


def _curl(path: str, body: dict[str, str]) -> str:
    return (
        f'curl -s "$CHOWDER_BASE_URL/instances{path}" \\\n'
        '  -H "Authorization: Bearer $CHOWDER_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{json.dumps(body)}'"
    )


def _python(path: str, body: dict[str, str]) -> str:
    return f"""import json, os, urllib.request

request = urllib.request.Request(
    os.environ["CHOWDER_BASE_URL"] + "/instances{path}",
    json.dumps({json.dumps(body)}).encode(),
    {{
        "Authorization": "Bearer " + os.environ["CHOWDER_KEY"],
        "Content-Type": "application/json",
    }},
)
print(json.dumps(json.load(urllib.request.urlopen(request)), indent=2))"""


def _javascript(path: str, body: dict[str, str]) -> str:
    return f"""const {{ CHOWDER_BASE_URL, CHOWDER_KEY }} = process.env;
const answer = await fetch(`${{CHOWDER_BASE_URL}}/instances{path}`, {{
  method: "POST",
  headers: {{ Authorization: `Bearer ${{CHOWDER_KEY}}`, "Content-Type": "application/json" }},
  body: JSON.stringify({json.dumps(body)}),
}});
console.log(JSON.stringify(await answer.json(), null, 2));"""


def provider_curl(call: ModelCall) -> str:
    """A curl command that sends a model call's body to its provider.

    Path and body come from an agent, so they are quoted for the shell; the key is a variable.
    """
    path = shlex.quote(f"/{call.path.lstrip('/')}")
    if call.provider in set(ModelProvider):
        provider = ModelProvider(call.provider)
        url, headers = PROVIDER_URLS[provider], _provider_headers(provider)
    else:
        url, headers = f'"${re.sub("[^A-Z0-9]", "_", call.provider.upper())}_URL"', []
    options = [f'-H "{each}"' for each in ("content-type: application/json", *headers)]
    body = shlex.quote(call.body.decode("utf-8", "replace"))
    return " \\\n  ".join([f"curl -sS {url}{path}", *options, f"--data-raw {body}"])


def _provider_headers(provider: ModelProvider) -> list[str]:
    name, value = wire_format(provider).credential(f"${MODEL_KEY_VARIABLES[provider]}")
    others = ["anthropic-version: 2023-06-01"] if provider is ModelProvider.ANTHROPIC else []
    return [f"{name}: {value}", *others]


FAILURE_STATUS = 502
INDENTED_MAX_TIMES = 4
"""How many times as long a request may become by its indentation."""


@dataclass(frozen=True)
class TurnRow:
    """A turn of the prompt; `name` is the name of a called tool."""

    role: str
    parts: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class ParsedCall:
    """A call's content; `prompt` is None if it is no conversation, such as embeddings."""

    prompt: Conversation | None
    turns: list[TurnRow]
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


async def show_call(request: Request) -> Response:
    call = call_of(request)
    (row,) = await build_rows(request, [call])
    same_turn = [
        each
        for each in all_calls(request)
        if call.turn_id is not None and each.turn_id == call.turn_id
    ]
    traced = None
    if call.instance_id is not None:
        traced = services(request).traces.with_call(call.instance_id, call.id)
    content = await asyncio.to_thread(_parse, call)
    held_parts = [each.held_call for each in dashboard(request).parts if call.is_held]
    return await page(
        request,
        "call.html",
        held_parts=[each(request, call, content) for each in held_parts if each is not None],
        traced=traced,
        timeline=[] if traced is None else await _timeline(request, traced),
        here=HERE,
        row=row,
        call=call,
        content=content,
        turn=(await build_rows(request, same_turn))[::-1],
    )


async def _timeline(request: Request, turn: TracedTurn) -> list[TimelineRow]:
    found = map(services(request).call_log.find, turn.model_call_ids)
    calls = [each for each in found if each is not None]
    # Long conversations take time to parse.
    return await asyncio.to_thread(lambda: timeline(turn, steps_of(calls, turn.at)))


async def add_to_script(request: Request) -> Response:
    """Adds a rule: the offline model gives this answer to the same request of this agent."""
    call = call_of(request)
    content = await asyncio.to_thread(_parse, call)
    if content.script is None or call.instance_id is None:
        raise ModelCallNotFound
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
    call = call_of(request)
    draft = FaultDraft(
        FaultKind.MESSAGE,
        instance_id=call.instance_id,
        status=FAILURE_STATUS,
        detail="Requested on the dashboard.",
    )
    services(request).faults.add(caller(request).organization_id, draft)
    text = f"The agent's next message fails with {FAILURE_STATUS}. “Faults” lists this fault."
    return notice(request, text)


def call_of(request: Request) -> ModelCall:
    organization_id = caller(request).organization_id
    call = services(request).call_log.get(organization_id, request.path_params["model_call_id"])
    if call is None:
        raise ModelCallNotFound
    return call


def _parse(call: ModelCall) -> ParsedCall:
    parsed = call.request.parse()
    prompt = parsed.conversation if isinstance(parsed, ParsedRequest) else None
    answer = call.output
    meter = Meter(call.request.wire)
    meter.feed(call.answer)
    usage = meter.usage
    return ParsedCall(
        prompt=prompt,
        turns=[_prompt_turn(turn) for turn in prompt.turns] if prompt else [],
        answer=answer,
        usage=usage,
        cost_usd=None if usage is None else call.cost_usd(usage),
        script=make_script(prompt, answer, call.status) if prompt and call.outcome else None,
        request_text=visible_text(_indented(call.body)),
        curl=provider_curl(call),
    )


def _prompt_turn(turn: PromptTurn) -> TurnRow:
    if isinstance(turn, UserMessage):
        # OpenClaw also writes messages in the user's role.
        return TurnRow("user" if any(map(clean, turn.parts)) else "OpenClaw", turn.parts)
    if isinstance(turn, AssistantText):
        return TurnRow("model", (turn.text,))
    if isinstance(turn, ToolCall):
        return TurnRow("calls", (turn.arguments_json,), turn.name)
    return TurnRow("result", (turn.text,), turn.name)


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


HERE = "/model-calls"
MACROS = "_calls.html"
NONE = "none"
"""Stands for the latest call if the list is empty."""
PORTION = 50
TEXT_MAX_CHARS = 160


class CallStatus(StrEnum):
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"


class Filters(BaseModel):
    """Which calls the list shows, and where it starts."""

    q: str = Field("", max_length=128)
    instance: str = Field("", max_length=64)
    model: str = Field("", max_length=200)
    status: Annotated[CallStatus | None, BeforeValidator(lambda text: text or None)] = None
    before: str | None = Field(None, max_length=64)
    since: str | None = Field(None, max_length=64)
    """The latest call on the page; its stream sends what came later."""

    def address(self, path: str = HERE, **changes: str | None) -> str:
        """The address of the page, or of another path, with these filters or changed ones."""
        values: dict[str, str | None] = {"q": self.q, "instance": self.instance}
        values |= {"model": self.model, "status": self.status}
        return with_query(path, **values | changes)

    def match(self, row: CallRow) -> bool:
        if self.status not in {None, row.status} or self.model not in {"", row.model}:
            return False
        texts = (
            row.text,
            row.model,
            row.call.source,
            row.call.error,
            row.session,
            row.instance_name,
        )
        return self.q.lower() in " ".join(filter(None, texts)).lower()


@dataclass(frozen=True)
class Retried:
    """OpenClaw's failed attempts before a call: their number, and the last one."""

    count: int = 0
    call: ModelCall | None = None


@dataclass(frozen=True)
class CallRow:
    """A row of the list; `text` is the beginning of the user's last message."""

    call: ModelCall
    instance_name: str
    session: str
    model: str
    text: str
    retried: Retried

    @property
    def status(self) -> CallStatus:
        if self.call.outcome is None:
            return CallStatus.RUNNING
        return CallStatus.FAILED if has_failed(self.call) else CallStatus.OK

    @property
    def attempt(self) -> int:
        """The number of this attempt, counting retries by OpenClaw and by the relay, from 1."""
        return 1 + self.retried.count + len(self.call.tries)


async def show(request: Request) -> Response:
    """The page; htmx selects a part of it for a search and for more rows."""
    filters = parse_query(request, Filters)
    # The latest call is read before the list: a call in between is sent twice rather than never.
    latest = next(_calls(request, filters), None)
    matches = await _search(request, filters)
    rows = matches[:PORTION]
    return await page(
        request,
        "inspector.html",
        here=HERE,
        filters=filters,
        rows=rows,
        more=filters.address(before=rows[-1].call.id) if len(matches) > PORTION else None,
        live=filters.address(f"{HERE}/live", since=latest.id if latest else NONE),
        statuses=list(CallStatus),
        models=await asyncio.to_thread(_models, all_calls(request), filters),
        instances=await instance_names(request, _instances(request, filters)),
    )


async def follow(request: Request) -> Response:
    """Changes of the list: calls that begin, progress and end."""
    inspector = _LiveCalls(request, parse_query(request, Filters))
    return LiveStream(request, [inspector.watch], inspector.render)


@dataclass(eq=False, repr=False)
class _LiveCalls:
    """The list of one open page."""

    request: Request
    filters: Filters

    async def watch(self, marks: Marks) -> None:
        before = self._states()
        marks.add(*self._missed())
        async for _ in each_news(services(self.request).call_log.changes.watching()):
            now = self._states()
            for each, state in now.items():
                if before.get(each) != state:
                    marks.add(RowChanged(each, is_new=each not in before))
            before = now

    def _states(self) -> dict[str, Hashable]:
        """The progress of each call, as its row shows it."""
        calls = _calls(self.request, self.filters)
        return {each.id: (each.outcome, len(each.tries), each.is_held) for each in calls}

    def _missed(self) -> list[RowChanged]:
        """Rows that may have changed since the page was rendered or its stream broke off."""
        latest = [each.id for each in islice(_calls(self.request, self.filters), PORTION)]
        since = self.filters.since
        new_count = latest.index(since) if since in latest else len(latest)
        return [RowChanged(each, at < new_count) for at, each in enumerate(latest)]

    async def render(self, marks: frozenset[Hashable]) -> PageEvent:
        changed = changed_rows(marks)
        if changed is None:
            return PageEvent(name="stale")
        calls = [each for each in _calls(self.request, self.filters) if each.id in changed]
        rows = await build_rows(self.request, calls)
        matches = [each for each in rows if self.filters.match(each)]
        # A changed status may have added a call to the list, or removed it.
        is_by_status = self.filters.status is not None
        added = [each for each in matches if is_by_status or changed[each.call.id]]
        replaced = [each for each in matches if not (is_by_status or changed[each.call.id])]
        removed = [each for each in rows if each not in matches] if is_by_status else []
        return PageEvent(part(self.request, MACROS, "changes", added, replaced, removed))


def _calls(request: Request, filters: Filters) -> Iterator[ModelCall]:
    """The organization's calls, or those of one instance."""
    return (each for each in all_calls(request) if filters.instance in {"", each.instance_id})


def all_calls(request: Request) -> list[ModelCall]:
    organization_id = caller(request).organization_id
    return list(services(request).call_log.of_organization(organization_id))


def _models(calls: Sequence[ModelCall], filters: Filters) -> list[str]:
    """The models to choose from; slow, because it parses each call's body once."""
    models = {each.model or each.provider for each in calls}
    return sorted(models | ({filters.model} if filters.model else set()))


def _instances(request: Request, filters: Filters) -> list[InstanceId]:
    """The instances to choose from, the instance with the latest call first."""
    ids = [each.instance_id for each in all_calls(request)]
    if filters.instance:
        ids.append(InstanceId(filters.instance))
    return [each for each in dict.fromkeys(ids) if each is not None]


async def _search(request: Request, filters: Filters) -> list[CallRow]:
    """Up to PORTION + 1 matching rows; the last one tells whether there are more."""
    calls = _calls(request, filters)
    if filters.before is not None:
        calls = islice(dropwhile(lambda each: each.id != filters.before, calls), 1, None)
    rows: list[CallRow] = []
    while len(rows) <= PORTION and (batch := list(islice(calls, PORTION + 1))):
        rows += [each for each in await build_rows(request, batch) if filters.match(each)]
    return rows[: PORTION + 1]


async def build_rows(request: Request, calls: Sequence[ModelCall]) -> list[CallRow]:
    names = await instance_names(request, {each.instance_id for each in calls if each.instance_id})
    turns = _turns(request, {each.turn_id for each in calls if each.turn_id is not None})

    def parse() -> list[tuple[str, Retried]]:
        return [
            (
                (each.last_message or "")[:TEXT_MAX_CHARS],
                retried_by(each, turns.get(each.turn_id, [])),
            )
            for each in calls
        ]

    # Parsing takes a millisecond for each body; the call caches the result.
    parsed = await asyncio.to_thread(parse)
    return [
        CallRow(
            call=each,
            instance_name=names.get(each.instance_id, ""),
            session=_session(request, each),
            model=each.model or each.provider,
            text=text,
            retried=retried,
        )
        for each, (text, retried) in zip(calls, parsed, strict=True)
    ]


def _session(request: Request, call: ModelCall) -> str:
    if call.session_key is None or call.instance_id is None:
        # OpenClaw's own calls, such as for a summary, belong to no session.
        return "no session"
    session = services(request).session_names.find(call.instance_id, call.session_key)
    if session is None:
        return call.session_key
    return "main" if session.name is None else session.name


def _turns(request: Request, turn_ids: set[str]) -> dict[str | None, list[ModelCall]]:
    """All calls of these turns, latest first."""
    turns: dict[str | None, list[ModelCall]] = {each: [] for each in turn_ids}
    for each in all_calls(request):
        if each.turn_id in turns:
            turns[each.turn_id].append(each)
    return turns


def retried_by(call: ModelCall, turn: Sequence[ModelCall]) -> Retried:
    """The failed attempts that a call repeats; `turn` has all calls of its turn, latest first.

    A turn continues after a tool's result, or because its last call failed or returned nothing.
    Calls of other sessions, such as OpenClaw's own for a summary, do not count.
    """
    own = [each for each in turn if each.session_key == call.session_key]
    before = own[own.index(call) + 1 :] if call in own else []
    count = 0
    while count < len(before) and _was_useless(before[count]):
        count += 1
    return Retried(count, before[0]) if count else Retried()


def has_failed(call: ModelCall) -> bool:
    """Whether the call ended with an error, or its answer is an error, also by a script."""
    return call.error is not None or (call.status or 0) >= 400


def _was_useless(call: ModelCall) -> bool:
    if call.outcome is None:
        return False
    if has_failed(call):
        return True
    if not call.is_whole:
        return False
    return not call.output.text and not call.output.calls
