"""The HTTP server inside a sandbox, as its one client sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chowder_local.core import request_context, untrusted_json
from chowder_local.core.errors.agents import (
    ConfigNotApplied,
    ConfigRefused,
    GatewaySuspended,
    GatewayUnavailable,
    MessageTooLarge,
    Problem,
    RpcRefused,
)
from chowder_local.core.errors.upstream import StreamBroken, UpstreamFailed
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.upstream.forward import Forwarder, open_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.upstream.forward import Answer

    PatchOf = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    GatewayOf = Callable[[SandboxId, str | None], "Gateway"]

KEEPALIVE_S = 2.0
"""A gateway ends idle connections after five seconds; a message must not meet that moment, even
if there is so much to do on the machine that we and the gateway are seconds late."""
PROBE_TIMEOUT_S = 2.0
RPC_TIMEOUT_S = 30.0
PATCH_ATTEMPTS = 5
LONGEST_TURN_WAIT_S = 60.0
LONGEST_UPTIME_MS = 1e15
MAX_MESSAGE_BYTES = 20 * 1024 * 1024
"""What OpenClaw takes at `/v1/responses` unless it is configured otherwise."""
PROBE_INTERVAL_S = 0.1
RESTART_TIMEOUT_S = 30.0
"""A restart begins some seconds after the patch that needs it, once running turns have ended."""

_UNANSWERED = (UpstreamFailed, StreamBroken, TimeoutError)
_SUSPENDED = "unavailable during gateway suspension"
_RATE_LIMITED = re.compile(r"rate limit exceeded .*retry after (\d{1,6})s")
_ARRAYS_LOST = re.compile(r"would remove entries from array path\(s\): (.+?)\. Pass replacePaths")


@dataclass(frozen=True)
class Suspension:
    """A gateway that has been asked to take no new work; `is_drained` once nothing runs."""

    id: str
    is_drained: bool


@asynccontextmanager
async def open_gateways() -> AsyncIterator[Forwarder]:
    """The way to all gateways, which answer as late and as long as their agents work."""
    # No proxy of the environment may stand between us and a port of our own machine.
    async with open_client(is_proxied=False, keepalive_s=KEEPALIVE_S) as client:
        yield Forwarder(client, first_byte_timeout_s=None, idle_timeout_s=None)


class Gateway:
    """One agent's gateway at `url`, by a forwarder that `open_gateways` made.

    `config_lock` is held while the configuration changes: OpenClaw's own check whether it was
    changed meanwhile is no bar to two that come at once. Raises GatewayUnavailable if a sandbox
    has no `url`.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        url: str | None,
        token: str,
        config_lock: asyncio.Lock | None = None,
    ) -> None:
        if url is None:
            raise GatewayUnavailable("the sandbox has no address")
        self._forwarder = forwarder
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._config_lock = config_lock or asyncio.Lock()

    async def is_started(self) -> bool:
        """Whether turns are taken. `/readyz` would be no use: one bad channel makes it fail."""
        return await self.uptime_s() is not None

    async def uptime_s(self) -> float | None:
        """For how long turns have been taken since the latest start or restart; None if not."""
        try:
            # To whoever shows no token it does not tell the time.
            status, body = await self._exchange("GET", "/startupz", timeout_s=PROBE_TIMEOUT_S)
            if status != HTTPStatus.OK:
                return None
            uptime_ms = untrusted_json.read_object(body).get("uptimeMs")
        except (*_UNANSWERED, ValueError):
            return None
        # Beyond that it is nonsense, and may be more than can be reckoned with.
        if isinstance(uptime_ms, int | float) and uptime_ms < LONGEST_UPTIME_MS:
            return uptime_ms / 1000
        return math.inf

    async def call(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A control call's payload. Raises GatewayUnavailable, RpcRefused."""
        request = json.dumps({"method": method, "params": params}).encode()
        try:
            status, answer = await self._exchange(
                "POST", "/api/v1/admin/rpc", request, timeout_s=RPC_TIMEOUT_S
            )
            body = untrusted_json.read_whole_object(answer)
        except (*_UNANSWERED, ValueError) as failure:
            raise GatewayUnavailable(f"{method}: {_reason(failure)}") from failure
        if body.get("ok"):
            return untrusted_json.object_of(body.get("payload"))
        error = untrusted_json.object_of(body.get("error"))
        message = untrusted_json.text_of(error.get("message")) or f"HTTP {status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            is_suspended = message.endswith(_SUSPENDED)
            raise (GatewaySuspended if is_suspended else GatewayUnavailable)(f"{method}: {message}")
        raise RpcRefused(message, _problems(error))

    async def patch_config(self, patch: Mapping[str, Any]) -> bool:
        """Lays a merge patch over the agent's configuration; else as `revise_config`."""
        return await self.revise_config(lambda _: patch)

    async def revise_config(self, patch_of: PatchOf) -> bool:
        """Changes the running agent's configuration; True if it restarts itself for that.

        `patch_of` makes a merge patch of the configuration that is in force, None if nothing is
        to change; it is called again if that was changed meanwhile.
        Raises ConfigRefused with OpenClaw's words, and then nothing has changed; but
        ConfigNotApplied if it has been written, and would be met again at the next start.
        """
        async with self.holding_config() as revise:
            return await revise(patch_of)

    @asynccontextmanager
    async def holding_config(self) -> AsyncIterator[Callable[[PatchOf], Awaitable[bool]]]:
        """Keeps the server's other changes of the configuration out; gives what changes it."""
        async with self._config_lock:
            yield self._revise

    async def _revise(self, patch_of: PatchOf) -> bool:
        lost: set[str] = set()
        for _ in range(PATCH_ATTEMPTS):
            read = await self.call("config.get", {})
            patch = patch_of(untrusted_json.object_of(read.get("config")))
            if not patch:
                return False
            # OpenClaw would otherwise keep what a new array lacks, or refuse to lose it.
            replaced = {*_array_paths(patch), *lost}
            params = {
                "raw": json.dumps(patch),
                "baseHash": read.get("hash"),
                "replacePaths": sorted(replaced),
            }
            try:
                return await self._write_config(params)
            except RpcRefused as refused:
                # Of arrays that go with what a null deletes, only OpenClaw knows.
                also = set(_lost_arrays(str(refused))) - replaced
                lost |= also
                # Or somebody else (the agent, a channel) wrote in between: read again.
                if not also and "changed since last load" not in str(refused):
                    raise ConfigRefused(str(refused), refused.problems) from refused
        raise GatewayUnavailable("the configuration changes faster than it can be patched")

    async def _write_config(self, params: Mapping[str, Any]) -> bool:
        try:
            done = await self._in_turn("config.patch", params)
        except GatewayUnavailable as unavailable:
            if "persisted but was not applied" in str(unavailable):
                raise ConfigNotApplied(str(unavailable)) from unavailable
            if "persisted and" in str(unavailable):
                # It says so if it restarts itself at once, rather than a little later.
                return True
            raise
        stats = untrusted_json.object_at(done, "sentinel", "payload", "stats")
        return bool(stats.get("requiresRestart"))

    async def _in_turn(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """A call of a method that OpenClaw takes some thirty times a minute and no more."""
        try:
            return await self.call(method, params)
        except GatewayUnavailable as unavailable:
            limited = _RATE_LIMITED.search(str(unavailable))
            if limited is None:
                raise
        # It says when it will take the next one; whoever asked would only have to ask again.
        await asyncio.sleep(min(int(limited[1]), LONGEST_TURN_WAIT_S))
        return await self.call(method, params)

    async def wait_for_restart(self, since_s: float) -> None:
        """Waits for a restart later than `since_s` by the monotonic clock, RESTART_TIMEOUT_S long.

        That turns are not taken proves nothing: they may be taken again before it begins.
        """

        def is_newer(uptime_s: float) -> bool:
            return uptime_s < time.monotonic() - since_s

        await self._reaches(is_newer, RESTART_TIMEOUT_S)

    async def wait_until_started(self, timeout_s: float) -> bool:
        """Whether turns are taken by then; one that was thawed late has much to do at first."""
        return await self._reaches(lambda _: True, timeout_s)

    async def _reaches(self, is_right: Callable[[float], bool], timeout_s: float) -> bool:
        """Whether turns are taken, and have been for the right time, before the timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    uptime_s = await self.uptime_s()
                    if uptime_s is not None and is_right(uptime_s):
                        return True
                    await asyncio.sleep(PROBE_INTERVAL_S)
        return False

    async def suspend(self, request_id: str) -> Suspension:
        """Asks for no new turns, and tells whether the running ones have ended.

        Asking again with the same id gives the same suspension, for two minutes more.
        """
        answer = await self.call(
            "gateway.suspend.prepare", {"requestId": request_id, "drain": True}
        )
        return _suspension(answer)

    async def suspension(self, suspension_id: str) -> Suspension:
        """How far a suspension has come."""
        answer = await self.call("gateway.suspend.status", {"suspensionId": suspension_id})
        return _suspension(answer | {"suspensionId": suspension_id})

    async def open_conversations(self) -> None:
        """Has it open its database of conversations, which without a turn it has not made yet.

        Raises GatewayUnavailable.
        """
        # That there is no such conversation is a good answer, too.
        path = f"/sessions/{quote(MAIN_KEY, safe='')}/history?limit=1"
        try:
            status, _ = await self._exchange("GET", path, timeout_s=RPC_TIMEOUT_S)
        except _UNANSWERED as failure:
            raise GatewayUnavailable(f"sessions: {_reason(failure)}") from failure
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise GatewayUnavailable(f"sessions: HTTP {status}")

    async def resume(self, suspension_id: str) -> None:
        """Takes turns again; harmless if it does already."""
        await self.call("gateway.suspend.resume", {"suspensionId": suspension_id})

    @asynccontextmanager
    async def respond(
        self, request: Mapping[str, Any], *, model: str, session: str | None
    ) -> AsyncIterator[Answer]:
        """Sends a message; leaving the block before the end of the answer ends the agent's run.

        There is no limit on how long an answer may take: that is the agent's affair.
        Raises GatewayUnavailable if the gateway cannot be reached or breaks off, and
        MessageTooLarge for what it would not take.
        """
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        if len(body) > MAX_MESSAGE_BYTES:
            # Not left to the gateway: it hangs up in the middle of such a message, and its
            # answer is then lost as often as not.
            raise MessageTooLarge
        headers = self._headers | {
            "Content-Type": "application/json",
            "x-openclaw-model": model,
            "x-openclaw-session-key": session_key(session),
        }
        try:
            async with self._open("POST", "/v1/responses", headers, body) as answer:
                yield answer
        except (UpstreamFailed, StreamBroken) as failure:
            raise GatewayUnavailable(_reason(failure)) from failure

    async def _exchange(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float
    ) -> tuple[int, bytes]:
        """A short call's status and answer. Raises one of `_UNANSWERED`."""
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        async with (
            asyncio.timeout(timeout_s),
            self._open(method, path, headers, body) as answer,
        ):
            return answer.status, await answer.read()

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Answer]:
        if (request_id := request_context.request_id()) is not None:
            headers = {**headers, request_context.REQUEST_ID_HEADER: request_id}
        answer = await self._forwarder.open(method, self._url + path, headers.items(), body)
        try:
            yield answer
        finally:
            await answer.close()


def _array_paths(patch: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in patch.items():
        if isinstance(value, dict):
            yield from _array_paths(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}"


def _problems(error: Mapping[str, Any]) -> Iterator[Problem]:
    """What a refusal says is wrong, where it says so place by place."""
    details = untrusted_json.object_at(error, "details")
    for each in untrusted_json.objects_of(details.get("issues")):
        yield Problem(*(untrusted_json.text_of(each.get(name)) for name in ("path", "message")))


def _lost_arrays(refusal: str) -> list[str]:
    found = _ARRAYS_LOST.search(refusal)
    return [] if found is None else found[1].split(", ")


def _suspension(answer: Mapping[str, Any]) -> Suspension:
    return Suspension(
        id=str(answer.get("suspensionId") or ""), is_drained=answer.get("status") == "ready"
    )


def _reason(failure: Exception) -> str:
    """What went wrong on the wire, for a person."""
    if isinstance(failure, UpstreamFailed):
        return "the sandbox broke off" if failure.is_sent else "the sandbox does not answer"
    if isinstance(failure, TimeoutError):
        return "the sandbox takes too long to answer"
    if isinstance(failure, ValueError):
        return "the sandbox answered with something else than JSON"
    return str(failure)
