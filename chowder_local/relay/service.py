"""Forwards the model calls of sandboxes with their organization's model key."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import HoldEnded
from chowder_local.core.errors.upstream import (
    ContextLengthExceeded,
    ProviderFailed,
    RelayFailed,
    RelayTokenInvalid,
    StreamBroken,
    UpstreamFailed,
)
from chowder_local.core.long_values import off_loop
from chowder_local.relay.calls import (
    Credential,
    CredentialResolver,
    ModelAnswer,
    RelayRequest,
    local_answer,
)
from chowder_local.relay.metering import CompletionObserver, EndObserver, Meter
from chowder_local.relay.tool_choice import enforce_tool_choice
from chowder_local.relay.upstreams import read_failure
from chowder_local.relay.wire.errors import is_overflow, retry_wait_s
from chowder_local.relay.wire.wire_format import EVENTS_TYPE
from chowder_local.upstream import forward
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chowder_local.relay.call_log import CallJournal, ModelCall
    from chowder_local.relay.compaction import Compactions
    from chowder_local.relay.holds import BeforeModelCall, Hold
    from chowder_local.relay.local_model import LocalModel
    from chowder_local.relay.metering import Metering, Reservation, Reserve, StreamObserver
    from chowder_local.relay.scripts.rules import Action
    from chowder_local.relay.session_watch import SessionWatch
    from chowder_local.relay.upstreams import Upstreams
    from chowder_local.relay.wire.wire_format import Usage


_log = logging.getLogger(__name__)

_MAX_WAIT_S = 10.0
# After this status OpenClaw neither retries nor blocks the provider for a while, as it does after
# 401, 403, 429 and 5xx.
UNRETRIED_STATUS = 400
REFUSED_STATUS = 403
"""For a path that the relay does not forward. Agents' own model calls never get it."""
_EVENT_STREAM = "text/event-stream"
COMMENT_S = 15.0
"""After this time, and every so often, the stream of a held call gets a comment."""
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_FORGOTTEN = "The agent has forgotten the conversation; the whole message is sent again."


@dataclass
class _Active:
    """A call in progress: its credential, its log entry and its destination."""

    request: RelayRequest
    credential: Credential
    call: ModelCall
    is_local: bool
    is_of_endpoint: bool
    """Whether the provider is one that the operator named."""
    reservations: list[Reservation] | None = None
    """What is kept for the call; None until it may be sent."""
    instead: Action | None = None
    """What somebody answers in the model's place."""

    @property
    def is_answered_here(self) -> bool:
        """Whether no provider is called."""
        return self.is_local or self.instead is not None

    @property
    def key(self) -> str:
        """The provider's key; empty if the call needs none."""
        return "" if self.is_local else self.credential.key or ""

    @property
    def is_billed(self) -> bool:
        """Whether the call costs something: one without a key only if its model has a price."""
        return bool(self.key) or self.call.has_own_price


@dataclass(eq=False, repr=False, kw_only=True)
class Relay:
    """Answers model calls and remembers their failures."""

    resolver: CredentialResolver
    upstreams: Upstreams
    journal: CallJournal
    metering: Metering
    local_model: LocalModel
    session_watch: SessionWatch
    compactions: Compactions
    before_model_call: Sequence[BeforeModelCall]
    reserve: Sequence[Reserve]

    async def answer(self, request: RelayRequest) -> ModelAnswer:
        """The provider's answer, streamed; or an error with the marker of a remembered failure.

        Raises RelayTokenInvalid if the call has no valid relay token.
        """
        try:
            request = await off_loop(lambda _: self.upstreams.route(request), request.body)
            credential = await self._authenticate(request)
            # The body may have to be parsed to find it.
            session = await off_loop(lambda _: request.session, request.body)
        except RelayTokenInvalid:
            raise
        except Exception as problem:  # noqa: BLE001 - logged, and reported to the client
            return _marked(
                request, self.journal.remember_unowned(_unexpected(request, None, problem))
            )
        active = _Active(
            request,
            credential,
            self.journal.begin(request, credential, session),
            is_local=self.local_model.handles(request, credential),
            is_of_endpoint=self.upstreams.is_endpoint(request.provider),
        )
        try:
            return await self._answer(active)
        except asyncio.CancelledError:
            self._note_left(active)
            raise
        except Exception as problem:  # noqa: BLE001 - logged, and reported to the client
            return self._fail(active, "failed", _unexpected(request, credential, problem))

    async def _answer(self, active: _Active) -> ModelAnswer:
        request, credential = active.request, active.credential
        if credential.key is None:
            return self._fail(active, "no_credentials", self.upstreams.missing_key(request))
        if not active.is_local and (refusal := self.upstreams.path_refusal(request)):
            active.call.status = REFUSED_STATUS
            self.journal.finish(active.call, "refused", refusal)
            return local_answer(request.wire.refuse(REFUSED_STATUS, refusal))
        if not self.session_watch.note(credential.sandbox_id, active.call):
            # The client's message is sent to the agent again, as a whole.
            self.journal.finish(active.call, "refused", _FORGOTTEN)
            return _marked(request, _FORGOTTEN)
        try:
            for look in self.before_model_call:
                if (held := await look(request, active.call)) is not None:
                    return await self._hold(active, held)
        except HoldEnded as ended:
            return self._fail(active, "refused", ended)
        return await self._send(active)

    async def _hold(self, active: _Active, held: Hold) -> ModelAnswer:
        """The answer to a held call, once it is let go.

        A stream begins meanwhile, because OpenClaw waits five minutes for its first bytes.
        """
        is_streamed = _STREAMED.search(active.request.body) or "stream" in active.request.path
        try:
            if is_streamed and not await held.wait(COMMENT_S):
                return self._commented(active, held)
            return await self._let_go(active, held)
        # A client that leaves cancels this: nobody may let its call go on then.
        except BaseException:
            held.end()
            raise

    async def _let_go(self, active: _Active, held: Hold) -> ModelAnswer:
        """The answer to a call that was held, edited or in the model's place if so decided."""
        try:
            release = await held.released()
        except HoldEnded as ended:
            held.end("ended")
            return self._fail(active, "refused", ended)
        if release.content is not None:
            active.request = active.request.with_content(release.content)
            self.journal.call_log.replace_body(active.call, active.request.body)
        active.instead = release.action
        return await self._send(active)

    def _commented(self, active: _Active, held: Hold) -> ModelAnswer:
        """A stream of signs of life until the call is let go, and then of its answer."""
        sign = active.request.wire.keepalive(active.request.path)

        async def stream() -> AsyncGenerator[bytes, None]:
            yield sign
            while not await held.wait(COMMENT_S) and not held.is_over:
                yield sign
            try:
                answer = await self._let_go(active, held)
            except Exception as problem:  # noqa: BLE001 - logged, and reported to the client
                failure = _unexpected(active.request, active.credential, problem)
                answer = self._fail(active, "failed", failure)
            try:
                async with aclosing(answer.chunks) as chunks:
                    if answer.status < 300:
                        async for chunk in chunks:
                            yield chunk
                    else:
                        # The status is gone: the providers' clients take an error as an event, too.
                        yield encode(b"".join([each async for each in chunks]).decode(), "error")
            finally:
                await answer.close()

        chunks = stream()

        async def close() -> None:
            await chunks.aclose()
            held.end()
            if active.call.outcome is None:
                self._note_left(active)

        headers = [("content-type", EVENTS_TYPE)]
        return ModelAnswer(200, headers, chunks, close)

    async def _send(self, active: _Active) -> ModelAnswer:
        """The answer to a call that may take what it can."""
        try:
            await self._reserve(active)
            return self._observed(active, await self._forward(active))
        except UpstreamFailed as failed:
            failure = self.upstreams.unreachable(active.request, failed)
            return self._fail(active, "unreachable", failure, is_free=not failed.is_sent)
        except ProviderFailed as failed:
            return self._fail(active, "refused", failed, is_free=True)
        except ContextLengthExceeded as failed:
            return self._fail(active, "refused", failed)
        except ChowderError as failed:
            if not failed.refuses_model_call:
                raise
            return self._fail(active, "refused", failed, is_free=True)

    async def _reserve(self, active: _Active) -> None:
        made: list[Reservation] = []
        try:
            for reserve in self.reserve:
                reservation = await reserve(
                    active.request,
                    active.credential,
                    active.call.turn_id,
                    is_local=active.is_answered_here,
                    is_billed=not active.is_answered_here and active.is_billed,
                )
                made.append(reservation)
        except BaseException:
            for each in made:
                each.release()
            raise
        active.reservations = made

    async def _authenticate(self, request: RelayRequest) -> Credential:
        token = request.wire.read_token(dict(request.headers), request.query)
        if token is None:
            raise RelayTokenInvalid
        credential = await self.resolver.resolve(token, request.provider)
        logs.set_instance(credential.instance_id)
        return credential

    async def _forward(self, active: _Active) -> ModelAnswer:
        """A successful answer, recorded. Raises ProviderFailed if the provider refuses the call."""
        answer = await self._open_in_time(active)
        active.call.status, active.call.content_type = answer.status, answer.content_type
        if answer.status >= 300 or answer.is_page:
            failure = await read_failure(active.request, answer, active.key)
            if not active.is_answered_here:
                await self.journal.record_failure(active.request, failure, active.key)
            raise failure
        if active.is_answered_here:
            return answer
        return self.journal.record(active.request, answer, active.key)

    async def _open_in_time(self, active: _Active) -> ModelAnswer:
        """An answer; in a compaction, one that is bounded by the compaction's time."""
        request, compaction = active.request, None
        if active.is_of_endpoint:
            turn_id, sandbox_id = active.call.turn_id, active.credential.sandbox_id
            compaction = self.compactions.find(request, turn_id, sandbox_id)
        if compaction is None:
            return await self._open(active)
        self.compactions.count(request, compaction)
        answer = await self.compactions.in_time(request, compaction, self._open(active))
        chunks = self.compactions.bound_chunks(request, compaction, answer.chunks)
        return replace(answer, chunks=chunks)

    async def _open(self, active: _Active) -> ModelAnswer:
        """The answer, after one retry if the call was not sent or may be repeated soon (429).

        Raises UpstreamFailed if no answer comes.
        """
        send: Callable[[], Awaitable[ModelAnswer]]
        if active.instead is not None:
            send = partial(
                self.local_model.answer_instead,
                active.instead,
                active.request,
                active.credential,
                active.call,
            )
        elif active.is_local:
            send = partial(self.local_model.answer, active.request, active.credential, active.call)
        else:
            send = partial(self.upstreams.send, enforce_tool_choice(active.request), active.key)
        try:
            answer = await send()
        except UpstreamFailed as failed:
            if failed.is_sent:
                raise
            active.call.retry(None)
            return await send()
        wait_s = retry_wait_s(dict(answer.headers)) if answer.status == 429 else None
        if wait_s is None or wait_s > _MAX_WAIT_S:
            return answer
        await answer.close()
        active.call.retry(answer.status, wait_s)
        await asyncio.sleep(wait_s)
        return await send()

    def _observed(self, active: _Active, answer: ModelAnswer) -> ModelAnswer:
        chunks = self._observe(active, answer)

        async def close() -> None:
            await chunks.aclose()
            if active.call.outcome is None:
                # The sandbox left before the first byte, so `chunks` never ran.
                self._note_left(active)
            await answer.close()

        return ModelAnswer(answer.status, forward.for_caller(answer.headers), chunks, close)

    def _note_left(self, active: _Active) -> None:
        """Ends a call whose sandbox left before the first byte. The provider may bill it."""
        self.journal.finish(active.call, "client_disconnected")
        self._note_usage(active, None)

    def _note_usage(
        self, active: _Active, usage: Usage | None, *, is_complete: bool = False
    ) -> None:
        # A call that was held, or waited to be let in, when its sandbox left was never sent.
        if active.reservations is None:
            return
        for each in active.reservations:
            each.settle(usage if is_complete else None)
        if active.request.method == "POST":
            self.metering.note(active.request, active.credential, usage, is_billed=active.is_billed)

    async def _observe(self, active: _Active, answer: ModelAnswer) -> AsyncGenerator[bytes, None]:
        outcome, error = "client_disconnected", None
        observer, meter = self._observer(active), Meter(active.request.wire)
        try:
            async with aclosing(answer.chunks) as chunks:
                async for chunk in chunks:
                    self.journal.append(active.call, chunk)
                    meter.feed(chunk)
                    if observer is not None and observer.problem is None:
                        observer.feed(chunk)
                        # Noted before the chunk is sent: OpenClaw may disconnect on receiving it.
                        error = self._note_problem(active, observer)
                    yield chunk
            if observer is not None and observer.problem is None:
                observer.end()
                error = self._note_problem(active, observer)
            outcome = active.call.success_outcome
        except Exception as problem:
            outcome = "broken" if isinstance(problem, StreamBroken) else "failed"
            failure = self._stream_failure(active, problem)
            error = str(failure)
            self._remember(active, failure)
            if isinstance(problem, StreamBroken):
                raise
            raise StreamBroken(error) from problem
        finally:
            if outcome == "client_disconnected" and observer is not None and observer.is_whole:
                # The client disconnected after the answer was complete.
                outcome = active.call.success_outcome
            self.journal.finish(active.call, outcome, error)
            # The usage is noted at the end, when no client waits any more.
            is_complete = outcome == active.call.success_outcome
            self._note_usage(active, meter.usage, is_complete=is_complete)

    def _observer(self, active: _Active) -> StreamObserver | None:
        """The observer of an answer; None if it is no stream. Only named providers are judged."""
        if _EVENT_STREAM not in active.call.content_type:
            return None
        # Broken answers of a script are intended.
        if active.is_of_endpoint and active.call.source in {"provider", "recording"}:
            return CompletionObserver()
        return EndObserver(active.request.wire)

    def _note_problem(self, active: _Active, observer: StreamObserver) -> str | None:
        """Remembers what is wrong with an answer, because OpenClaw may not report it."""
        if observer.problem is None:
            return None
        failure = ProviderFailed(active.request.provider, None, observer.problem, has_begun=True)
        self._remember(active, failure)
        return str(failure)

    def _stream_failure(self, active: _Active, problem: Exception) -> ChowderError:
        if isinstance(problem, StreamBroken):
            return ProviderFailed(active.request.provider, None, str(problem), has_begun=True)
        if isinstance(problem, ContextLengthExceeded):
            return problem
        return _unexpected(active.request, active.credential, problem)

    def _fail(
        self, active: _Active, outcome: str, failure: ChowderError, *, is_free: bool = False
    ) -> ModelAnswer:
        """The answer for a failed call; `is_free` if the provider has not done it."""
        for each in active.reservations or ():
            if is_free:
                each.release()
            else:
                each.settle(None)
        self.journal.finish(active.call, outcome, str(failure))
        message = self._remember(active, failure)
        # This text makes OpenClaw compact the conversation. Others make it block the provider.
        if isinstance(failure, ProviderFailed) and is_overflow(failure.reason):
            turn_id = active.call.turn_id
            message += self.compactions.overflow_message(active.request, turn_id, failure)
        return _marked(active.request, message)

    def _remember(self, active: _Active, failure: ChowderError) -> str:
        return self.journal.remember(active.call, active.credential.sandbox_id, failure)


def _marked(request: RelayRequest, message: str) -> ModelAnswer:
    """The error that carries a marker through OpenClaw."""
    return local_answer(request.wire.refuse(UNRETRIED_STATUS, message))


def _unexpected(
    request: RelayRequest, credential: Credential | None, problem: Exception
) -> RelayFailed:
    """Logs an unexpected exception and returns the error for the message's client."""
    instance_id = None if credential is None else credential.instance_id
    _log.error("Instance %s: a call of %s failed", instance_id, request.provider, exc_info=problem)
    # The text of a foreign exception may contain anything, such as a key.
    return RelayFailed(str(problem) if isinstance(problem, ChowderError) else None)
