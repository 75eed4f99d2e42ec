"""The model that answers without any provider: from a recording, a script, or by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import OFFLINE_KEY
from chowder_local.relay.calls import whole
from chowder_local.relay.offline import model as offline
from chowder_local.relay.offline.decision import decide
from chowder_local.relay.offline.model import OfflineAnswer
from chowder_local.relay.offline.stream_steps import played
from chowder_local.relay.recordings.entries import Asked
from chowder_local.relay.scripts import matching
from chowder_local.relay.scripts.matching import Refusal

MISSING_STATUS = 400
"""Clients try again after most others, and would only be told the same more slowly."""

ASKED_TWICE = (
    "(This message asked the model twice, and the script counts both: a 429 with a retry_after_s "
    "of up to 10 is waited for once, as a real provider's is. A longer one fails at once.)"
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import Exchange
    from chowder_local.relay.calls import Credential, ModelAnswer, ModelCall
    from chowder_local.relay.offline.conversation import Reply
    from chowder_local.relay.offline.model import Question
    from chowder_local.relay.recordings.player import Playback
    from chowder_local.relay.recordings.registry import RecordingRegistry
    from chowder_local.relay.scripts.registry import Scripted, ScriptRegistry

    NameOf = Callable[[InstanceId, str], "SessionName | None"]


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

    def is_meant(self, credential: Credential) -> bool:
        """Whether a call is for this model, and not for a provider."""
        return (
            credential.key == OFFLINE_KEY
            or self._recordings.playback(credential.instance_id) is not None
        )

    async def answer(
        self, call: ModelCall, credential: Credential, exchange: Exchange
    ) -> ModelAnswer:
        """The answer, which may be a failure such as a provider's."""
        exchange.source = "offline"
        asked = offline.asked(call.wire, call.path, call.query, call.body, int(time.time()))
        if isinstance(asked, OfflineAnswer):
            return _made(asked)
        if (playback := self._recordings.playback(credential.instance_id)) is not None:
            exchange.source = "recording"
            return await _replayed(call, playback, Asked.of(call.provider, asked.conversation))
        scripted = await self._scripted(call, credential, exchange, asked)
        if scripted is None:
            return _made(asked.answered(decide(asked.conversation)))
        exchange.source = f"script: {scripted.rule}"
        await asyncio.sleep(scripted.played.delay_s)
        return _scripted(call, asked, scripted.played.answer, is_retry=bool(exchange.tries))

    async def _scripted(
        self, call: ModelCall, credential: Credential, exchange: Exchange, asked: Question
    ) -> Scripted | None:
        """What a script says to a message; what OpenClaw asks on its own no script is about."""
        if credential.organization_id is None or credential.instance_id is None:
            return None
        conversation = asked.conversation
        key = exchange.session_key
        if key is None or not self._scripts.in_force(
            credential.organization_id, credential.instance_id
        ):
            return None
        session = self._name_of(credential.instance_id, key)
        ask = matching.ask(
            call.provider,
            conversation,
            session.name if session else None,
            is_session_known=session is not None,
        )
        return await self._scripts.answer(
            credential.organization_id, credential.instance_id, ask, conversation.digest
        )


async def _replayed(call: ModelCall, playback: Playback, asked: Asked) -> ModelAnswer:
    found = playback.answer(asked)
    if found is None:
        # Compared with all that was recorded, which others are not to wait for.
        words = await asyncio.to_thread(playback.missing, asked)
        return _made(offline.refused(call.wire, MISSING_STATUS, words))
    more = [] if found.retry_after is None else [("retry-after", found.retry_after)]
    return _made(OfflineAnswer(found.status, found.content_type, found.chunks()), *more)


def _scripted(
    call: ModelCall, asked: Question, answer: Reply | Refusal, *, is_retry: bool
) -> ModelAnswer:
    if not isinstance(answer, Refusal):
        return _made(asked.answered(answer))
    words = f"{answer.words} {ASKED_TWICE}" if is_retry else answer.words
    refused = offline.refused(call.wire, answer.status, words)
    wait_s = answer.retry_after_s
    return _made(refused, *([] if wait_s is None else [("retry-after", f"{wait_s:g}")]))


def _made(answer: OfflineAnswer, *more: tuple[str, str]) -> ModelAnswer:
    answer_headers = [("content-type", answer.content_type), *more]
    return whole(answer.status, answer_headers, played(answer.steps))
