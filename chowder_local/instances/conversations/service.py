"""Sending messages to agents and returning their answers."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import (
    AnswerUnfit,
    GatewaySuspended,
    GatewayUnavailable,
    ServerStopping,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.instances.conversations.first_turn_lock import FirstTurnLocks
from chowder_local.openclaw.gateway import read_answer
from chowder_local.openclaw.responses import requests, response_normalizer
from chowder_local.openclaw.responses.events import EventWriter, error_members
from chowder_local.openclaw.session_keys import session_key
from chowder_local.relay.turn_steps import tool_call_items

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.tasks import Shutdown
    from chowder_local.instances.conversations.failure_diagnosis import (
        FailureDiagnosis,
        FindFailure,
    )
    from chowder_local.instances.conversations.histories import Delivery, Histories
    from chowder_local.instances.conversations.model_resolver import ModelResolver
    from chowder_local.instances.conversations.session_names import SessionNames
    from chowder_local.instances.conversations.trace_log import TracedTurn, TraceLog
    from chowder_local.instances.lifecycle.in_memory import InMemory
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.models import ModelRoute
    from chowder_local.upstream.forward import Answer

log = logging.getLogger(__name__)

FED_BYTES = 8 * 1024
"""So much of a stream is translated at a time: some 400 of the shortest events."""


class Conversations:
    """Sends messages to the gateways of running instances."""

    def __init__(
        self,
        *,
        models: ModelResolver,
        session_names: SessionNames,
        histories: Histories,
        traces: TraceLog,
        diagnosis: FailureDiagnosis,
        in_memory: InMemory,
        gateway_of: GatewayOf,
        shutdown: Shutdown,
    ) -> None:
        self._models = models
        self._session_names = session_names
        self._histories = histories
        self._traces = traces
        self._diagnosis = diagnosis
        self._in_memory = in_memory
        self._gateway_of = gateway_of
        self._shutdown = shutdown
        self._first_turn_locks = FirstTurnLocks()

    async def respond(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """The agent's whole answer, as a Responses resource.

        Raises InstanceStateWrong if the instance does not run, MessageRefused if OpenClaw refuses
        the message, AnswerUnfit if the answer lacks what the message requires, GatewayUnavailable,
        and what `ModelResolver.resolve` raises. Cancelling it ends the agent's run.
        """
        key = session_key(session)
        async with (
            self._open(instance, request, session) as (instance, gateway, route, turn, traced),
            self._first_turn_locks.turn((instance.sandbox_id, session)) as opened,
            self._histories.delivery(instance, key, turn, traced) as delivery,
        ):
            began_s = time.monotonic()
            find_failure = partial(self._diagnosis.find_failure, instance.sandbox_id, began_s)
            answer, body = await self._whole(instance, gateway, delivery, route, session)
            if delivery.is_lost:
                await self._histories.make_whole(instance, key, turn, delivery)
                answer, body = await self._whole(instance, gateway, delivery, route, session)
            if not answer.is_success or body.get("error") is not None:
                raise await self._diagnosis.diagnose(instance, answer.status, body, find_failure)
            opened()
            response = response_normalizer.normalize_output(body, turn)
            delivery.record_answer(response)
            response["output"] += _tool_calls(delivery)
        return response_normalizer.normalize(response, request, int(time.time()))

    async def _whole(
        self,
        instance: Instance,
        gateway: Gateway,
        delivery: Delivery,
        route: ModelRoute,
        session: str | None,
    ) -> tuple[Answer, dict[str, Any]]:
        delivery.is_sent = True
        try:
            async with self._send(instance, gateway, delivery.turn, route, session) as answer:
                return answer, await read_answer(answer)
        except GatewayUnavailable as broken:
            if (reason := await self._diagnosis.heal(instance)) is not None:
                raise reason from broken
            raise

    async def stream(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> AsyncIterator[bytes]:
        """The answer's events as they come, as bytes of the event stream.

        Raises as `respond` before the first event; a later failure is an event of its own.
        Closing it ends the agent's run.
        """
        key = session_key(session)
        async with (
            self._open(instance, request, session) as (instance, gateway, route, turn, traced),
            self._first_turn_locks.turn((instance.sandbox_id, session)) as opened,
            self._histories.delivery(instance, key, turn, traced) as delivery,
        ):
            ask = partial(
                self._events, instance, gateway, request, delivery, route, session, opened
            )
            async with aclosing(ask()) as events:
                async for ready in events:
                    yield ready
            if delivery.is_lost:
                await self._histories.make_whole(instance, key, turn, delivery)
                async with aclosing(ask()) as events:
                    async for ready in events:
                        yield ready

    async def _events(
        self,
        instance: Instance,
        gateway: Gateway,
        request: Mapping[str, Any],
        delivery: Delivery,
        route: ModelRoute,
        session: str | None,
        opened: Callable[[], None],
    ) -> AsyncGenerator[bytes]:
        """The events of an answer, or none if the delivery is lost."""
        find_failure = partial(self._diagnosis.find_failure, instance.sandbox_id, time.monotonic())
        writer = EventWriter(request, delivery.turn, time.time, lambda: _tool_calls(delivery))
        delivery.is_sent = True
        broken: ChowderError | None = None
        try:
            async with self._send(instance, gateway, delivery.turn, route, session) as answer:
                if not answer.is_success:
                    body = await read_answer(answer)
                    if delivery.is_lost:
                        return
                    raise await self._diagnosis.diagnose(
                        instance, answer.status, body, find_failure
                    )
                rewritten = self._rewritten(answer, writer, delivery, opened)
                async with aclosing(rewritten) as events:
                    async for ready in events:
                        yield ready
        except (AnswerUnfit, GatewayUnavailable) as raised:
            broken = raised
        if broken is None and delivery.is_lost:
            return
        if last := await self._end(instance, writer, find_failure, broken):
            yield last

    async def _rewritten(
        self,
        answer: Answer,
        writer: EventWriter,
        delivery: Delivery,
        opened: Callable[[], None],
    ) -> AsyncGenerator[bytes]:
        with self._shutdown.on_shutdown(answer.break_off):
            async for chunk in answer.chunks():
                for start in range(0, len(chunk), FED_BYTES):
                    if start:
                        # Thousands of events may have come in one chunk.
                        await asyncio.sleep(0)
                    writer.feed(chunk[start : start + FED_BYTES])
                    if delivery.is_lost or writer.error is not None:
                        return
                if writer.has_text or writer.is_over:
                    opened()
                if writer.response is not None:
                    delivery.record_answer(writer.response)
                # Events that came in one chunk are passed on in one.
                if delivery.is_certain and (ready := writer.ready()):
                    yield ready

    def provider_of(self, model: str) -> str:
        """The provider of a model id. Raises ModelUnknown if it names none."""
        return self._models.route(model).provider

    async def models(self, instance: Instance) -> list[tuple[str, str]]:
        """Ids of models that messages can name, each with its provider."""
        return await self._models.available(instance.organization_id)

    async def check(self, instance: Instance, request: Mapping[str, Any]) -> None:
        """Raises as `respond` for a message that is refused before it is sent."""
        await self._resolve(instance, request)

    async def _resolve(
        self, instance: Instance, request: Mapping[str, Any]
    ) -> tuple[ModelRoute, requests.Turn]:
        if instance.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(
                instance.status, InstanceStatus.RUNNING, instance.error_message
            )
        route = await self._models.resolve(instance, request["model"])
        return route, requests.parse_request(request)

    @asynccontextmanager
    async def _open(
        self, instance: Instance, request: Mapping[str, Any], session: str | None
    ) -> AsyncIterator[tuple[Instance, Gateway, ModelRoute, requests.Turn, TracedTurn]]:
        """Checks the message, and holds the instance in memory with its model registered."""
        route, turn = await self._resolve(instance, request)
        with self._traces.turn(instance.id, session_key(session)) as traced:
            async with self._in_memory.using(instance) as running:
                if session is not None:
                    await self._session_names.remember(running.id, session)
                gateway = self._gateway_of(running.sandbox_id, running.gateway_url)
                register = partial(
                    self._models.register, running, gateway, route, has_images=turn.may_show_images
                )
                try:
                    await register()
                except GatewaySuspended:
                    await self._in_memory.wait_until_resumed(running)
                    await register()
                yield running, gateway, route, turn, traced

    @asynccontextmanager
    async def _send(
        self,
        instance: Instance,
        gateway: Gateway,
        turn: requests.Turn,
        route: ModelRoute,
        session: str | None,
    ) -> AsyncIterator[Answer]:
        """The gateway's answer. Sends a second time if the gateway was suspended at first.

        Raises InstanceStateWrong if a stop has suspended it.
        """
        ask = partial(gateway.respond, turn.request, model=route.openclaw_model, session=session)
        async with ask() as answer:
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                yield answer
                return
        await self._in_memory.wait_until_resumed(instance)
        async with ask() as answer:
            yield answer

    async def _end(
        self,
        instance: Instance,
        writer: EventWriter,
        find_failure: FindFailure,
        broken: ChowderError | None,
    ) -> bytes:
        """The last events of a stream; raises its failure if there was no output yet.

        `broken` is the error that broke it off, or None if it ended on the wire.
        """
        if writer.error is not None:
            # The status with which the gateway refuses a message that is not streamed.
            is_refused = writer.error.get("code") == "invalid_request_error"
            status = HTTPStatus.BAD_REQUEST if is_refused else HTTPStatus.BAD_GATEWAY
            failure = await self._diagnosis.diagnose(
                instance, status, {"error": writer.error}, find_failure
            )
        elif writer.is_over:
            return writer.ready()
        elif isinstance(broken, AnswerUnfit):
            failure = broken
        elif self._shutdown.has_begun:
            failure = ServerStopping()
        else:
            reason = await self._diagnosis.heal(instance)
            failure = reason or broken or GatewayUnavailable("the answer broke off before its end")
        if not writer.has_begun:
            raise failure
        return writer.ready() + writer.failure_events(error_members(failure))


def _tool_calls(delivery: Delivery) -> Iterator[dict[str, Any]]:
    """The items for the tools that the agent ran, if the client wants them."""
    calls = delivery.watched.calls
    return tool_call_items(calls if delivery.turn.includes_tool_calls else ())
