"""Takes a message back that got no answer, so that the same words are not said twice.

OpenClaw has no way to go on with a message whose model call failed: it keeps the message, and a
second one with the same words would follow it. Its `sessions.rewind` puts a conversation back to
before a message. What was taken back stays in OpenClaw's database, beside the conversation.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.openclaw.responses.item_digests import collapse_whitespace

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.control import Control
    from chowder_local.openclaw.transcripts.reader import Transcripts

log = logging.getLogger(__name__)

ATTEMPTS = 20
INTERVAL_S = 0.25
"""An agent whose client has gone takes up to two seconds until it does nothing any more."""
BUSY = "while the agent is working"


class Rewinding:
    """Takes back the latest message of a conversation."""

    def __init__(self, transcripts: Transcripts, control: Control) -> None:
        self._transcripts = transcripts
        self._control = control

    async def take_back(self, sandbox_id: SandboxId, session_key: str, text: str) -> bool:
        """Whether the latest message was taken back: it must end with these words.

        One that the agent has answered stays, and one for which it has used its tools: else it
        would not know what it has done, and do it once more. What fails is logged.
        """
        try:
            latest = await self._transcripts.latest_message(sandbox_id, session_key)
            if latest is None or not latest.is_unanswered or not _ends_with(latest.text, text):
                return False
            await self._rewind(sandbox_id, session_key, latest.entry_id)
        except ChowderError as problem:
            log.warning("sandbox %s: a message could not be taken back: %s", sandbox_id, problem)
            return False
        return True

    async def _rewind(self, sandbox_id: SandboxId, session_key: str, entry_id: str) -> None:
        params = {"sessionKey": session_key, "entryId": entry_id}
        for attempt in range(ATTEMPTS):
            try:
                await self._control.call(sandbox_id, "sessions.rewind", params)
            except GatewayUnavailable as unavailable:
                if BUSY not in str(unavailable) or attempt + 1 == ATTEMPTS:
                    raise
                await asyncio.sleep(INTERVAL_S)
            else:
                return


def _ends_with(text: str, ending: str) -> bool:
    return collapse_whitespace(text).endswith(collapse_whitespace(ending))
