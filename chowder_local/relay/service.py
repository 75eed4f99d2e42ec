"""Lends an organization's model keys to its sandboxes, call by call."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from chowder_local import correlation
from chowder_local.domain import OFFLINE_KEY
from chowder_local.errors.requests import ModelKeyMissing
from chowder_local.errors.upstream import (
    ProviderFailed,
    RelayTokenInvalid,
    StreamBroken,
    UpstreamFailed,
)
from chowder_local.events import EventType
from chowder_local.relay import providers
from chowder_local.relay.choices import insisted
from chowder_local.relay.offline import model as offline
from chowder_local.upstream import headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from chowder_local.domain import InstanceId, ModelProvider, OrganizationId, SandboxId
    from chowder_local.errors import ChowderError
    from chowder_local.events import Events
    from chowder_local.metrics import Metrics
    from chowder_local.relay.failures import FailureLog
    from chowder_local.upstream.forward import Answer, Forwarder

_log = logging.getLogger(__name__)

_MAX_WAIT_S = 10.0
_MAX_ERROR_BYTES = 64 * 1024
_ERROR_TIMEOUT_S = 10.0
# OpenClaw neither retries after this status nor blocks the provider for a while, as it does
# after 401, 403, 429 and 5xx.
CROSSING_STATUS = 400


@dataclass(frozen=True)
class Loan:
    """Who calls, nobody if it is a spare, and with whose key; None if none is set."""

    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    sandbox_id: SandboxId
    key: str | None


class Lender(Protocol):
    """Knows which organization's key a sandbox may use."""

    async def lend(self, relay_token: str, provider: ModelProvider) -> Loan:
        """The loan for a call; raises RelayTokenInvalid for a token that is not ours."""


@dataclass(frozen=True)
class ModelCall:
    """A sandbox's request; header names are in lower case, the path has no leading slash."""

    provider: ModelProvider
    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class ModelAnswer:
    """What a sandbox gets; whoever holds one closes it, read or not."""

    status: int
    headers: Sequence[tuple[str, str]]
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]


class Relay:
    """Forwards model calls with the organization's key, and remembers how they fail."""

    def __init__(
        self,
        lender: Lender,
        base_urls: Mapping[ModelProvider, str],
        forwarder: Forwarder,
        failures: FailureLog,
        events: Events,
        metrics: Metrics,
    ) -> None:
        self._lender = lender
        self._base_urls = base_urls
        self._forwarder = forwarder
        self._failures = failures
        self._events = events
        self._metrics = metrics

    async def answer(self, call: ModelCall) -> ModelAnswer:
        """The provider's answer as it comes; a failure is remembered, and its marker answered.

        Raises RelayTokenInvalid.
        """
        token = providers.token_of(call.provider, dict(call.headers), call.query)
        if token is None:
            raise RelayTokenInvalid
        loan = await self._lender.lend(token, call.provider)
        correlation.of_instance(loan.instance_id)
        if loan.key is None:
            self._count(call, loan, "keyless")
            return self._failed(call, loan, ModelKeyMissing(call.provider))
        if loan.key == OFFLINE_KEY:
            self._count(call, loan, "offline")
            return _offline(call)
        call = replace(call, body=insisted(call.provider, call.body))
        try:
            answer = await self._open(call, loan.key)
        except UpstreamFailed as failed:
            self._count(call, loan, "unreachable")
            return self._failed(call, loan, ProviderFailed(call.provider, None, str(failed)))
        if answer.status >= 300 or _is_page(answer):
            self._count(call, loan, "refused")
            return self._failed(call, loan, await _failure(call, answer, loan.key))
        chunks = self._chunks(call, loan, answer)
        return ModelAnswer(answer.status, headers.back(answer.headers), chunks, answer.close)

    async def _open(self, call: ModelCall, key: str) -> Answer:
        """The first answer, or the second where trying again is right; raises UpstreamFailed."""
        try:
            answer = await self._send(call, key)
        except UpstreamFailed as failed:
            if failed.is_sent:
                raise
            return await self._send(call, key)
        wait_s = providers.wait_asked_for(dict(answer.headers)) if answer.status == 429 else None
        if wait_s is None or wait_s > _MAX_WAIT_S:
            return answer
        await answer.close()
        await asyncio.sleep(wait_s)
        return await self._send(call, key)

    async def _send(self, call: ModelCall, key: str) -> Answer:
        query = providers.without_key(call.query)
        url = f"{self._base_urls[call.provider]}/{call.path}" + (f"?{query}" if query else "")
        sent = headers.onward(call.headers, providers.credential(call.provider, key))
        return await self._forwarder.open(call.method, url, sent, call.body)

    async def _chunks(self, call: ModelCall, loan: Loan, answer: Answer) -> AsyncIterator[bytes]:
        outcome = "left"
        try:
            async for chunk in answer.chunks():
                yield chunk
            outcome = "answered"
        except StreamBroken as broken:
            outcome = "broken"
            failure = ProviderFailed(call.provider, None, f"it broke off its answer: {broken}")
            self._remember(call, loan, failure)
            raise
        finally:
            self._count(call, loan, outcome)

    def _count(self, call: ModelCall, loan: Loan, outcome: str) -> None:
        self._metrics.model_call(call.provider, outcome)
        _log.debug("Instance %s: a model call of %s: %s", loan.instance_id, call.provider, outcome)

    def _remember(self, call: ModelCall, loan: Loan, failure: ChowderError) -> str:
        """The marker by which the failure is found again, which is told as an event as well."""
        _log.warning("Instance %s: %s", loan.instance_id, failure)
        # Without its words: they are the provider's, and may quote what it was asked.
        status = failure.status if isinstance(failure, ProviderFailed) else None
        self._events.publish(
            EventType.MODEL_FAILED,
            loan.organization_id,
            loan.instance_id,
            provider=call.provider,
            status=status,
            code=failure.code,
        )
        return self._failures.remember(failure, loan.sandbox_id)

    def _failed(self, call: ModelCall, loan: Loan, failure: ChowderError) -> ModelAnswer:
        told = self._remember(call, loan, failure)
        # Other words would make OpenClaw block the provider; these make it shorten the prompt.
        if isinstance(failure, ProviderFailed) and providers.is_overflow(failure.words):
            told = f"{told} {failure.words}"
        body = providers.error_body(call.provider, CROSSING_STATUS, told)
        return _whole(CROSSING_STATUS, "application/json", iter([body]))


def _is_page(answer: Answer) -> bool:
    """Whether something on the way answers with a page for people, as proxies do."""
    return dict(answer.headers).get("content-type", "").startswith("text/html")


async def _failure(call: ModelCall, answer: Answer, key: str) -> ProviderFailed:
    body = b""
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT_S):
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    except (TimeoutError, StreamBroken):
        # The status and what has come of the words are better than nothing.
        pass
    finally:
        await answer.close()
    words = providers.error_words(body).replace(key, "…")
    retry_after = dict(answer.headers).get("retry-after")
    return ProviderFailed(call.provider, answer.status, words or "no words", retry_after)


def _offline(call: ModelCall) -> ModelAnswer:
    answer = offline.answer(call.provider, call.path, call.query, call.body, int(time.time()))
    return _whole(answer.status, answer.content_type, answer.chunks)


def _whole(status: int, content_type: str, body: Iterator[bytes]) -> ModelAnswer:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in body:
            yield chunk

    async def close() -> None:
        """There is nothing open."""

    return ModelAnswer(status, [("content-type", content_type)], chunks(), close)
