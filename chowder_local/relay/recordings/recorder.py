"""Writes each model call that a provider answers to a recording's folder."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.relay.recordings import folders
from chowder_local.relay.recordings.entries import Entry, RecordedAnswer, RecordedRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from chowder_local.core.errors.upstream import ProviderFailed
    from chowder_local.relay.calls import ModelAnswer, ModelCall

log = logging.getLogger(__name__)

SCRUBBED = "…"


@dataclass(eq=False, repr=False)
class Recorder:
    """Adds calls to a folder, in the order in which their answers end.

    `number` is the highest number that is taken.
    """

    folder: Path
    number: int = 0

    async def record_answer(
        self, call: ModelCall, answer: ModelAnswer, key: str
    ) -> AsyncGenerator[bytes, None]:
        """The same chunks. Records the answer once it is complete."""
        body = bytearray()
        async with aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                yield chunk
        recorded = RecordedAnswer.from_body(answer.status, answer.content_type, bytes(body))
        await self._write(call, recorded, key)

    async def record_failure(self, call: ModelCall, failure: ProviderFailed, key: str) -> None:
        status = failure.status or 502
        body = call.wire.error_body(status, failure.reason)
        recorded = RecordedAnswer.from_body(status, "application/json", body, failure.retry_after)
        await self._write(call, recorded, key)

    async def _write(self, call: ModelCall, answer: RecordedAnswer, key: str) -> None:
        """Writes a call with its answer, with the key removed from both."""
        request = RecordedRequest.from_call(call)
        if request is None:
            return
        self.number += 1
        entry = Entry(asked=request, answered=answer)
        if key:
            text = entry.model_dump_json().replace(key, SCRUBBED)
            entry = Entry.model_validate_json(text)
        try:
            path = await asyncio.to_thread(folders.write, self.folder, self.number, entry)
        except OSError as error:
            # The agent has its answer nevertheless.
            log.error("a model call could not be recorded: %s", error)
            return
        log.info("recorded: %s", path)
