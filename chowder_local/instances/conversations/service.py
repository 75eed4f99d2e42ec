"""Sending messages to agents and returning their answers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    AgentRenewed,
    AnswerUnfit,
    GatewayUnavailable,
    MessageRefused,
    ServerStopping,
    TurnCancelled,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import NodeUnreachable
from chowder_local.core.long_values import off_loop
from chowder_local.core.tasks import KeyedLocks
from chowder_local.instances.conversations.trace_log import TEXT_MAX
from chowder_local.instances.lifecycle.boots import MIN_FREE_DISK_BYTES, out_of_memory
from chowder_local.openclaw.gateway import read_answer
from chowder_local.openclaw.responses import requests, response_normalizer
from chowder_local.openclaw.responses.events import EventWriter, error_members
from chowder_local.openclaw.session_keys import session_key
from chowder_local.openclaw.shortcuts import FAILURE_MARKERS
from chowder_local.relay.prompt_format import client_name
from chowder_local.relay.turn_steps import tool_call_items

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator, Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.core.tasks import Shutdown
    from chowder_local.instances.conversations.histories import Delivery, Histories
    from chowder_local.instances.conversations.models import ModelResolver
    from chowder_local.instances.conversations.sessions import SessionNames
    from chowder_local.instances.conversations.trace_log import TracedTurn, TraceLog
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.reconciler import Healing
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.models import ModelRoute
    from chowder_local.openclaw.shortcuts import MayTakeIn
    from chowder_local.relay.prompt_format import FailureMarkers
    from chowder_local.upstream.forward import UpstreamAnswer

log = logging.getLogger(__name__)

FED_BYTES = 8 * 1024
"""So much of a stream is translated at a time: some 400 of the shortest events."""
SESSIONS_KEPT = 10_000
UNSPECIFIC_ERROR = "internal error"
"""OpenClaw's message for all that it does not handle, such as a full disk."""
FULL_DISKS_KEPT = 256
"""So many sandboxes are remembered whose disk was full."""
UNMARKED_ERRORS = {"upstream provider timeout", "upstream provider error", UNSPECIFIC_ERROR}
"""OpenClaw's messages for a failed model call that lose the relay's failure marker."""
EXPLANATIONS = {
    "invalid request": "input: an image or file of the message could not be taken. It may be "
    "broken or too large (images 10 MB, files 5 MB), or be at an address that the agent does not "
    "reach; it fetches nothing from private addresses.",
    "upstream provider timeout": "the agent could not make sense of the model provider's answer, "
    "or gave up waiting for it",
    "invalid tool configuration": "tools: a function is called like one of the agent's own tools.",
}
"""The causes behind some of OpenClaw's messages, which it names only in its own log."""
TOOL_CHOICE_PREFIX = "tool_choice"
"""OpenClaw's message begins with this if the model called none of the required functions."""


@dataclass(eq=False, repr=False, kw_only=True)
class Conversations:
    """Sends messages to the gateways of running instances."""

    model_resolver: ModelResolver
    session_names: SessionNames
    histories: Histories
    traces: TraceLog
    diagnosis: FailureDiagnosis
    residency: Residency
    gateway_of: GatewayOf
    shutdown: Shutdown

    def __post_init__(self) -> None:
        self._first_turn_locks = FirstTurnLocks()

    async def respond(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """The agent's whole answer, as a Responses resource.

        Raises InstanceStateWrong if the instance does not run, MessageRefused if OpenClaw refuses
        the message, AnswerUnfit if the answer lacks what the message requires, TurnCancelled if
        somebody else ends the turn, GatewayUnavailable, and what `ModelResolver.resolve` raises.
        Cancelling it ends the agent's run.
        """
        limit = asyncio.timeout(None)
        try:
            async with (
                limit,
                self._open(instance, request, session, partial(limit.reschedule, 0)) as exchange,
            ):
                response = await self._respond(exchange)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TurnCancelled from None
        return response_normalizer.normalize(response, request, int(time.time()))

    async def _respond(self, exchange: Exchange) -> dict[str, Any]:
        while True:
            try:
                async with exchange.send() as answer:
                    body = await read_answer(answer)
            except GatewayUnavailable as broken:
                if (reason := await exchange.heal()) is None:
                    raise
                raise reason from broken
            if not exchange.delivery.history_is_gone:
                break
            await exchange.prepare_full_resend()
        if not answer.is_success or body.get("error") is not None:
            raise await exchange.diagnose(answer.status, body)
        exchange.session_exists()
        response = response_normalizer.normalize_output(body, exchange.turn)
        exchange.delivery.record_answer(response)
        response["output"] += exchange.tool_calls()
        return response

    async def stream(
        self, instance: Instance, request: Mapping[str, Any], session: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answer's events as they come, as bytes of the event stream.

        Raises as `respond` before the first event; a later failure is an event of its own.
        Closing it ends the agent's run.
        """
        async with self._open(instance, request, session) as exchange:
            while True:
                refusal: tuple[int, dict[str, Any]] | None = None
                broken: AnswerUnfit | GatewayUnavailable | None = None
                try:
                    async with exchange.send() as answer:
                        if not answer.is_success:
                            refusal = answer.status, await read_answer(answer)
                        exchange.traced.on_cancel = answer.break_off
                        if exchange.traced.is_cancelled:
                            answer.break_off()
                        with self.shutdown.on_shutdown(answer.break_off):
                            async for chunk in answer.chunks():
                                if not await exchange.feed(chunk):
                                    break
                                # Events that came in one chunk are passed on in one.
                                if ready := exchange.take_ready():
                                    yield ready
                except (AnswerUnfit, GatewayUnavailable) as raised:
                    broken = raised
                if broken is not None or not exchange.delivery.history_is_gone:
                    break
                await exchange.prepare_full_resend()
            if refusal is not None:
                raise await exchange.diagnose(*refusal)
            if last := await exchange.end(broken):
                yield last

    def forget_session(self, sandbox_id: SandboxId, session: str | None) -> None:
        """Notes that a session is gone, so that its next message is its first again."""
        self._first_turn_locks.forget((sandbox_id, session))

    def provider_of(self, model: str) -> str:
        """The provider of a model id. Raises ModelUnknown if it names none."""
        return self.model_resolver.route(model).provider

    async def models(self, instance: Instance) -> list[tuple[str, str]]:
        """Ids of models that messages can name, each with its provider."""
        return await self.model_resolver.available(instance.organization_id)

    async def check(self, instance: Instance, request: Mapping[str, Any]) -> None:
        """Raises as `respond` for a message that is refused before it is sent."""
        await self._resolve(instance, request)

    async def _resolve(
        self, instance: Instance, request: Mapping[str, Any]
    ) -> tuple[ModelRoute, requests.GatewayRequest]:
        if instance.status is not InstanceStatus.RUNNING:
            raise InstanceStateWrong(
                instance.status, InstanceStatus.RUNNING, instance.error_message
            )
        route = await self.model_resolver.resolve(instance, request["model"])
        return route, await off_loop(requests.parse_request, request)

    @asynccontextmanager
    async def _open(
        self,
        stale: Instance,
        request: Mapping[str, Any],
        session: str | None,
        on_cancel: Callable[[], object] | None = None,
    ) -> AsyncIterator[Exchange]:
        """Checks the message, and holds the instance in memory with its model registered."""
        route, turn = await self._resolve(stale, request)
        key = session_key(session)
        text = turn.client_input.text[:TEXT_MAX]
        functions = {client_name(each["name"]) for each in turn.request.get("tools", ())}
        with self.traces.turn(stale, key, text, functions, request) as traced:
            traced.on_cancel = on_cancel
            async with self.residency.using(stale, math.inf) as instance:
                if session is not None:
                    await self.session_names.remember(instance.id, session)
                gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
                await self.model_resolver.register(
                    instance, gateway, route, has_images=turn.may_show_images
                )
                async with (
                    self._first_turn_locks.turn((instance.sandbox_id, session)) as session_exists,
                    self.histories.delivery(instance, key, turn, traced) as delivery,
                ):
                    yield Exchange(
                        self, instance, gateway, route, session, request, turn, delivery,
                        traced, session_exists,
                    )  # fmt: skip


@dataclass(eq=False, repr=False)
class Exchange:
    """A message to a running agent and its answer; created by `Conversations` only.

    `turn` is the message as a whole, and `delivery.turn` what is sent of it. `session_exists`
    reports that the session does.
    """

    conversations: Conversations
    instance: Instance
    gateway: Gateway
    route: ModelRoute
    session: str | None
    request: Mapping[str, Any]
    turn: requests.GatewayRequest
    delivery: Delivery
    traced: TracedTurn
    session_exists: Callable[[], None]

    def __post_init__(self) -> None:
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        self._began_s = time.monotonic()
        self._writer = EventWriter(self.request, self.delivery.turn, time.time, self.tool_calls)

    @asynccontextmanager
    async def send(self) -> AsyncIterator[UpstreamAnswer]:
        """The gateway's answer. Sends a second time if the gateway was suspended at first.

        Raises InstanceStateWrong if a stop has suspended it, TurnCancelled before it is sent.
        """
        if self.traced.is_cancelled:
            raise TurnCancelled
        self.delivery.is_sent = True
        ask = partial(
            self.gateway.respond,
            self.delivery.turn.request,
            model=self.route.openclaw_model,
            session=self.session,
        )
        async with ask() as answer:
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                yield answer
                return
        await self.conversations.residency.wait_until_resumed(self.instance)
        async with ask() as answer:
            yield answer

    async def prepare_full_resend(self) -> None:
        """Prepares another attempt with the whole message, as the agent has forgotten the rest."""
        await self.conversations.histories.prepare_full_resend(
            self.instance, session_key(self.session), self.turn, self.delivery
        )
        self._begin_attempt()

    async def feed(self, chunk: bytes) -> bool:
        """Takes bytes of a streamed answer; False if no more are wanted.

        Raises AnswerUnfit, GatewayUnavailable.
        """
        writer = self._writer
        for start in range(0, len(chunk), FED_BYTES):
            if start:
                # Thousands of events may have come in one chunk.
                await asyncio.sleep(0)
            writer.feed(chunk[start : start + FED_BYTES])
            if self.delivery.history_is_gone or writer.error is not None:
                return False
        if writer.has_text or writer.is_over:
            self.session_exists()
        if writer.response is not None:
            self.delivery.record_answer(writer.response)
        return True

    def take_ready(self) -> bytes:
        """The events for the client that have come, once no other attempt will be made."""
        return self._writer.ready() if self.delivery.history_confirmed else b""

    async def end(self, broken: ChowderError | None) -> bytes:
        """The last events of a stream; raises its failure if there was no output yet.

        `broken` is the error that broke it off, or None if it ended on the wire.
        """
        writer, shutdown = self._writer, self.conversations.shutdown
        if writer.error is not None:
            # The status with which the gateway refuses a message that is not streamed.
            is_refused = writer.error.get("code") == "invalid_request_error"
            status = HTTPStatus.BAD_REQUEST if is_refused else HTTPStatus.BAD_GATEWAY
            failure = await self.diagnose(status, {"error": writer.error})
        elif writer.is_over:
            return writer.ready()
        elif self.traced.is_cancelled:
            failure = TurnCancelled()
        elif isinstance(broken, AnswerUnfit):
            failure = broken
        elif shutdown.has_begun:
            failure = ServerStopping()
        else:
            failure = (
                await self.heal()
                or broken
                or GatewayUnavailable("the answer broke off before its end")
            )
        if not writer.has_begun:
            raise failure
        self.traced.error_code = failure.code
        return writer.ready() + writer.failure_events(error_members(failure))

    async def diagnose(self, status: int, body: Mapping[str, Any]) -> ChowderError:
        """The error that the client gets for the gateway's refusal."""
        return await self.conversations.diagnosis.diagnose(
            self.instance, status, body, self._began_s
        )

    async def heal(self) -> ChowderError | None:
        """Heals the agent, which does not answer; the reason for that if it is known."""
        return await self.conversations.diagnosis.heal(self.instance)

    def tool_calls(self) -> Iterator[dict[str, Any]]:
        """The items for the tools that the agent ran, if the client wants them."""
        calls = self.delivery.watched.calls
        return tool_call_items(calls if self.delivery.turn.includes_tool_calls else ())


class FirstTurnLocks:
    """Sends messages to a new session one at a time, until the session exists.

    OpenClaw fails all but one of the messages that race to create a session. Once it exists,
    OpenClaw queues them itself.
    """

    def __init__(self, capacity: int = SESSIONS_KEPT) -> None:
        # An evicted session costs one more serialized turn.
        self._opened: LRUCache[Hashable, None] = LRUCache(capacity)
        self._locks = KeyedLocks()

    def forget(self, session: Hashable) -> None:
        self._opened.pop(session, None)

    @asynccontextmanager
    async def turn(self, session: Hashable) -> AsyncIterator[Callable[[], None]]:
        """Holds a message's turn. The yielded function reports that the session exists."""
        lock = self._locks.holding(session)
        is_alone = session not in self._opened
        if is_alone:
            await lock.acquire()

        def opened() -> None:
            nonlocal is_alone
            self._opened[session] = None
            if is_alone:
                is_alone = False
                lock.release()

        if session in self._opened:
            opened()
        try:
            yield opened
        finally:
            if is_alone:
                lock.release()


@dataclass(eq=False, repr=False)
class FailureDiagnosis:
    """Finds causes that OpenClaw does not name, and repairs the agent where possible."""

    engine: Engine
    healing: Healing
    failures: FailureMarkers
    allows: MayTakeIn

    def __post_init__(self) -> None:
        # Bounded, because instances that are deleted while it is full are never removed.
        self._full_disks: deque[SandboxId] = deque(maxlen=FULL_DISKS_KEPT)

    async def _find_failure(
        self, sandbox_id: SandboxId, since_s: float, message: str
    ) -> ChowderError | None:
        """The failed model call that the gateway's message is about, if it is on record."""
        if (marked := self.failures.find(message)) is not None:
            return marked
        if message in UNMARKED_ERRORS or not await self.allows(FAILURE_MARKERS, sandbox_id):
            return self.failures.latest(sandbox_id, since_s)
        return None

    async def diagnose(
        self, instance: Instance, status: int, body: Mapping[str, Any], since_s: float
    ) -> ChowderError:
        """The error that the client gets for the gateway's refusal of a message of that time."""
        message = _message(status, body)
        error = await self._find_failure(instance.sandbox_id, since_s, message)
        error = error or _error(status, message)
        if type(error) is GatewayUnavailable and message == UNSPECIFIC_ERROR:
            return await self._find_cause(instance) or error
        return error

    async def _find_cause(self, instance: Instance) -> GatewayUnavailable | None:
        """The cause of an unspecific error, if the disk shows it."""
        try:
            free_bytes = await self.engine.disk_free_bytes(instance.sandbox_id)
        except ChowderError as problem:
            log.warning("instance %s: its failure has no known cause: %s", instance.id, problem)
            return None
        if free_bytes < MIN_FREE_DISK_BYTES:
            if instance.sandbox_id not in self._full_disks:
                self._full_disks.append(instance.sandbox_id)
            return AgentDiskFull()
        if instance.sandbox_id not in self._full_disks:
            return None
        # To OpenClaw, a turn whose end did not fit on the disk is still running.
        self._full_disks.remove(instance.sandbox_id)
        await self.healing.reboot(instance)
        return AgentRenewed()

    async def heal(self, instance: Instance) -> ChowderError | None:
        """Heals an agent that does not answer. Logs failures.

        Returns the reason why it does not answer, if its whole machine is away or it ran out of
        memory.
        """
        reason = None
        try:
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if sandbox.is_oom_killed:
                reason = GatewayUnavailable(f"the agent {out_of_memory(sandbox)}")
            await self.healing.check(instance)
        except NodeUnreachable as problem:
            return problem
        except ChowderError as problem:
            log.warning("instance %s: could not be healed: %s", instance.id, problem)
        return reason


def _error(status: int, message: str) -> ChowderError:
    if message.startswith(TOOL_CHOICE_PREFIX):
        return AnswerUnfit(f"The model called none of the required functions: {message}.")
    message = EXPLANATIONS.get(message, message)
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
        return MessageRefused(message)
    return GatewayUnavailable(message)


def _message(status: int, body: Mapping[str, Any]) -> str:
    message: str = untrusted_json.replace_surrogates(
        untrusted_json.message_of((body.get("error") or {}).get("message")) or f"HTTP {status}"
    )
    return message
