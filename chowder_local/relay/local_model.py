"""Answers model calls without a provider: from a recording, a script or the offline model."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core.domain import OFFLINE_KEY
from chowder_local.core.long_values import off_loop
from chowder_local.relay.calls import local_answer, wire_format
from chowder_local.relay.offline_model import decide
from chowder_local.relay.prompt_format import CallableTools, ModelRequest
from chowder_local.relay.recordings import RecordedRequest
from chowder_local.relay.scripts.registry import Refusal
from chowder_local.relay.wire.conversation import Reply
from chowder_local.relay.wire.wire_format import ParsedRequest, RenderedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.calls import Credential, ModelAnswer, RelayRequest
    from chowder_local.relay.recordings import Playback, RecordedCall, RecordingRegistry
    from chowder_local.relay.scripts.registry import ScriptedAnswer, ScriptRegistry
    from chowder_local.relay.scripts.rules import Action, Condition
    from chowder_local.relay.wire.conversation import Conversation

    FindSessionName = Callable[[InstanceId, str], "SessionName | None"]

BREAKPOINT = "breakpoint"
"""The source of an answer that somebody gave to a held call."""
MISSING_STATUS = 400
"""Clients retry after most other statuses, and would only get the same error later."""

NONE_LEFT = "The recorded run has no more model calls: the agent does something else than it did."
RETRIED = (
    "(The relay has called the model twice for this message, and the script counts both calls: it "
    "retries a 429 once if retry_after_s is at most 10. With a longer one the call fails at once.)"
)


@dataclass(frozen=True)
class SessionName:
    """The name that clients use for a session; None is the main session."""

    name: str | None


@dataclass(eq=False, repr=False)
class LocalModel:
    """Answers model calls; `find_session_name` maps OpenClaw's session key to a name."""

    scripts: ScriptRegistry
    recordings: RecordingRegistry
    find_session_name: FindSessionName

    def handles(self, request: RelayRequest, credential: Credential) -> bool:
        """Whether this model answers a call instead of a provider."""
        playback = self.recordings.playback(credential.instance_id)
        return credential.key == OFFLINE_KEY or (playback is not None and playback.handles(request))

    async def answer(
        self, request: RelayRequest, credential: Credential, call: ModelCall
    ) -> ModelAnswer:
        """The answer, which may be an error in the provider's format."""
        call.source = "offline"
        parsed = await off_loop(lambda _: request.parse(int(time.time())), request.body)
        if not isinstance(parsed, ParsedRequest):
            return local_answer(parsed)
        playback = self.recordings.playback(credential.instance_id)
        if playback is not None and (playback.handles(request) or credential.key != OFFLINE_KEY):
            call.source = "recording"
            if playback.in_order:
                return _answer_next(request, playback.take_next(request), parsed)
            asked = RecordedRequest.from_conversation(request.provider, parsed.conversation)
            return await self._replay(request, playback, asked)
        scripted = await self._find_scripted(request, credential, parsed.conversation)
        if scripted is None:
            return local_answer(parsed.render(decide(parsed.conversation)))
        call.source = f"script: {scripted.rule}"
        return await self._give(scripted, request, parsed, call)

    async def _give(
        self,
        scripted: ScriptedAnswer,
        request: RelayRequest,
        parsed: ParsedRequest,
        call: ModelCall,
    ) -> ModelAnswer:
        await asyncio.sleep(scripted.delay_s)
        answer = scripted.answer
        if isinstance(answer, Reply) and answer.calls:
            answer = _with_callable_names(answer, parsed.conversation)
        if isinstance(answer, Refusal):
            return _refuse(request, answer, is_retry=bool(call.tries))
        return local_answer(parsed.render(answer))

    async def answer_instead(
        self, action: Action, request: RelayRequest, credential: Credential, call: ModelCall
    ) -> ModelAnswer:
        """The answer that somebody gives to a held call in the model's place."""
        call.source = BREAKPOINT
        parsed = await off_loop(lambda _: request.parse(int(time.time())), request.body)
        if not isinstance(parsed, ParsedRequest):
            return local_answer(parsed)
        if action.error is not None and action.message is None:
            action = action.model_copy(update={"message": "It was failed at a breakpoint."})
        reduced = self._reduced(request, credential.instance_id, parsed.conversation)
        answer = await self.scripts.render(action, reduced)
        return await self._give(answer, request, parsed, call)

    async def fits(
        self,
        match: Condition,
        request: RelayRequest,
        call: ModelCall,
        conversation: Conversation,
    ) -> bool:
        """Whether a condition, as those of scripts, matches a call."""
        reduced = self._reduced(request, call.instance_id, conversation)
        return await self.scripts.fits(match, reduced)

    async def _replay(
        self, request: RelayRequest, playback: Playback, asked: RecordedRequest
    ) -> ModelAnswer:
        lines = await self.recordings.run(asked.lines)
        recorded = playback.answer(lines)
        if recorded is None:
            message = await self.recordings.run(playback.describe_nearest, lines)
            return local_answer(request.wire.refuse(MISSING_STATUS, message))
        wait_s = recorded.retry_after
        extra_headers = [] if wait_s is None else [("retry-after", wait_s)]
        rendered = RenderedAnswer(recorded.status, recorded.content_type, recorded.chunks())
        return local_answer(rendered, *extra_headers)

    async def _find_scripted(
        self, request: RelayRequest, credential: Credential, conversation: Conversation
    ) -> ScriptedAnswer | None:
        """A script's answer. None for calls without a session, which OpenClaw makes on its own."""
        organization_id, instance_id = credential.organization_id, credential.instance_id
        if organization_id is None or instance_id is None or request.session is None:
            return None
        if not self.scripts.active_for(organization_id, instance_id):
            return None
        reduced = self._reduced(request, instance_id, conversation)
        return await self.scripts.answer(organization_id, instance_id, reduced)

    def _reduced(
        self, request: RelayRequest, instance_id: InstanceId | None, conversation: Conversation
    ) -> ModelRequest:
        session = None
        if instance_id is not None and request.session is not None:
            session = self.find_session_name(instance_id, request.session.key)
        return ModelRequest.from_conversation(
            conversation,
            request.provider,
            session.name if session else None,
            is_session_known=session is not None,
        )


def _answer_next(
    request: RelayRequest, recorded: RecordedCall | None, parsed: ParsedRequest
) -> ModelAnswer:
    """The answer of a recorded call, in the request's own format if it asks another provider."""
    if recorded is None:
        return local_answer(request.wire.refuse(MISSING_STATUS, NONE_LEFT))
    answer, conversation = recorded.answered, parsed.conversation
    asked = recorded.asked
    is_fit = (asked.provider, asked.is_streamed) == (request.provider, conversation.is_streamed)
    if is_fit:
        return local_answer(RenderedAnswer(answer.status, answer.content_type, answer.chunks()))
    output = wire_format(asked.provider).read_output(answer.body)
    if answer.status >= 400:
        return local_answer(request.wire.refuse(answer.status, output.error or "It failed."))
    reply = _with_callable_names(Reply(output.text, output.calls), conversation)
    if isinstance(reply, Refusal):
        return _refuse(request, reply, is_retry=False)
    return local_answer(parsed.render(reply))


def _with_callable_names(reply: Reply, conversation: Conversation) -> Reply | Refusal:
    """The reply with the names that the request has for its tools.

    Refused only here: which functions a client brings is not known before its message.
    """
    tools = CallableTools(conversation)
    names = [tools.find(each.name) for each in reply.calls]
    if tools.is_complete and None in names:
        unknown = reply.calls[names.index(None)].name
        message = f"The reply script calls {unknown!r}, which neither the client nor the agent has."
        return Refusal(MISSING_STATUS, f"{message} {tools}")
    calls = [
        replace(each, name=name or each.name) for each, name in zip(reply.calls, names, strict=True)
    ]
    return replace(reply, calls=tuple(calls))


def _refuse(request: RelayRequest, refusal: Refusal, *, is_retry: bool) -> ModelAnswer:
    message = f"{refusal.message} {RETRIED}" if is_retry else refusal.message
    wait_s = refusal.retry_after_s
    extra_headers = [] if wait_s is None else [("retry-after", f"{wait_s:g}")]
    return local_answer(request.wire.refuse(refusal.status, message), *extra_headers)
