"""Conversations as OpenClaw keeps them, told as what was said, called and answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import Program, error_message
from chowder_local.openclaw.transcripts.program_output import (
    KeptSession,
    Message,
    Page,
    Sessions,
    SessionsAndPage,
)
from chowder_local.openclaw.transcripts.turns import (
    Turn,
    TurnUsage,
    messages_beside,
    with_messages_beside,
)
from chowder_local.relay.prompt_format.failure_markers import read_marked_message
from chowder_local.relay.prompt_format.system_prompt import ANSWER_TOOL, HANDED_OVER
from chowder_local.relay.prompt_format.user_messages import unfold
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Processes

DATABASE = "agents/main/agent/openclaw-agent.sqlite"
"""Where OpenClaw keeps them, below its home."""
READ_TIMEOUT_S = 30.0
TEXT_MAX = 200_000
"""Characters of a text; the program's own."""
TEXT_MOST = 4_000_000
"""The same, where one text alone is asked for."""
LATEST_MESSAGES = 50
"""Among which the latest one of a person's is looked for."""
FROM_THE_END = 1 << 53
"""Before this comes every message."""

Shape = TypeVar("Shape", bound=BaseModel)

_BROKEN_OFF = "terminated"
"""What Node's HTTP client says of a connection that ends too early."""
_PROGRAM = "transcripts.mjs"
# What OpenClaw's gateway writes around a person's words; other words are kept to the letter.
_FOLDED = (
    "[Chat messages since your last reply",
    "[Recent chat messages",
    "[Current message - respond",
    "[Queued user message",
    "Tool:",
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",
)


@dataclass(frozen=True)
class LatestMessage:
    """What a person said last; `entry_id` is OpenClaw's own id of it."""

    entry_id: str
    text: str
    is_unanswered: bool
    """Whether nothing has come of it but failures: no answer, and no use of a tool."""


@dataclass(frozen=True)
class Transcript:
    """The turns of some messages in a row; `before` is asked for with the next older ones."""

    is_known: bool
    turns: Sequence[Turn]
    before: int | None


class Transcripts:
    """Reads them by a program in the sandbox while it runs, and beside it when it does not."""

    def __init__(self, inside: Processes, beside: Processes, root: str) -> None:
        self._inside = Program(inside, _PROGRAM)
        self._beside = Program(beside, _PROGRAM)
        self._path = f"{root}/{DATABASE}"

    async def sessions(self, sandbox_id: SandboxId, *, is_running: bool) -> list[KeptSession]:
        """All that OpenClaw has, last used first.

        Raises GatewayUnavailable, EngineUnavailable, SandboxMissing, SandboxPaused, ImageMissing.
        """
        found = await self._ask(sandbox_id, {"op": "list"}, Sessions, is_running=is_running)
        return found.sessions

    async def transcript(
        self,
        sandbox_id: SandboxId,
        key: str,
        *,
        is_running: bool,
        limit: int,
        before: int | None = None,
        text_max: int = TEXT_MAX,
    ) -> Transcript:
        """The latest messages, or the latest before a position. Raises as `sessions` does.

        Texts are cut to so many characters, but what a person said to no less than TEXT_MAX.
        """
        request = _page_request("read", key, limit, before, text_max)
        return _transcript(await self._ask(sandbox_id, request, Page, is_running=is_running))

    async def latest_message(self, sandbox_id: SandboxId, key: str) -> LatestMessage | None:
        """What was said last in a conversation of a running agent. Raises as `sessions` does."""
        # Of an answer only that there is one counts: with their texts, a few readers at once would
        # take hundreds of megabytes.
        request = _page_request("read", key, LATEST_MESSAGES, None, text_max=0)
        found = await self._ask(sandbox_id, request, Page, is_running=True)
        is_unanswered = True
        for message in reversed([each for each in found.messages if not each.is_beside]):
            if message.role == "user":
                text = _base_turn(message).text or ""
                return LatestMessage(message.id or "", text, is_unanswered)
            is_unanswered &= message.error is not None or not message.parts
        return None

    async def sessions_and_transcript(
        self,
        sandbox_id: SandboxId,
        key: str,
        *,
        is_running: bool,
        limit: int,
        before: int | None = None,
        text_max: int = TEXT_MAX,
    ) -> tuple[list[KeptSession], Transcript]:
        """What `sessions` and `transcript` tell, in the time of one of them; raises as these do."""
        request = _page_request("both", key, limit, before, text_max)
        found = await self._ask(sandbox_id, request, SessionsAndPage, is_running=is_running)
        return found.sessions, _transcript(found)

    async def _ask(
        self,
        sandbox_id: SandboxId,
        request: Mapping[str, Any],
        shape: type[Shape],
        *,
        is_running: bool,
    ) -> Shape:
        program = self._inside if is_running else self._beside
        answer = await program.ask(
            sandbox_id,
            {**request, "path": self._path},
            timeout_s=READ_TIMEOUT_S,
            overdue=f"its conversations could not be read within {READ_TIMEOUT_S:.0f} s",
        )
        if not answer.get("ok"):
            reason = error_message(answer)[:500]
            raise GatewayUnavailable(f"its conversations could not be read: {reason}")
        try:
            return shape.model_validate(answer.get("payload"))
        except ValidationError:
            raise GatewayUnavailable("its conversations are not what they should be") from None


def _page_request(
    op: str, key: str, limit: int, before: int | None, text_max: int
) -> dict[str, Any]:
    last = FROM_THE_END if before is None else before
    return {"op": op, "key": key, "limit": limit, "before": last, "textMax": text_max}


def _transcript(found: Page) -> Transcript:
    older = found.messages[0].position if found.has_more and found.messages else None
    on_it = [each for each in found.messages if not each.is_beside]
    turns = with_messages_beside(
        _turns(on_it), [_turns(each) for each in messages_beside(found.messages)]
    )
    return Transcript(found.is_known, turns, older)


def _turns(messages: Sequence[Message]) -> list[Turn]:
    """What the messages tell; the results that a client gives are joined with its calls."""
    turns: list[Turn] = []
    handed_over: list[Turn] = []
    for message in messages:
        for turn in _turns_of(message):
            if turn.role == "tool_result" and message.role == "user" and handed_over:
                # OpenClaw tells a client another id than the model's own.
                call = handed_over.pop(0)
                turns.append(replace(turn, call_id=call.call_id, name=call.name))
            else:
                turns.append(turn)
        if _is_handed_over(message):
            handed_over += [each for each in turns if each.call_id == _id(message.call_id)]
    return turns


def _turns_of(message: Message) -> Iterator[Turn]:
    base = _base_turn(message)
    if message.role == "user":
        yield from _from_user(message, base)
    elif message.role == "assistant":
        yield from _from_assistant(message, base)
    elif message.role == "toolResult" and not _is_handed_over(message):
        yield replace(
            base,
            role="tool_result",
            call_id=_id(message.call_id),
            name=message.name,
            is_error=bool(message.is_error),
        )


def _base_turn(message: Message) -> Turn:
    """What all turns of a message have in common, and its text."""
    parts = message.parts
    texts = [part for part in parts if part.type == "text"]
    is_cut = any(part.is_cut for part in texts)
    return Turn(
        position=message.position,
        role=message.role,
        at=message.at,
        text="".join(part.text or "" for part in texts),
        images=sum(part.type == "image" for part in parts),
        is_cut=is_cut,
        characters=sum(part.length or 0 for part in texts) if is_cut else None,
        response_id=message.run_id,
    )


def _from_user(message: Message, base: Turn) -> Iterator[Turn]:
    texts = [part.text or "" for part in message.parts if part.type == "text"]
    if not any(mark in text for text in texts for mark in _FOLDED):
        yield replace(base, role="user", text="\n".join(texts))
        return
    turns = list(unfold([UserMessage(tuple(texts))]))
    for number, turn in enumerate(turns, 1):
        # Its images came with the words that it ends with.
        one = base if number == len(turns) else replace(base, images=0)
        if isinstance(turn, UserMessage):
            yield replace(one, role="user", text="\n".join(turn.parts))
        elif isinstance(turn, AssistantText):
            yield replace(one, role="assistant", text=turn.text)
        elif isinstance(turn, ToolCall):
            yield replace(one, role="tool_call", text=None, call_id=turn.id, name=turn.name)
        else:
            yield replace(
                one, role="tool_result", text=turn.text, call_id=turn.call_id, is_error=False
            )


def _from_assistant(message: Message, base: Turn) -> Iterator[Turn]:
    error = message.error and _plain(message.error)
    made = replace(base, model=message.model, usage=_usage(message), error=error)
    calls = [part for part in message.parts if part.type == "call"]
    if base.text or not calls:
        yield made
        # Of one model call, one turn tells what it cost.
        made = replace(made, usage=None)
    for call in calls:
        if call.name == ANSWER_TOOL:
            # A structured output: what the client got was its arguments.
            # As OpenClaw writes it to the client.
            text = json.dumps(call.arguments or {}, ensure_ascii=False, separators=(",", ":"))
            yield replace(made, text=text, is_cut=call.is_cut)
        else:
            yield replace(
                made,
                role="tool_call",
                text=None,
                call_id=_id(call.id),
                name=call.name,
                arguments=call.arguments,
                is_cut=call.is_cut,
                characters=None,
            )
        made = replace(made, usage=None)


def _plain(error: str) -> str:
    """Why a model call failed: the relay's marker, which OpenClaw has, has the provider's words."""
    if error == _BROKEN_OFF:
        return "The model provider broke off its answer."
    return read_marked_message(error) or error


def _is_handed_over(message: Message) -> bool:
    return (
        message.role == "toolResult"
        and message.is_pending
        and any(HANDED_OVER in (part.text or "") for part in message.parts)
    )


def _usage(message: Message) -> TurnUsage | None:
    if (tokens := message.usage) is None:
        return None
    return TurnUsage(
        input_tokens=tokens.input + tokens.cache_read + tokens.cache_write,
        cached_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )


def _id(call_id: str | None) -> str | None:
    """A call's own id, without the one of the item that it came in."""
    return None if call_id is None else call_id.partition("|")[0]
