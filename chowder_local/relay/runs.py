"""Runs: what agents did in turns, as a file that is compared and replayed elsewhere (pure)."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import takewhile, zip_longest
from operator import eq
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from chowder_local.core import untrusted_json
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.core.secrets import redact, redact_values
from chowder_local.relay.calls import wire_format
from chowder_local.relay.metering import Meter
from chowder_local.relay.prices import Prices
from chowder_local.relay.prompt_format import client_name
from chowder_local.relay.recordings import (
    RecordedAnswer,
    RecordedCall,
    RecordedRequest,
    mask_variable_parts,
)
from chowder_local.relay.wire.conversation import Reply
from chowder_local.relay.wire.wire_format import JSON_TYPE, ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.wire.wire_format import ModelOutput, Usage

COMPARED_STEPS = 300
"""From the first difference on, so many steps are aligned, and the rest is compared in order."""
BEFORE_DIFFERENCE = 20
"""So many characters of an excerpt are those before the first that differs."""
REFUSED_STATUS = 502
"""The status of an error that has none, such as that of a provider who did not answer."""


class _Strict(BaseModel):
    """Refuses unknown members: a file of a newer version says more than this one reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunCall(_Strict):
    """A model call of a run."""

    id: Annotated[str, Field(examples=["ex-1"])]
    at: datetime | None = None
    took_s: float | None = None
    source: Annotated[str, Field(examples=["offline"])] = "provider"
    outcome: Annotated[str | None, Field(examples=["offline"])] = None
    error: Annotated[str | None, Field(description="The error that the agent got.")] = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Annotated[
        float | None, Field(description="At list price; null if the price is unknown.")
    ] = None
    system: Annotated[
        str | None, Field(description="The system prompt; null: that of the call before.")
    ] = None
    tools: Annotated[
        list[str] | None,
        Field(description="The tools that are offered; null: those of the call before."),
    ] = None
    asked: RecordedRequest
    answered: Annotated[
        RecordedAnswer | None, Field(description="Null if not all of it was kept.")
    ] = None

    @classmethod
    def from_call(
        cls, call: ModelCall, before: tuple[str, list[str]], secrets: Collection[str] | None
    ) -> Self | None:
        """A call after one with this system prompt and these tools; None if no conversation.

        With `secrets`, a stream that has one in several pieces is written anew without it.
        """
        parsed = call.request.parse()
        if not isinstance(parsed, ParsedRequest):
            return None
        conversation = parsed.conversation
        system, tools = conversation.system, [client_name(each.name) for each in conversation.tools]
        usage = _usage(call.provider, call.answer)
        return cls(
            id=call.id,
            at=call.at,
            took_s=call.took_s,
            source=call.source,
            outcome=call.outcome,
            error=call.error,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            cost_usd=None if usage is None else call.cost_usd(usage),
            system=None if system == before[0] else system,
            tools=None if tools == before[1] else tools,
            asked=RecordedRequest.from_conversation(call.provider, conversation),
            answered=_answer(call, parsed, secrets),
        )

    @classmethod
    def from_recording(cls, name: str, entry: RecordedCall) -> Self:
        """A call of a recording, which has neither times nor OpenClaw's own instructions."""
        usage = _usage(entry.asked.provider, entry.answered.body)
        cost_usd = usage and Prices().cost_usd(entry.asked.model, usage, is_billed=True)
        return cls(
            id=name,
            source="recording",
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            cost_usd=cost_usd,
            asked=entry.asked,
            answered=entry.answered,
        )

    @property
    def output(self) -> ModelOutput:
        body = b"" if self.answered is None else self.answered.body
        return wire_format(self.asked.provider).read_output(body)

    @property
    def model_id(self) -> str:
        """The model as messages name it."""
        provider, model = self.asked.provider, self.asked.model
        return model if provider in set(ModelProvider) else f"{provider}/{model}"


def _usage(provider: str, body: bytes) -> Usage | None:
    meter = Meter(wire_format(provider))
    meter.feed(body)
    return meter.usage


def _answer(
    call: ModelCall, parsed: ParsedRequest, secrets: Collection[str] | None
) -> RecordedAnswer | None:
    """The answer of a call, also that of one that failed."""
    if call.outcome is None or not call.has_whole_answer:
        return None
    if not call.chunks or call.status is None:
        status = max(call.status or REFUSED_STATUS, 400)
        before = str(ProviderFailed(call.provider, call.status, ""))
        reason = (call.error or call.outcome).removeprefix(before)
        body = call.request.wire.error_body(status, reason)
        return RecordedAnswer.from_body(status, JSON_TYPE, body)
    answer = RecordedAnswer.from_body(call.status, call.content_type, call.answer)
    if secrets is None or _is_safe(answer, secrets):
        return answer
    output = call.output
    calls = tuple(
        replace(each, arguments=redact_values(dict(each.arguments), secrets))
        for each in output.calls
    )
    rendered = parsed.render(Reply(redact(output.text, secrets), calls))
    body = b"".join(each for each in rendered.steps if isinstance(each, bytes))
    return RecordedAnswer.from_body(rendered.status, rendered.content_type, body)


class RunTurn(_Strict):
    """A turn of a run: a message and what the agent did for it, or an unasked turn."""

    id: str
    response_id: str | None = None
    kind: Annotated[str, Field(examples=["message"])] = "message"
    session: Annotated[
        str | None, Field(description="Null for the main session and OpenClaw's own.")
    ] = None
    session_key: str | None = None
    at: datetime | None = None
    took_s: float | None = None
    status: Annotated[str, Field(examples=["answered"])] = "answered"
    error: str | None = None
    request: Annotated[
        dict[str, Any] | None,
        Field(
            description="The message as its client sent it; null if it is longer than 32 KB, is "
            "older than 500 turns, or is of no client."
        ),
    ] = None
    missing_calls: Annotated[
        int, Field(ge=0, description="How many of its model calls are not in memory any more.")
    ] = 0
    calls: list[RunCall]


class Run(_Strict):
    """Turns of an agent, the oldest first, with their model calls as far as they are in memory."""

    # Not a constant: the generator of Python clients writes code for it that Python warns of.
    format: Annotated[int, Field(ge=1, le=1, description="The version of this format.")] = 1
    title: Annotated[str, Field(description="What it is of.", examples=["support, resp_1c9d27"])]
    instance_id: str | None = None
    model_provider: str = "anthropic"
    openclaw_version: str | None = None
    turns: list[RunTurn]

    @classmethod
    def from_recording(cls, title: str, entries: Mapping[str, RecordedCall]) -> Self:
        calls = [RunCall.from_recording(name, each) for name, each in entries.items()]
        provider = calls[0].asked.provider if calls else "anthropic"
        return cls(
            title=title, model_provider=provider, turns=[RunTurn(id="recording", calls=calls)]
        )

    def redacted(self, secrets: Collection[str]) -> Self:
        """A copy without these secrets and whatever looks like one.

        An answer that has one in several pieces of its stream is left out.
        """
        # In JSON some characters of a secret are escaped.
        secrets = {*secrets, *(json.dumps(each)[1:-1] for each in secrets)}
        content = redact_values(self.model_dump(mode="json"), secrets)
        for turn, changed in zip(self.turns, content["turns"], strict=True):
            for call, entry in zip(turn.calls, changed["calls"], strict=True):
                if call.answered is not None and not _is_safe(call.answered, secrets):
                    entry["answered"] = None
        return type(self).model_validate(content)


def run_calls(calls: Sequence[ModelCall], secrets: Collection[str] | None = None) -> list[RunCall]:
    """The calls of a turn that are conversations; `secrets` as in `RunCall.from_call`."""
    found: list[RunCall] = []
    before: tuple[str, list[str]] = ("", [])
    for each in calls:
        if (call := RunCall.from_call(each, before, secrets)) is not None:
            found.append(call)
            before = (
                before[0] if call.system is None else call.system,
                before[1] if call.tools is None else call.tools,
            )
    return found


def _is_safe(answer: RecordedAnswer, secrets: Collection[str]) -> bool:
    """Whether the pieces of a stream together have no secret."""
    joined: dict[str, str] = defaultdict(str)
    for line in (line for event in answer.events or () for line in event.splitlines()):
        if line.startswith("data:"):
            try:
                _join_texts(untrusted_json.read(line[5:]), "", joined)
            except ValueError:
                joined[""] += line
    return all(redact(text, secrets) == text for text in joined.values())


def _join_texts(value: Any, path: str, joined: dict[str, str]) -> None:
    """Adds the texts of an event to those at the same place of earlier events."""
    if isinstance(value, str):
        joined[path] += value
    elif isinstance(value, list):
        for each in value:
            _join_texts(each, path, joined)
    elif isinstance(value, dict):
        for name, each in value.items():
            _join_texts(each, f"{path}.{name}", joined)


class StepKind(StrEnum):
    """What a step of a run is."""

    SYSTEM = "system prompt"
    TOOLS = "tools"
    MESSAGE = "message"
    MODEL = "model call"
    TOOL = "tool call"
    RESULT = "tool result"
    ANSWER = "answer"
    ERROR = "error"


_PROMPT_STEPS = {
    "said": StepKind.MESSAGE,
    "answered": StepKind.ANSWER,
    "called": StepKind.TOOL,
    "returned": StepKind.RESULT,
}
"""By the members of a recorded request's turns."""


@dataclass(frozen=True)
class RunStep:
    """A step of a run; what has no text, time or tokens has none here."""

    kind: StepKind
    name: str
    text: str
    model_call_id: str
    took_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None

    @property
    def figures(self) -> str:
        """Tokens, cost and time, as far as they are known."""
        if self.kind is not StepKind.MODEL:
            return "" if self.took_s is None else f"{self.took_s:.2f} s"
        counts = (self.input_tokens, self.output_tokens)
        tokens = " + ".join("?" if each is None else str(each) for each in counts)
        cost = f"${self.cost_usd:.4f}" if self.cost_usd else ""
        took = "" if self.took_s is None else f"{self.took_s:.2f} s"
        return ", ".join(filter(None, (f"{tokens} tokens", cost, took, f"by {self.text}")))

    @property
    def subject(self) -> tuple[str, str]:
        """What makes two steps with different texts comparable."""
        return self.kind, self.name if self.kind in {StepKind.TOOL, StepKind.RESULT} else ""


def steps_of(run: Run) -> list[RunStep]:
    """The steps of a run; of each call's prompt those that the call before did not have."""
    steps: list[RunStep] = []
    prompts: dict[str | None, list[dict[str, Any]]] = {}
    instructions: dict[tuple[str | None, StepKind], str] = {}
    for turn in run.turns:
        for call, following in zip_longest(turn.calls, turn.calls[1:]):
            known = prompts.get(turn.session_key, [])
            for step in _prompt(call, known):
                # Each turn of a run has them.
                place = turn.session_key, step.kind
                is_instruction = step.kind in {StepKind.SYSTEM, StepKind.TOOLS}
                if not is_instruction or instructions.get(place) != step.text:
                    steps.append(step)
                if is_instruction:
                    instructions[place] = step.text
            steps += _answer_steps(call, following)
            prompts[turn.session_key] = [*call.asked.turns, *_own(call)]
        if turn.error is not None and all(turn.error not in each.text for each in steps):
            steps.append(RunStep(StepKind.ERROR, turn.status, turn.error, ""))
    return steps


def _own(call: RunCall) -> list[dict[str, Any]]:
    """A call's answer as the next call's prompt has it."""
    output = call.output
    text = [{"answered": output.text}] if output.text else []
    return [*text, *({"called": each.name, "with": dict(each.arguments)} for each in output.calls)]


def _prompt(call: RunCall, known: Sequence[Mapping[str, Any]]) -> Iterator[RunStep]:
    if call.system is not None:
        yield RunStep(StepKind.SYSTEM, "", call.system, call.id)
    if call.tools is not None:
        yield RunStep(StepKind.TOOLS, "", ", ".join(call.tools), call.id)
    turns = call.asked.turns
    same = sum(1 for _ in takewhile(bool, map(_is_same_turn, turns, known)))
    called: list[str] = []
    results = 0
    for number, turn in enumerate(turns):
        kind, value = _kind_and_value(turn)
        name = text = ""
        if kind == "called":
            name, text = client_name(value), json.dumps(turn.get("with", {}), ensure_ascii=False)
            called.append(name)
        elif kind == "returned":
            # Results come in the order of their calls.
            name, text = (called[results] if results < len(called) else ""), value
            results += 1
        else:
            text = value
        if number >= same and kind in _PROMPT_STEPS:
            yield RunStep(_PROMPT_STEPS[kind], name, text, call.id)


def _kind_and_value(turn: Mapping[str, Any]) -> tuple[str, str]:
    kind, value = next(iter(turn.items()), ("", ""))
    return kind, str(value)


def _is_same_turn(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # OpenClaw may write the arguments of a call in another way than the model.
    kind, _ = now = _kind_and_value(one)
    return one == other or (kind == "called" and now == _kind_and_value(other))


def _answer_steps(call: RunCall, following: RunCall | None) -> Iterator[RunStep]:
    yield RunStep(
        StepKind.MODEL,
        call.asked.model,
        call.source,
        call.id,
        call.took_s,
        call.input_tokens,
        call.output_tokens,
        call.cost_usd,
    )
    output = call.output
    error = call.error or output.error
    if error is not None:
        yield RunStep(StepKind.ERROR, call.outcome or "", error, call.id)
    if output.text:
        yield RunStep(StepKind.ANSWER, "", output.text, call.id)
    took_s = None
    next_at = None if following is None else following.at
    if call.at is not None and call.took_s is not None and next_at is not None:
        took_s = (next_at - call.at).total_seconds() - call.took_s
    for each in output.calls:
        yield RunStep(
            StepKind.TOOL, client_name(each.name), each.arguments_json, call.id,
            None if took_s is None else max(took_s, 0.0),
        )  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Figures of a run; those that are unknown are None. Failed calls have no tokens."""

    turns: int
    model_calls: int
    missing_calls: int
    """Those that are not in memory any more, and not counted."""
    tool_calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    took_s: float | None

    @classmethod
    def from_run(cls, run: Run) -> Self:
        calls = [call for turn in run.turns for call in turn.calls]
        done = [each for each in calls if each.error is None]
        return cls(
            turns=len(run.turns),
            model_calls=len(calls),
            missing_calls=sum(each.missing_calls for each in run.turns),
            tool_calls=sum(len(each.output.calls) for each in calls),
            input_tokens=_sum([each.input_tokens for each in done]),
            output_tokens=_sum([each.output_tokens for each in done]),
            cost_usd=_sum([each.cost_usd for each in done]),
            took_s=_sum([each.took_s for each in run.turns]),
        )


def _sum(values: Sequence[Any]) -> Any:
    return None if None in values else sum(values)


@dataclass(frozen=True)
class Row:
    """Two steps side by side; one of them is None if the other run alone has it."""

    status: Literal["same", "differs", "only_a", "only_b"]
    a: RunStep | None
    b: RunStep | None

    @property
    def title(self) -> str:
        """What the steps are, and of tools their name."""
        return next(f"{each.kind} {each.subject[1]}".rstrip() for each in (self.a, self.b) if each)

    def excerpts(self, characters: int) -> tuple[str, str]:
        """The texts on one line each, cut to about the first characters that differ."""
        a, b = (" ".join(each.text.split()) if each else "" for each in (self.a, self.b))
        same = sum(1 for _ in takewhile(bool, map(eq, a, b)))
        start = 0 if self.status == "same" or not (a and b) else max(0, same - BEFORE_DIFFERENCE)
        return _excerpt(a, start, characters), _excerpt(b, start, characters)


def _excerpt(text: str, start: int, characters: int) -> str:
    begin, end = (start, start + characters) if len(text) > characters else (0, characters)
    return f"{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    titles: tuple[str, str]
    totals: tuple[Totals, Totals]
    rows: tuple[Row, ...]

    @property
    def is_same(self) -> bool:
        """Whether all steps are the same; tokens, cost and times may differ."""
        return all(each.status == "same" for each in self.rows)

    def as_json(self) -> dict[str, Any]:
        a, b = (
            {"run": title, **asdict(totals)}
            for title, totals in zip(self.titles, self.totals, strict=True)
        )
        return {
            "is_same": self.is_same,
            "a": a,
            "b": b,
            "steps": [asdict(each) for each in self.rows],
        }


def compare(a: Run, b: Run) -> Comparison:
    """Two runs side by side. Times and ids in texts do not count, as in recordings.

    Long: run it in a thread of its own.
    """
    return Comparison(
        (a.title, b.title), (Totals.from_run(a), Totals.from_run(b)), tuple(_rows(a, b))
    )


def _rows(one: Run, other: Run) -> Iterator[Row]:
    a, b = steps_of(one), steps_of(other)
    keys_a, keys_b = ([_key(each) for each in steps] for steps in (a, b))
    begin = sum(1 for _ in takewhile(bool, map(eq, keys_a, keys_b)))
    yield from (Row("same", *pair) for pair in zip(a[:begin], b[:begin], strict=True))
    end = begin + COMPARED_STEPS
    for kind, a0, a1, b0, b1 in _opcodes(keys_a[begin:end], keys_b[begin:end]):
        left, right = a[begin + a0 : begin + a1], b[begin + b0 : begin + b1]
        if kind == "equal":
            yield from (Row("same", *pair) for pair in zip(left, right, strict=True))
        else:
            yield from _changed(left, right)
    for left_step, right_step in zip_longest(a[end:], b[end:]):
        if left_step is None or right_step is None:
            yield Row("only_a" if right_step is None else "only_b", left_step, right_step)
        else:
            same = _key(left_step) == _key(right_step)
            yield Row("same" if same else "differs", left_step, right_step)


def _changed(a: Sequence[RunStep], b: Sequence[RunStep]) -> Iterator[Row]:
    """Steps that differ: those with one subject beside each other."""
    for kind, a0, a1, b0, b1 in _opcodes([x.subject for x in a], [x.subject for x in b]):
        if kind == "equal":
            yield from (Row("differs", *pair) for pair in zip(a[a0:a1], b[b0:b1], strict=True))
        else:
            yield from (Row("only_a", each, None) for each in a[a0:a1])
            yield from (Row("only_b", None, each) for each in b[b0:b1])


def _opcodes(a: Sequence[Any], b: Sequence[Any]) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, a, b, autojunk=False).get_opcodes()


def _key(step: RunStep) -> tuple[str, ...]:
    # Who has answered is not what was answered.
    text = "" if step.kind is StepKind.MODEL else mask_variable_parts(step.text)
    return step.kind, step.name, text
