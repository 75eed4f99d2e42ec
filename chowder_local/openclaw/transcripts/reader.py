"""Reads the sessions and transcripts of agents as turns."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from chowder_local.core.errors.agents import ConversationsAtRest, GatewayUnavailable
from chowder_local.openclaw.sandbox_exec import Program, error_message
from chowder_local.openclaw.shortcuts import TRANSCRIPTS
from chowder_local.openclaw.transcripts.program_output import (
    KeptSession,
    Sessions,
    SessionsAndPage,
    StoredMessage,
    StoredPage,
)
from chowder_local.openclaw.transcripts.turns import (
    TranscriptTurn,
    TurnUsage,
    off_branch_messages,
    with_off_branch_turns,
)
from chowder_local.relay.prompt_format import (
    ANSWER_TOOL,
    HANDED_OVER,
    client_name,
    read_marked_message,
    unfold,
)
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Processes
    from chowder_local.openclaw.shortcuts import MayTakeIn
    from chowder_local.openclaw.transcripts.chat_history import ChatHistory


DATABASE = "agents/main/agent/openclaw-agent.sqlite"
"""The path of OpenClaw's database below its state directory."""
READ_TIMEOUT_S = 30.0
TEXT_MAX = 200_000
"""The most characters of a text; the same as in the program."""
TEXT_LIMIT = 4_000_000
"""The most characters where only one text is requested."""
LATEST_MESSAGES = 50
"""How many messages are searched for the latest one of the user."""
FROM_THE_END = 1 << 53
"""A position after every message."""

Shape = TypeVar("Shape", bound=BaseModel)

_BROKEN_OFF = "terminated"
"""The error of Node's HTTP client for a connection that ends too early."""
_PROGRAM = "transcripts.mjs"
# Markers that OpenClaw's gateway adds to a user's text; text without one stays unchanged.
_FOLDED = (
    "[Chat messages since your last reply",
    "[Recent chat messages",
    "[Current message - respond",
    "[Queued user message",
    "Tool:",
    "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>",
)


@dataclass(frozen=True)
class UserEntry:
    """A user's message; `entry_id` is OpenClaw's id."""

    entry_id: str
    text: str


@dataclass(frozen=True)
class LatestMessage(UserEntry):
    """The user's latest message."""

    is_unanswered: bool
    """Whether only failures followed it: no answer, and no tool call."""


@dataclass(frozen=True)
class Transcript:
    """A page of turns; `before` is the position to request the next older page with."""

    is_known: bool
    turns: Sequence[TranscriptTurn]
    before: int | None


class Transcripts:
    """Reads conversations with a program in the running sandbox, or on a stopped one's volume.

    If the program does not fit this release's database, OpenClaw is asked instead.
    """

    def __init__(
        self,
        in_sandbox: Processes,
        on_volume: Processes,
        root: str,
        chat_history: ChatHistory,
        allows: MayTakeIn,
    ) -> None:
        self._in_sandbox = Program(in_sandbox, _PROGRAM)
        self._on_volume = Program(on_volume, _PROGRAM)
        self._path = f"{root}/{DATABASE}"
        self._chat_history = chat_history
        self._allows = allows

    async def sessions(self, sandbox_id: SandboxId, *, is_running: bool) -> list[KeptSession]:
        """All conversations, the last used first.

        Raises GatewayUnavailable if they cannot be read, EngineUnavailable, SandboxMissing,
        SandboxPaused, ImageMissing.
        """
        answer = await self._ask(sandbox_id, {"op": "list"}, Sessions, is_running=is_running)
        return answer.sessions

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
        """The latest `limit` messages, or the latest before a position. Raises as `sessions` does.

        Texts are cut to `text_max` characters, but a user's to TEXT_MAX at least.
        """
        request = _page_request("read", key, limit, before, text_max)
        page = await self._ask(sandbox_id, request, StoredPage, is_running=is_running)
        return await asyncio.to_thread(_transcript, page)

    async def latest_message(self, sandbox_id: SandboxId, key: str) -> LatestMessage | None:
        """The user's latest message to a running agent. Raises as `sessions` does."""
        # Texts of answers are not needed, and would take hundreds of megabytes with a few readers.
        request = _page_request("read", key, LATEST_MESSAGES, None, text_max=0)
        page = await self._ask(sandbox_id, request, StoredPage, is_running=True)
        is_unanswered = True
        for message in reversed([each for each in page.messages if not each.is_off_branch]):
            if message.role == "user":
                text = _base_turn(message).text or ""
                return LatestMessage(message.id or "", text, is_unanswered)
            is_unanswered &= message.error is not None or not message.parts
        return None

    async def message_at(self, sandbox_id: SandboxId, key: str, position: int) -> UserEntry | None:
        """The user's message at a position of a running agent's conversation; None if there is
        none. Raises as `sessions` does.
        """
        request = _page_request("read", key, 1, position + 1, text_max=0)
        page = await self._ask(sandbox_id, request, StoredPage, is_running=True)
        for each in page.messages:
            if each.position == position and each.role == "user" and not each.is_off_branch:
                return UserEntry(each.id or "", _base_turn(each).text or "")
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
        """The results of `sessions` and `transcript` in one call. Raises as `sessions` does."""
        request = _page_request("both", key, limit, before, text_max)
        answer = await self._ask(sandbox_id, request, SessionsAndPage, is_running=is_running)
        return answer.sessions, await asyncio.to_thread(_transcript, answer)

    async def _ask(
        self,
        sandbox_id: SandboxId,
        request: Mapping[str, Any],
        shape: type[Shape],
        *,
        is_running: bool,
    ) -> Shape:
        payload = await self._read(sandbox_id, request, is_running=is_running)
        try:
            return await asyncio.to_thread(shape.model_validate, payload)
        except ValidationError:
            raise GatewayUnavailable("the conversations have an unknown form") from None

    async def _read(
        self, sandbox_id: SandboxId, request: Mapping[str, Any], *, is_running: bool
    ) -> Any:
        if not await self._allows(TRANSCRIPTS, sandbox_id):
            if not is_running:
                raise ConversationsAtRest
            return await self._chat_history.answer(sandbox_id, request)
        program = self._in_sandbox if is_running else self._on_volume
        answer = await program.ask(
            sandbox_id,
            {**request, "path": self._path},
            timeout_s=READ_TIMEOUT_S,
            timeout_message=f"the conversations could not be read within {READ_TIMEOUT_S:.0f} s",
        )
        if not answer.get("ok"):
            reason = error_message(answer)[:500]
            raise GatewayUnavailable(f"the conversations could not be read: {reason}")
        return answer.get("payload")


def _page_request(
    op: str, key: str, limit: int, before: int | None, text_max: int
) -> dict[str, Any]:
    last = FROM_THE_END if before is None else before
    return {"op": op, "key": key, "limit": limit, "before": last, "textMax": text_max}


def _transcript(page: StoredPage) -> Transcript:
    before = page.messages[0].position if page.has_more and page.messages else None
    on_branch = [each for each in page.messages if not each.is_off_branch]
    turns = with_off_branch_turns(
        _turns(on_branch), [_turns(each) for each in off_branch_messages(page.messages)]
    )
    return Transcript(page.is_known, turns, before)


def _turns(messages: Sequence[StoredMessage]) -> list[TranscriptTurn]:
    """The turns of the messages; a client's function results get the ids of their calls."""
    turns: list[TranscriptTurn] = []
    handed_over: list[TranscriptTurn] = []
    for message in messages:
        for turn in _turns_of(message):
            if turn.role == "tool_result" and message.role == "user" and handed_over:
                # A client gets another call id from OpenClaw than the model's.
                call = handed_over.pop(0)
                turns.append(replace(turn, call_id=call.call_id, name=call.name))
            else:
                turns.append(turn)
        if _is_handed_over(message):
            handed_over += [each for each in turns if each.call_id == _id(message.call_id)]
    return turns


def _turns_of(message: StoredMessage) -> Iterator[TranscriptTurn]:
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


def _base_turn(message: StoredMessage) -> TranscriptTurn:
    """The members that all turns of a message share, and its text."""
    parts = message.parts
    texts = [part for part in parts if part.type == "text"]
    is_cut = any(part.is_cut for part in texts)
    return TranscriptTurn(
        position=message.position,
        role=message.role,
        at=message.at,
        text="".join(part.text or "" for part in texts),
        images=sum(part.type == "image" for part in parts),
        is_cut=is_cut,
        characters=sum(part.length or 0 for part in texts) if is_cut else None,
        response_id=message.run_id,
    )


def _from_user(message: StoredMessage, base: TranscriptTurn) -> Iterator[TranscriptTurn]:
    texts = [part.text or "" for part in message.parts if part.type == "text"]
    if not any(mark in text for text in texts for mark in _FOLDED):
        yield replace(base, role="user", text="\n".join(texts))
        return
    turns = list(unfold([UserMessage(tuple(texts))]))
    names: dict[str, str] = {}
    for number, turn in enumerate(turns, 1):
        # Images belong to the last text of the message.
        common = base if number == len(turns) else replace(base, images=0)
        if isinstance(turn, UserMessage):
            yield replace(common, role="user", text="\n".join(turn.parts))
        elif isinstance(turn, AssistantText):
            yield replace(common, role="assistant", text=turn.text)
        elif isinstance(turn, ToolCall):
            names[turn.id] = client_name(turn.name)
            yield replace(
                common,
                role="tool_call",
                text=None,
                call_id=turn.id,
                name=names[turn.id],
                arguments=turn.arguments,
            )
        else:
            yield replace(
                common,
                role="tool_result",
                text=turn.text,
                call_id=turn.call_id,
                name=names.get(turn.call_id),
                is_error=False,
            )


def _from_assistant(message: StoredMessage, base: TranscriptTurn) -> Iterator[TranscriptTurn]:
    error = message.error and _plain(message.error)
    template = replace(base, model=message.model, usage=_usage(message), error=error)
    calls = [part for part in message.parts if part.type == "call"]
    if base.text or not calls:
        yield template
        # Only one turn of a model call has its usage.
        template = replace(template, usage=None)
    for call in calls:
        if call.name == ANSWER_TOOL:
            # A structured output: the client got the arguments as text, in OpenClaw's own form.
            text = json.dumps(call.arguments or {}, ensure_ascii=False, separators=(",", ":"))
            yield replace(template, text=text, is_cut=call.is_cut)
        else:
            yield replace(
                template,
                role="tool_call",
                text=None,
                call_id=_id(call.id),
                name=call.name and client_name(call.name),
                arguments=call.arguments,
                is_cut=call.is_cut,
                characters=None,
            )
        template = replace(template, usage=None)


def _plain(error: str) -> str:
    """The provider's message, from the relay's marker in OpenClaw's error; else that error."""
    if error == _BROKEN_OFF:
        return "The model provider broke off its answer."
    return read_marked_message(error) or error


def _is_handed_over(message: StoredMessage) -> bool:
    return (
        message.role == "toolResult"
        and message.is_pending
        and any(HANDED_OVER in (part.text or "") for part in message.parts)
    )


def _usage(message: StoredMessage) -> TurnUsage | None:
    if (tokens := message.usage) is None:
        return None
    return TurnUsage(
        input_tokens=tokens.input + tokens.cache_read + tokens.cache_write,
        cached_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )


def _id(call_id: str | None) -> str | None:
    """A call's id, without the id of its output item."""
    return None if call_id is None else call_id.partition("|")[0]
