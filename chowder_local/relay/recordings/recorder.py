"""Writes each model call that a provider has answered into a recording's folder."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import AnsweredCall, Asked, Entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from chowder_local.core.errors.upstream import ProviderFailed
    from chowder_local.relay.calls import ModelAnswer, ModelCall

log = logging.getLogger(__name__)

SCRUBBED = "…"


class Recorder:
    """Adds to a folder; calls are in the order in which their answers have ended."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        """`number` is that of the last one which is there."""
        self._folder = folder
        self._number = number

    async def listen(
        self, call: ModelCall, answer: ModelAnswer, key: str
    ) -> AsyncGenerator[bytes, None]:
        """The answer's bytes as they come; it is kept once it has come to its end."""
        body = bytearray()
        async with aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                yield chunk
        answered = AnsweredCall.of(answer.status, answer.content_type, bytes(body))
        await self._keep(call, answered, key)

    async def keep_failure(self, call: ModelCall, failure: ProviderFailed, key: str) -> None:
        status = failure.status or 502
        body = call.wire.error_body(status, failure.words)
        answered = AnsweredCall.of(status, "application/json", body, failure.retry_after)
        await self._keep(call, answered, key)

    async def _keep(self, call: ModelCall, answered: AnsweredCall, key: str) -> None:
        """Writes a call with its answer, without the key, wherever it may be."""
        asked = Asked.of_call(call)
        if asked is None:
            return
        self._number += 1
        entry = Entry(asked=asked, answered=answered)
        if key:
            text = entry.model_dump_json().replace(key, SCRUBBED)
            entry = Entry.model_validate_json(text)
        try:
            path = await asyncio.to_thread(folders.write, self._folder, self._number, entry)
        except OSError as error:
            # The agent has its answer all the same.
            log.error("a model call could not be recorded: %s", error)
            return
        log.info("recorded: %s", path)
