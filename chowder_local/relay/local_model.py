"""The model that answers without any provider: from a recording, a script, or by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import OFFLINE_KEY
from chowder_local.relay.calls import local_answer
from chowder_local.relay.offline.decision import decide
from chowder_local.relay.recordings.entries import Asked
from chowder_local.relay.scripts.matching import Ask, Refusal
from chowder_local.relay.wire.request_format import ParsedRequest, RenderedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.calls import Credential, ModelAnswer, ModelCall
    from chowder_local.relay.recordings.registry import Playback, RecordingRegistry
    from chowder_local.relay.scripts.matching import ScriptedAnswer
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.relay.wire.conversation import Conversation

    NameOf = Callable[[InstanceId, str], "SessionName | None"]

MISSING_STATUS = 400
"""Clients try again after most others, and would only be told the same more slowly."""

ASKED_TWICE = (
    "(This message asked the model twice, and the script counts both: a 429 with a retry_after_s "
    "of up to 10 is waited for once, as a real provider's is. A longer one fails at once.)"
)


@dataclass(frozen=True)
class SessionName:
    """A session as its people know it; None is the main one."""

    name: str | None


class LocalModel:
    """Answers model calls; `name_of` tells from OpenClaw's key what a session is called."""

    def __init__(
        self, scripts: ScriptRegistry, recordings: RecordingRegistry, name_of: NameOf
    ) -> None:
        self._scripts = scripts
        self._recordings = recordings
        self._name_of = name_of

    def is_asked(self, credential: Credential) -> bool:
        """Whether a call is for this model, and not for a provider."""
        return (
            credential.key == OFFLINE_KEY
            or self._recordings.playback(credential.instance_id) is not None
        )

    async def answer(
        self, call: ModelCall, credential: Credential, logged: LoggedCall
    ) -> ModelAnswer:
        """The answer, which may be a failure such as a provider's."""
        logged.source = "offline"
        parsed = call.parse(int(time.time()))
        if not isinstance(parsed, ParsedRequest):
            return local_answer(parsed)
        if (playback := self._recordings.playback(credential.instance_id)) is not None:
            logged.source = "recording"
            return await _replay(call, playback, Asked.of(call.provider, parsed.conversation))
        scripted = await self._find_scripted(call, credential, parsed.conversation)
        if scripted is None:
            return local_answer(parsed.render(decide(parsed.conversation)))
        logged.source = f"script: {scripted.rule}"
        await asyncio.sleep(scripted.delay_s)
        if isinstance(scripted.answer, Refusal):
            return _refuse(call, scripted.answer, is_retry=bool(logged.tries))
        return local_answer(parsed.render(scripted.answer))

    async def _find_scripted(
        self, call: ModelCall, credential: Credential, conversation: Conversation
    ) -> ScriptedAnswer | None:
        """What a script says to a message; what OpenClaw asks on its own no script is about."""
        organization_id, instance_id = credential.organization_id, credential.instance_id
        if organization_id is None or instance_id is None or call.session is None:
            return None
        if not self._scripts.in_force(organization_id, instance_id):
            return None
        session = self._name_of(instance_id, call.session.key)
        ask = Ask.of(
            call.provider,
            conversation,
            session.name if session else None,
            is_session_known=session is not None,
        )
        return await self._scripts.answer(organization_id, instance_id, ask, conversation.digest)


async def _replay(call: ModelCall, playback: Playback, asked: Asked) -> ModelAnswer:
    found = playback.answer(asked)
    if found is None:
        # Compared with all that was recorded, which others are not to wait for.
        message = await asyncio.to_thread(playback.describe_nearest, asked)
        return local_answer(call.wire.refuse(MISSING_STATUS, message))
    more = [] if found.retry_after is None else [("retry-after", found.retry_after)]
    return local_answer(RenderedAnswer(found.status, found.content_type, found.chunks()), *more)


def _refuse(call: ModelCall, refusal: Refusal, *, is_retry: bool) -> ModelAnswer:
    message = f"{refusal.words} {ASKED_TWICE}" if is_retry else refusal.words
    wait_s = refusal.retry_after_s
    more = [] if wait_s is None else [("retry-after", f"{wait_s:g}")]
    return local_answer(call.wire.refuse(refusal.status, message), *more)
