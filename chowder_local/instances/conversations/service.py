"""Talking with an agent: which model, which session, and what comes back when it fails."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import aclosing, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    AgentRenewed,
    AnswerUnfit,
    GatewaySuspended,
    GatewayUnavailable,
    MessageRefused,
    ServerStopping,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.instances.conversations.first_turn_lock import FirstTurnLocks
from chowder_local.openclaw import untrusted_json
from chowder_local.openclaw.responses import requests, response_normalizer
from chowder_local.openclaw.responses.events import EventWriter
from chowder_local.openclaw.responses.stream_errors import error_of
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from datetime import datetime

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.core.shutdown import Shutdown
    from chowder_local.instances.conversations.histories import Delivery, Histories
    from chowder_local.instances.conversations.model_resolver import ModelResolver
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.reconciler import Reconciler
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.models import ModelRoute
    from chowder_local.relay.prompt_format.failure_markers import FailureMarkers
    from chowder_local.store.sessions import SessionQueries
    from chowder_local.upstream.forward import Answer

    Known = Callable[[str], ChowderError | None]

log = logging.getLogger(__name__)

EMPTY_WORDS = "internal error"
"""What OpenClaw says of what it did not foresee, a full disk for one."""
LITTLE_DISK_BYTES = 1024 * 1024
"""What is left of a disk when nothing more fits on it: a database takes it by pages."""
FULL_KEPT = 256
"""Sandboxes whose disk is remembered to have been full."""
STUCK_SIGN = 'error="Agent database cleanup failed"'
"""What OpenClaw writes into its log when all turns fail until it is started again. It closes a
worker's database a minute after a turn, and its own after half an hour; frozen before the first,
and thawed when both are due, it often fails to."""
STUCK_SIGN_LINES = 10
"""From the end: the failure is written just before it is answered."""
OWN_WORDS = {"upstream provider timeout", "upstream provider error", EMPTY_WORDS}
"""What OpenClaw says in place of a model call's error, which then carries no marker of ours."""
PLAINER_WORDS = {
    "invalid request": "input: an image or file of the message could not be taken. It may be "
    "broken or too large (images 10 MB, files 5 MB), or be at an address that the agent does not "
    "reach; it fetches nothing from private addresses.",
    "upstream provider timeout": "the agent could not make sense of the model provider's answer, "
    "or gave up waiting for it",
    "invalid tool configuration": "tools: a function is called like one of the agent's own tools.",
}
"""What some of OpenClaw's own words are about; it writes the cause into its own log alone."""
CHOICE_UNMET = "tool_choice"
"""How OpenClaw's words begin when a model called none of the functions that it had to."""


class Conversations:
    """Carries messages to the gateways of running instances and their answers back."""

    def __init__(
        self,
        *,
        models: ModelResolver,
        sessions: SessionQueries,
        histories: Histories,
        engine: Engine,
        reconciler: Reconciler,
        failures: FailureMarkers,
        gateway_of: Callable[[SandboxId, str], Gateway],
        clock: Callable[[], datetime],
        shutdown: Shutdown,
    ) -> None:
        self._models = models
        self._sessions = sessions
        self._histories = histories
        self._engine = engine
        self._reconciler = reconciler
        self._failures = failures
        self._gateway_of = gateway_of
        self._clock = clock
        self._shutdown = shutdown
        self._first_turn_locks = FirstTurnLocks()
        # Those that are deleted like that never have their turn to be removed.
        self._were_full: deque[SandboxId] = deque(maxlen=FULL_KEPT)

    async def respond(
        self, instance: Instance, asked: Mapping[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """The agent's whole answer, as a Responses resource.

        Raises InstanceStateWrong, MessageRefused, AnswerUnfit, GatewayUnavailable, and what
        `ModelResolver` does, ProviderFailed among it. Cancelling it ends the agent's run.
        """
        gateway, route, turn = await self._open(instance, asked, session)
        known = partial(self._known, instance.sandbox_id, time.monotonic())
        key = session_key(session)
        async with (
            self._first_turn_locks.turn((instance.sandbox_id, session)) as opened,
            self._histories.delivery(instance, key, turn) as delivery,
        ):
            answer, body = await self._whole(instance, gateway, delivery, route, session)
            if delivery.is_lost:
                await self._histories.ask_again(instance, key, turn, delivery)
                answer, body = await self._whole(instance, gateway, delivery, route, session)
            if not answer.is_success:
                raise await self._failure(instance, answer.status, body, known)
            opened()
            response = response_normalizer.settled(body, turn)
            delivery.ended(response)
        return response_normalizer.resource(response, asked, int(time.time()))

    async def _whole(
        self,
        instance: Instance,
        gateway: Gateway,
        delivery: Delivery,
        route: ModelRoute,
        session: str | None,
    ) -> tuple[Answer, dict[str, Any]]:
        delivery.is_said = True
        try:
            async with self._asked(instance, gateway, delivery.turn, route, session) as answer:
                return answer, _json(await answer.read())
        except GatewayUnavailable:
            await self._look_after(instance)
            raise

    async def stream(
        self, instance: Instance, asked: Mapping[str, Any], session: str | None = None
    ) -> AsyncIterator[bytes]:
        """The answer's events as they come, each as bytes of the event stream.

        Raises as `respond` does until the first event; what fails later is an event.
        Closing it ends the agent's run.
        """
        gateway, route, turn = await self._open(instance, asked, session)
        key = session_key(session)
        async with (
            self._first_turn_locks.turn((instance.sandbox_id, session)) as opened,
            self._histories.delivery(instance, key, turn) as delivery,
        ):
            ask = partial(self._events, instance, gateway, asked, delivery, route, session, opened)
            async with aclosing(ask()) as events:
                async for ready in events:
                    yield ready
            if delivery.is_lost:
                await self._histories.ask_again(instance, key, turn, delivery)
                async with aclosing(ask()) as events:
                    async for ready in events:
                        yield ready

    async def _events(
        self,
        instance: Instance,
        gateway: Gateway,
        asked: Mapping[str, Any],
        delivery: Delivery,
        route: ModelRoute,
        session: str | None,
        opened: Callable[[], None],
    ) -> AsyncGenerator[bytes]:
        """The events of an answer, or none if the delivery is lost."""
        known = partial(self._known, instance.sandbox_id, time.monotonic())
        writer = EventWriter(asked, delivery.turn, time.time)
        delivery.is_said = True
        broken: ChowderError | None = None
        try:
            async with self._asked(instance, gateway, delivery.turn, route, session) as answer:
                if not answer.is_success:
                    body = _json(await answer.read())
                    if delivery.is_lost:
                        return
                    raise await self._failure(instance, answer.status, body, known)
                rewritten = self._rewritten(answer, writer, delivery, opened)
                async with aclosing(rewritten) as events:
                    async for ready in events:
                        yield ready
        except (AnswerUnfit, GatewayUnavailable) as raised:
            broken = raised
        if broken is None and delivery.is_lost:
            return
        if last := await self._end(instance, writer, known, broken):
            yield last

    async def _rewritten(
        self,
        answer: Answer,
        writer: EventWriter,
        delivery: Delivery,
        opened: Callable[[], None],
    ) -> AsyncGenerator[bytes]:
        with self._shutdown.on_shutdown(answer.break_off):
            async for arrived in answer.chunks():
                writer.feed(arrived)
                if delivery.is_lost or writer.error is not None:
                    return
                if writer.has_words or writer.is_over:
                    opened()
                if writer.response is not None:
                    delivery.ended(writer.response)
                # What came together goes on together.
                if delivery.is_certain and (ready := writer.ready()):
                    yield ready

    def provider_of(self, model: str) -> str:
        """Whose model that is. Raises ModelUnknown."""
        return self._models.route(model).provider

    async def check(self, instance: Instance, asked: Mapping[str, Any]) -> None:
        """Raises what a message is refused with before its agent is asked, as `respond` does."""
        await self._judged(instance, asked)

    async def _judged(
        self, instance: Instance, asked: Mapping[str, Any]
    ) -> tuple[str, ModelRoute, requests.Turn]:
        if instance.status is not InstanceStatus.RUNNING or instance.gateway_url is None:
            raise InstanceStateWrong(instance.status, InstanceStatus.RUNNING)
        route = await self._models.judged(instance, asked["model"])
        return instance.gateway_url, route, requests.turn(asked)

    async def _open(
        self, instance: Instance, asked: Mapping[str, Any], session: str | None
    ) -> tuple[Gateway, ModelRoute, requests.Turn]:
        gateway_url, route, turn = await self._judged(instance, asked)
        if session is not None:
            await self._sessions.remember(instance.id, session, session_key(session), self._clock())
        gateway = self._gateway_of(instance.sandbox_id, gateway_url)
        introduce = partial(
            self._models.introduce, instance, gateway, route, is_shown=turn.may_show_images
        )
        try:
            await introduce()
        except GatewaySuspended:
            await self._lift(instance)
            await introduce()
        return gateway, route, turn

    @asynccontextmanager
    async def _asked(
        self,
        instance: Instance,
        gateway: Gateway,
        turn: requests.Turn,
        route: ModelRoute,
        session: str | None,
    ) -> AsyncIterator[Answer]:
        """The gateway's answer; asked a second time if it was suspended the first, and took none.

        Raises InstanceStateWrong if that was by a stop; else it was by one that came to nothing.
        """
        ask = partial(gateway.respond, turn.request, model=route.openclaw_model, session=session)
        async with ask() as answer:
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                yield answer
                return
        await self._lift(instance)
        async with ask() as answer:
            yield answer

    async def _lift(self, instance: Instance) -> None:
        """Waits until what keeps turns from the agent is over. Raises InstanceStateWrong."""
        current = await self._reconciler.lift(instance)
        if current.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(current.status, InstanceStatus.RUNNING)

    def _known(self, sandbox_id: SandboxId, since_s: float, message: str) -> ChowderError | None:
        """The model call's failure that the gateway speaks of, if it is one that we remember."""
        if (marked := self._failures.find(message)) is not None:
            return marked
        return self._failures.latest(sandbox_id, since_s) if message in OWN_WORDS else None

    async def _failure(
        self, instance: Instance, status: int, body: Mapping[str, Any], known: Known
    ) -> ChowderError:
        """What the gateway's refusal means to the client."""
        failure = _failure(status, body, known)
        is_empty = type(failure) is GatewayUnavailable and _words(status, body) == EMPTY_WORDS
        return (await self._cause(instance) if is_empty else None) or failure

    async def _cause(self, instance: Instance) -> GatewayUnavailable | None:
        """Why an agent failed that says nothing of it, as far as that can be seen."""
        try:
            free_bytes = await self._engine.disk_free_bytes(instance.sandbox_id)
            log_end = await self._engine.log_tail(instance.sandbox_id, STUCK_SIGN_LINES)
        except ChowderError as problem:
            log.warning("instance %s: it could not be looked at: %s", instance.id, problem)
            return None
        if free_bytes < LITTLE_DISK_BYTES:
            if instance.sandbox_id not in self._were_full:
                self._were_full.append(instance.sandbox_id)
            return AgentDiskFull()
        if instance.sandbox_id in self._were_full:
            # OpenClaw takes a turn whose end did not fit on the disk for one that runs.
            self._were_full.remove(instance.sandbox_id)
            what = "the disk that was full"
        elif STUCK_SIGN in log_end:
            what = "the time in which it was frozen"
        else:
            return None
        await self._reconciler.renew(instance)
        return AgentRenewed(what)

    async def _end(
        self,
        instance: Instance,
        writer: EventWriter,
        known: Known,
        broken: ChowderError | None,
    ) -> bytes:
        """What ends a stream from which nothing more comes; raises its failure before any output.

        `broken` is what broke it off, unless it ended on the wire.
        """
        if writer.error is not None:
            # As the gateway refuses a message that is not streamed.
            is_refused = writer.error.get("code") == "invalid_request_error"
            status = HTTPStatus.BAD_REQUEST if is_refused else HTTPStatus.BAD_GATEWAY
            failure = await self._failure(instance, status, {"error": writer.error}, known)
        elif writer.is_over:
            return writer.ready()
        elif isinstance(broken, AnswerUnfit):
            failure = broken
        elif self._shutdown.has_begun:
            # It was us who broke it.
            failure = ServerStopping()
        else:
            await self._look_after(instance)
            failure = broken or GatewayUnavailable("the answer broke off before its end")
        if not writer.has_begun:
            raise failure
        return writer.ready() + writer.failed(error_of(failure))

    async def _look_after(self, instance: Instance) -> None:
        try:
            await self._reconciler.check(instance)
        except ChowderError as problem:
            log.warning("instance %s: could not be looked after: %s", instance.id, problem)


def _failure(status: int, body: Mapping[str, Any], known: Known) -> ChowderError:
    """What the gateway's refusal means to the client."""
    message = _words(status, body)
    if (failure := known(message)) is not None:
        return failure
    if message.startswith(CHOICE_UNMET):
        return AnswerUnfit(f"The model called no function of those that it had to: {message}.")
    message = PLAINER_WORDS.get(message, message)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return MessageRefused(message)
    return GatewayUnavailable(message)


def _words(status: int, body: Mapping[str, Any]) -> str:
    words: str = untrusted_json.whole(
        str((body.get("error") or {}).get("message") or f"HTTP {status}")
    )
    return words


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = untrusted_json.read_object(body)
        untrusted_json.check_response(content)
    except ValueError:
        raise GatewayUnavailable("the sandbox answered with something else than JSON") from None
    return content
