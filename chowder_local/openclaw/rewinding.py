"""Takes back a message without an answer, so that a retry does not repeat it.

OpenClaw cannot continue with a message whose model call failed: it keeps the message, and a retry
would add a second one with the same text. Its `sessions.rewind` sets a conversation back to before
a message. The message stays in OpenClaw's database, off the conversation's active branch.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import NodeUnreachable
from chowder_local.openclaw.responses.history import collapse_whitespace

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Control
    from chowder_local.openclaw.transcripts.reader import Transcripts

log = logging.getLogger(__name__)

ATTEMPTS = 20
INTERVAL_S = 0.25
"""An agent works for up to two seconds after its client has disconnected."""
BUSY = "while the agent is working"


@dataclass(eq=False, repr=False)
class Rewinding:
    """Takes back the latest message of a conversation."""

    transcripts: Transcripts
    control: Control

    async def take_back(self, sandbox_id: SandboxId, session_key: str, text: str) -> bool:
        """Takes the latest message back if it ends with `text`; whether it did.

        A message stays if the agent has answered it or has used a tool for it: the agent would
        forget what it has done, and do it again. Errors are logged, unless its machine is away:
        the message that is sent next is then refused for the same reason.
        """
        try:
            latest = await self.transcripts.latest_message(sandbox_id, session_key)
            if latest is None or not latest.is_unanswered or not _ends_with(latest.text, text):
                return False
            await self._rewind(sandbox_id, session_key, latest.entry_id)
        except NodeUnreachable:
            return False
        except ChowderError as problem:
            log.warning("sandbox %s: a message could not be taken back: %s", sandbox_id, problem)
            return False
        return True

    async def _rewind(self, sandbox_id: SandboxId, session_key: str, entry_id: str) -> None:
        params = {"sessionKey": session_key, "entryId": entry_id}
        for attempt in range(ATTEMPTS):
            try:
                await self.control.call(sandbox_id, "sessions.rewind", params)
            except GatewayUnavailable as unavailable:
                if BUSY not in str(unavailable) or attempt + 1 == ATTEMPTS:
                    raise
                await asyncio.sleep(INTERVAL_S)
            else:
                return


def _ends_with(text: str, ending: str) -> bool:
    return collapse_whitespace(text).endswith(collapse_whitespace(ending))
