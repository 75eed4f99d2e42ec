"""Talking with an agent: which model, which session, and what comes back when it fails."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import (
    AnswerUnfit,
    GatewaySuspended,
    GatewayUnavailable,
    ServerStopping,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.instances.conversations.first_turn_lock import FirstTurnLocks
from chowder_local.openclaw.responses import requests, response_normalizer
from chowder_local.openclaw.responses.events import EventWriter, error_of
from chowder_local.openclaw.responses.gateway_shapes import check_response
from chowder_local.openclaw.session_keys import session_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.shutdown import Shutdown
    from chowder_local.instances.conversations.failure_diagnosis import FailureDiagnosis, Known
    from chowder_local.instances.conversations.histories import Delivery, Histories
    from chowder_local.instances.conversations.model_resolver import ModelResolver
    from chowder_local.instances.conversations.session_names import SessionNames
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.models import ModelRoute
    from chowder_local.upstream.forward import Answer

log = logging.getLogger(__name__)


class Conversations:
    """Carries messages to the gateways of running instances and their answers back."""

    def __init__(
        self,
        *,
        models: ModelResolver,
        session_names: SessionNames,
        histories: Histories,
        diagnosis: FailureDiagnosis,
        sandbox_control: SandboxControl,
        gateway_of: GatewayOf,
        shutdown: Shutdown,
    ) -> None:
        self._models = models
        self._session_names = session_names
        self._histories = histories
        self._diagnosis = diagnosis
        self._sandbox_control = sandbox_control
        self._gateway_of = gateway_of
        self._shutdown = shutdown
        self._first_turn_locks = FirstTurnLocks()

    async def respond(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """The agent's whole answer, as a Responses resource.

        Raises InstanceStateWrong, MessageRefused, AnswerUnfit, GatewayUnavailable, and what
        `ModelResolver` does, ProviderFailed among it. Cancelling it ends the agent's run.
        """
        gateway, route, turn = await self._open(instance, request, session)
        known = partial(self._diagnosis.known, instance.sandbox_id, time.monotonic())
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
                raise await self._diagnosis.of_refusal(instance, answer.status, body, known)
            opened()
            response = response_normalizer.normalize_output(body, turn)
            delivery.ended(response)
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
                return answer, _json(await answer.read())
        except GatewayUnavailable:
            await self._diagnosis.look_after(instance)
            raise

    async def stream(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> AsyncIterator[bytes]:
        """The answer's events as they come, each as bytes of the event stream.

        Raises as `respond` does until the first event; what fails later is an event.
        Closing it ends the agent's run.
        """
        gateway, route, turn = await self._open(instance, request, session)
        key = session_key(session)
        async with (
            self._first_turn_locks.turn((instance.sandbox_id, session)) as opened,
            self._histories.delivery(instance, key, turn) as delivery,
        ):
            ask = partial(
                self._events, instance, gateway, request, delivery, route, session, opened
            )
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
        request: Mapping[str, Any],
        delivery: Delivery,
        route: ModelRoute,
        session: str | None,
        opened: Callable[[], None],
    ) -> AsyncGenerator[bytes]:
        """The events of an answer, or none if the delivery is lost."""
        known = partial(self._diagnosis.known, instance.sandbox_id, time.monotonic())
        writer = EventWriter(request, delivery.turn, time.time)
        delivery.is_sent = True
        broken: ChowderError | None = None
        try:
            async with self._send(instance, gateway, delivery.turn, route, session) as answer:
                if not answer.is_success:
                    body = _json(await answer.read())
                    if delivery.is_lost:
                        return
                    raise await self._diagnosis.of_refusal(instance, answer.status, body, known)
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

    async def check(self, instance: Instance, request: Mapping[str, Any]) -> None:
        """Raises what a message is refused with before its agent is request, as `respond` does."""
        await self._resolve(instance, request)

    async def _resolve(
        self, instance: Instance, request: Mapping[str, Any]
    ) -> tuple[str, ModelRoute, requests.Turn]:
        if instance.status is not InstanceStatus.RUNNING or instance.gateway_url is None:
            raise InstanceStateWrong(instance.status, InstanceStatus.RUNNING)
        route = await self._models.resolve(instance, request["model"])
        return instance.gateway_url, route, requests.parse_request(request)

    async def _open(
        self, instance: Instance, request: Mapping[str, Any], session: str | None
    ) -> tuple[Gateway, ModelRoute, requests.Turn]:
        gateway_url, route, turn = await self._resolve(instance, request)
        if session is not None:
            await self._session_names.remember(instance.id, session)
        gateway = self._gateway_of(instance.sandbox_id, gateway_url)
        register = partial(
            self._models.register, instance, gateway, route, is_shown=turn.may_show_images
        )
        try:
            await register()
        except GatewaySuspended:
            await self._lift(instance)
            await register()
        return gateway, route, turn

    @asynccontextmanager
    async def _send(
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
        current = await self._sandbox_control.resume(instance)
        if current.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(current.status, InstanceStatus.RUNNING)

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
            failure = await self._diagnosis.of_refusal(
                instance, status, {"error": writer.error}, known
            )
        elif writer.is_over:
            return writer.ready()
        elif isinstance(broken, AnswerUnfit):
            failure = broken
        elif self._shutdown.has_begun:
            # It was us who broke it.
            failure = ServerStopping()
        else:
            await self._diagnosis.look_after(instance)
            failure = broken or GatewayUnavailable("the answer broke off before its end")
        if not writer.has_begun:
            raise failure
        return writer.ready() + writer.failed(error_of(failure))


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = untrusted_json.read_object(body)
        check_response(content)
    except ValueError:
        raise GatewayUnavailable("the sandbox answered with something else than JSON") from None
    return content
