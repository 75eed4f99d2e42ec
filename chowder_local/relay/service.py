"""Lends an organization's model keys to its sandboxes, call by call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import ModelKeyMissing, ModelUnknown, ProviderReserved
from chowder_local.core.errors.upstream import (
    ContextLengthExceeded,
    ProviderFailed,
    RelayFailed,
    RelayTokenInvalid,
    StreamBroken,
    UpstreamFailed,
)
from chowder_local.core.events import EventType
from chowder_local.relay import providers
from chowder_local.relay.calls import ModelAnswer, whole
from chowder_local.relay.choices import insisted
from chowder_local.relay.endpoint_routing import addressed
from chowder_local.relay.offline.stream_steps import played
from chowder_local.relay.origin import model_of
from chowder_local.relay.recordings.recorder import refused
from chowder_local.relay.stream_check import StreamCheck
from chowder_local.relay.stream_end import StreamEnd
from chowder_local.upstream import headers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from chowder_local.core.events import Events
    from chowder_local.core.metrics import Metrics
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.relay.call_log import Exchange, Exchanges
    from chowder_local.relay.calls import Credential, CredentialResolver, ModelCall
    from chowder_local.relay.compaction import Compaction, Compactions
    from chowder_local.relay.failure_markers import FailureMarkers
    from chowder_local.relay.local_model import LocalModel
    from chowder_local.relay.metering import Metering
    from chowder_local.relay.recordings.recorder import Recorder
    from chowder_local.relay.session_watch import SessionWatch
    from chowder_local.upstream.forward import Forwarder

_log = logging.getLogger(__name__)

_MAX_WAIT_S = 10.0
_MAX_ERROR_BYTES = 64 * 1024
_ERROR_TIMEOUT_S = 10.0
# OpenClaw neither retries after this status nor blocks the provider for a while, as it does
# after 401, 403, 429 and 5xx.
CROSSING_STATUS = 400
_JSON = ("content-type", "application/json")
_EVENT_STREAM = "text/event-stream"
_THEIRS = {"provider", "recording"}
"""Sources of answers that a provider has written; a script's faults are meant."""


class Relay:
    """Forwards model calls with the organization's key, and remembers how they fail."""

    def __init__(
        self,
        *,
        resolver: CredentialResolver,
        base_urls: Mapping[str, str],
        endpoints: Mapping[str, Endpoint],
        forwarder: Forwarder,
        failures: FailureMarkers,
        events: Events,
        metrics: Metrics,
        exchanges: Exchanges,
        metering: Metering,
        local_model: LocalModel,
        session_watch: SessionWatch,
        compactions: Compactions,
        recorder: Recorder | None = None,
    ) -> None:
        self._resolver = resolver
        self._base_urls = {**base_urls, **{each.name: each.url for each in endpoints.values()}}
        self._endpoints = endpoints
        self._forwarder = forwarder
        self._failures = failures
        self._events = events
        self._metrics = metrics
        self._exchanges = exchanges
        self._metering = metering
        self._local_model = local_model
        self._session_watch = session_watch
        self._compactions = compactions
        self._recorder = recorder

    async def answer(self, call: ModelCall) -> ModelAnswer:
        """The provider's answer as it comes; a failure is remembered, and its marker answered.

        Raises RelayTokenInvalid.
        """
        call = addressed(call, self._endpoints)
        fields = dict(call.headers)
        token = providers.token_of(call.wire, fields, call.query)
        if token is None:
            raise RelayTokenInvalid
        try:
            credential = await self._resolver.lend(token, call.provider)
        except RelayTokenInvalid:
            raise
        except Exception as problem:  # noqa: BLE001 - logged, and told to the message's client
            marker = self._failures.remember(_unexpected(call, None, problem), None)
            return _marked(call, marker)
        request_context.set_instance(credential.instance_id)
        exchange = self._begin(call, credential, fields)
        if credential.key is None:
            return self._failed(call, credential, exchange, "keyless", self._unlent(call))
        if self._session_watch.is_lost(credential.sandbox_id, call.wire, call.body):
            return self._forgotten(call, credential, exchange)
        return await self._made(call, credential, exchange, credential.key)

    async def _made(
        self, call: ModelCall, credential: Credential, exchange: Exchange, key: str
    ) -> ModelAnswer:
        """What comes of a call that may be made."""
        compaction = None
        if call.provider in self._endpoints:
            compaction = self._compactions.of_call(call, exchange.turn_id, credential.sandbox_id)
        try:
            if compaction is not None:
                self._compactions.count(call, compaction)
            return await self._answer(call, credential, exchange, key, compaction)
        except (ContextLengthExceeded, ProviderFailed) as failed:
            return self._failed(call, credential, exchange, "refused", failed)
        except Exception as problem:  # noqa: BLE001 - logged, and told to the message's client
            failure = _unexpected(call, credential, problem)
            return self._failed(call, credential, exchange, "failed", failure)

    async def _answer(
        self,
        call: ModelCall,
        credential: Credential,
        exchange: Exchange,
        key: str,
        compaction: Compaction | None,
    ) -> ModelAnswer:
        is_local = self._local_model.is_meant(credential)
        try:
            answer = await self._bounded(call, credential, exchange, key, compaction)
        except UpstreamFailed as failed:
            failure = ProviderFailed(call.provider, None, self._words(call, failed))
            return self._failed(call, credential, exchange, "unreachable", failure)
        exchange.status = answer.status
        exchange.content_type = dict(answer.headers).get("content-type", "")
        recorder = None if is_local else self._recorder
        if answer.status >= 300 or answer.is_page:
            failure = await _failure(call, answer, "" if is_local else key)
            if recorder is not None:
                await recorder.keep(call, refused(call.provider, failure), key)
            return self._failed(call, credential, exchange, "refused", failure)
        if recorder is not None:
            answer = replace(answer, chunks=recorder.listened(call, answer, key))
        chunks = self._chunks(call, credential, exchange, answer)
        if call.method == "POST":
            # Nobody is paid where no key is wanted.
            is_billed = not is_local and bool(key)
            chunks = self._metering.of(call, credential, chunks, is_billed=is_billed)

        async def close() -> None:
            await chunks.aclose()
            if exchange.outcome is None:
                # The sandbox has left before the first byte, which chunks know nothing of.
                self._ended(call, credential, exchange, "left", None)
            await answer.close()

        return ModelAnswer(answer.status, headers.back(answer.headers), chunks, close)

    def _unlent(self, call: ModelCall) -> ChowderError:
        """Why there is no key for a call."""
        if call.provider in self._endpoints:
            return ProviderReserved(call.provider)
        if call.provider not in self._base_urls:
            model = model_of(call.wire, call.path, call.body) or ""
            return ModelUnknown(model, self._endpoints)
        return ModelKeyMissing(call.provider)

    def _words(self, call: ModelCall, failed: UpstreamFailed) -> str:
        endpoint = self._endpoints.get(call.provider)
        return str(failed) if endpoint is None else f"{failed}. {endpoint.cure}"

    def _begin(
        self, call: ModelCall, credential: Credential, fields: Mapping[str, str]
    ) -> Exchange:
        # OpenClaw makes a trace of each turn, and a span of each of its calls.
        _, _, trace = fields.get("traceparent", "").partition("-")
        return self._exchanges.begin(
            credential.organization_id, credential.instance_id, call.provider, call.path, call.body,
            trace.partition("-")[0] or None,
        )  # fmt: skip

    async def _bounded(
        self,
        call: ModelCall,
        credential: Credential,
        exchange: Exchange,
        key: str,
        compaction: Compaction | None,
    ) -> ModelAnswer:
        """An answer that ends in time, if it is a part of a compaction."""
        opening = self._opened(call, credential, exchange, key)
        if compaction is None:
            return await opening
        answer = await self._compactions.within(call, compaction, opening)
        chunks = self._compactions.bounded(call, compaction, answer.chunks)
        return replace(answer, chunks=chunks)

    async def _opened(
        self, call: ModelCall, credential: Credential, exchange: Exchange, key: str
    ) -> ModelAnswer:
        """The first answer, or the second where trying again is right; raises UpstreamFailed."""
        if self._local_model.is_meant(credential):
            ask = partial(self._local_model.answer, call, credential, exchange)
        else:
            ask = partial(self._send, replace(call, body=insisted(call.wire, call.body)), key)
        try:
            answer = await ask()
        except UpstreamFailed as failed:
            if failed.is_sent:
                raise
            exchange.tried(None)
            return await ask()
        wait_s = providers.wait_asked_for(dict(answer.headers)) if answer.status == 429 else None
        if wait_s is None or wait_s > _MAX_WAIT_S:
            return answer
        await answer.close()
        exchange.tried(answer.status, wait_s)
        await asyncio.sleep(wait_s)
        return await ask()

    async def _send(self, call: ModelCall, key: str) -> ModelAnswer:
        query = providers.without_key(call.query)
        url = f"{self._base_urls[call.provider]}/{call.path}" + (f"?{query}" if query else "")
        sent = headers.onward(call.headers, providers.credential(call.wire, key) if key else None)
        # A model that runs on somebody's own machine may have to be loaded, and reads slowly.
        is_patient = call.provider in self._endpoints
        answer = await self._forwarder.open(
            call.method, url, sent, call.body, is_patient=is_patient
        )
        return ModelAnswer(answer.status, answer.headers, answer.chunks(), answer.close)

    async def _chunks(
        self, call: ModelCall, credential: Credential, exchange: Exchange, answer: ModelAnswer
    ) -> AsyncGenerator[bytes, None]:
        outcome, words = "left", None
        check = self._check(call, exchange)
        try:
            async with aclosing(answer.chunks) as chunks:
                async for chunk in chunks:
                    self._exchanges.came(exchange, chunk)
                    if check is not None and check.problem is None:
                        check.feed(chunk)
                        # OpenClaw may hang up at the very chunk.
                        words = self._note_problem(call, credential, check)
                    yield chunk
            if check is not None and check.problem is None:
                check.end()
                words = self._note_problem(call, credential, check)
            outcome = "answered" if exchange.source == "provider" else "offline"
        except StreamBroken as broken:
            outcome = "broken"
            failure = ProviderFailed(call.provider, None, f"it broke off its answer: {broken}")
            words = str(failure)
            self._remember(call, credential, failure)
            raise
        except ContextLengthExceeded as outgrown:
            outcome, words = "failed", str(outgrown)
            self._remember(call, credential, outgrown)
            raise StreamBroken(words) from outgrown
        except Exception as problem:
            outcome, unexpected = "failed", _unexpected(call, credential, problem)
            words = str(unexpected)
            self._remember(call, credential, unexpected)
            raise StreamBroken(words) from problem
        finally:
            if outcome == "left" and check is not None and check.is_whole:
                # It left a connection that had no more to say.
                outcome = "answered" if exchange.source == "provider" else "offline"
            self._ended(call, credential, exchange, outcome, words)

    def _check(self, call: ModelCall, exchange: Exchange) -> StreamCheck | StreamEnd | None:
        """What follows a stream; the large providers need no judge, and have their own formats."""
        if _EVENT_STREAM not in exchange.content_type:
            return None
        is_theirs = call.provider in self._endpoints and exchange.source in _THEIRS
        return StreamCheck() if is_theirs else StreamEnd(call.wire)

    def _note_problem(
        self, call: ModelCall, credential: Credential, check: StreamCheck | StreamEnd
    ) -> str | None:
        """Remembers what is wrong with an answer, for the case that OpenClaw does not tell."""
        if check.problem is None:
            return None
        failure = ProviderFailed(call.provider, None, check.problem, has_begun=True)
        self._remember(call, credential, failure)
        return str(failure)

    def _ended(
        self,
        call: ModelCall,
        credential: Credential,
        exchange: Exchange,
        outcome: str,
        words: str | None,
    ) -> None:
        self._metrics.model_call(call.provider, outcome)
        _log.debug(
            "Instance %s: model call of %s: %s", credential.instance_id, call.provider, outcome
        )
        exchange.ended(outcome, words)

    def _remember(self, call: ModelCall, credential: Credential, failure: ChowderError) -> str:
        """The marker by which the failure is found again, which is told as an event as well."""
        if not isinstance(failure, RelayFailed):
            _log.warning("Instance %s: %s", credential.instance_id, failure)
        # Without its words: they are the provider's, and may quote what it was asked.
        status = failure.status if isinstance(failure, ProviderFailed) else None
        self._events.publish(
            EventType.MODEL_FAILED,
            credential.organization_id,
            credential.instance_id,
            provider=call.provider,
            status=status,
            code=failure.code,
        )
        return self._failures.remember(failure, credential.sandbox_id)

    def _forgotten(
        self, call: ModelCall, credential: Credential, exchange: Exchange
    ) -> ModelAnswer:
        """The answer to a message that is going to come once more, as a whole."""
        words = "The agent does not remember the conversation; the message is sent again, whole."
        self._ended(call, credential, exchange, "refused", words)
        return _marked(call, words)

    def _failed(
        self,
        call: ModelCall,
        credential: Credential,
        exchange: Exchange,
        outcome: str,
        failure: ChowderError,
    ) -> ModelAnswer:
        self._ended(call, credential, exchange, outcome, str(failure))
        told = self._remember(call, credential, failure)
        # Other words would make OpenClaw block the provider; these make it shorten the prompt.
        if isinstance(failure, ProviderFailed) and providers.is_overflow(failure.words):
            told += self._compactions.overflow_words(call, exchange.turn_id, failure)
        return _marked(call, told)


def _marked(call: ModelCall, told: str) -> ModelAnswer:
    """The answer that stands for a failure."""
    body = providers.error_body(call.wire, CROSSING_STATUS, told)
    return whole(CROSSING_STATUS, [_JSON], played([body]))


def _unexpected(call: ModelCall, credential: Credential | None, problem: Exception) -> RelayFailed:
    """What a message's client is told of a failure of our own, which is logged here."""
    whose = None if credential is None else credential.instance_id
    _log.error("Instance %s: a call of %s failed", whose, call.provider, exc_info=problem)
    # Others' words may hold anything.
    return RelayFailed(str(problem) if isinstance(problem, ChowderError) else None)


async def _failure(call: ModelCall, answer: ModelAnswer, key: str) -> ProviderFailed:
    body = b""
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT_S), aclosing(answer.chunks) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _MAX_ERROR_BYTES:
                    break
    except (TimeoutError, StreamBroken):
        # The status and what has come of the words are better than nothing.
        pass
    finally:
        await answer.close()
    words = providers.error_words(body)
    if key:
        words = words.replace(key, "…")
    retry_after = dict(answer.headers).get("retry-after")
    return ProviderFailed(
        call.provider, answer.status, words or "no words", retry_after,
        provider_code=providers.error_code(body),
    )  # fmt: skip
