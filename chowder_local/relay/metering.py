"""Has what model calls cost counted, while their answers pass by."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from chowder_local.relay.meter import Meter
from chowder_local.relay.origin import model_of, session_key_of
from chowder_local.store.usage import ELSEWHERE, Counts, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from chowder_local.relay.calls import Credential, ModelCall


class Ledger(Protocol):
    """Keeps what was counted."""

    def note(self, kind: Kind, counts: Counts) -> None:
        """Counts a call, without waiting for anything."""


class Metering:
    """Counts the calls of instances; those of spares are nobody's."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def of(
        self,
        call: ModelCall,
        credential: Credential,
        chunks: AsyncGenerator[bytes, None],
        *,
        is_billed: bool,
    ) -> AsyncGenerator[bytes, None]:
        """The same pieces; whether a provider is paid for them is `is_billed`."""
        meter = Meter(call.wire)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    meter.feed(chunk)
                    yield chunk
        finally:
            self._count(call, credential, meter, is_billed=is_billed)

    def _count(
        self, call: ModelCall, credential: Credential, meter: Meter, *, is_billed: bool
    ) -> None:
        # Not before the end, when nobody waits for it any more.
        if credential.instance_id is None:
            return
        kind = Kind(
            credential.instance_id,
            self._clock().date(),
            session_key_of(call.wire, call.body) or ELSEWHERE,
            call.provider,
            model_of(call.wire, call.path, call.body) or ELSEWHERE,
            is_billed,
        )
        self._ledger.note(kind, _counts(meter))


def _counts(meter: Meter) -> Counts:
    if (usage := meter.usage) is None:
        return Counts(calls=1, unmetered_calls=1)
    return Counts(
        calls=1,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        long_cache_write_tokens=usage.long_cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
