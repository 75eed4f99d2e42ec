"""A client of the gateway, OpenClaw's HTTP server inside a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chowder_local.core import logs, untrusted_json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    ConfigNotApplied,
    ConfigProblem,
    ConfigRefused,
    GatewaySuspended,
    GatewayUnavailable,
    MessageTooLarge,
    RpcRefused,
    SandboxTooOld,
)
from chowder_local.core.errors.upstream import StreamBroken, UpstreamFailed
from chowder_local.core.long_values import off_loop
from chowder_local.openclaw.clock import CLOCK_HEADER, header_of
from chowder_local.openclaw.config.agent_config import CONFIG_FILE, merged
from chowder_local.openclaw.refusals import (
    SEARCHED_CHARACTERS,
    call_when_resumed,
    is_suspended,
    names_full_disk,
)
from chowder_local.openclaw.responses.inputs import MAX_MESSAGE_BYTES
from chowder_local.openclaw.responses.response_normalizer import (
    MAX_ANSWER_BYTES,
    MAX_ANSWER_VALUES,
    check_response,
)
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.upstream.forward import Forwarder, open_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from chowder_local.core.domain import AgentClock, SandboxId
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.refusals import WhenResumed
    from chowder_local.upstream.forward import UpstreamAnswer

    PatchOf = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    GatewayOf = Callable[[SandboxId, str | None], "Gateway"]
    RefusedSizes = Callable[[], Awaitable[tuple[int, int] | None]]

log = logging.getLogger(__name__)

KEEPALIVE_S = 2.0
"""A gateway closes idle connections after 5 s. The margin keeps a message from being sent on a
connection that is being closed, even on a busy machine where both sides run seconds late."""
DIVERSION_PATH = "/chowder-messengers/"
"""What `docker/sandbox/divert.cjs` answers."""
RPC_PATH = "/api/v1/admin/rpc"
CONTROL_PATH = "/chowder-control"
"""What `docker/sandbox/control.cjs` answers."""
PROBE_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
TURN_TIMEOUT_S = 180_000.0
"""For an answer, and for the earlier messages of its conversation; OpenClaw allows a turn 48 h."""
STREAM_START_TIMEOUT_S = 900.0
"""OpenClaw begins a stream before it calls the model, but after it has fetched up to eight files,
of which each may take 40 s."""
RPC_TIMEOUT_S = 30.0
HOOK_TIMEOUT_S = 600.0
"""A hook can ask for an answer at the end of its turn."""
PATCH_ATTEMPTS = 5
PATCH_TIMEOUT_S = 120.0
"""OpenClaw answers a patch once it is applied, which takes long on a busy machine."""
LONGEST_TURN_WAIT_S = 60.0
LONGEST_UPTIME_MS = 1e15
COLLECT_HEADER = "X-Chowder-Collect"
"""What `docker/sandbox/collect.cjs` looks for."""
PROBE_INTERVAL_S = 0.1
MAX_RPC_BYTES = 3_000_000
"""OpenClaw's longest answer to a control call has its configuration six times over."""
READ_AT_ONCE_BYTES = 300_000
"""Of an answer to a control call; reading so much takes some 10 ms."""
CONFIG_TIMEOUT_S = 180.0
"""A change of the configuration with a wait for OpenClaw's rate limit, a restart and a retry."""
MAX_PROBLEMS = 100
RESTART_TIMEOUT_S = 60.0
"""A restart begins some seconds after the patch that requires it, once running turns have ended.

One took 40 s at a load of 20 on two cores."""

PADDING_SLACK_BYTES = 256
"""More than the key of the padding takes in the configuration."""
MAX_PADDING_BYTES = 900_000
"""OpenClaw takes control calls of one megabyte at most."""

_LATE_REMEDY = (
    "Send the message again. If that fails too, stop and start the agent, and read its log"
)
_UNANSWERED = (UpstreamFailed, StreamBroken, TimeoutError)
_UNSPECIFIC = "gateway method failed before returning a response"
_RESTARTING = "unavailable during gateway restart"
# Anchored and with an atomic first part, so that no search begins anew at each further first one.
_RATE_LIMITED = re.compile(r"\A(?>.*?rate limit exceeded ).*?retry after (\d{1,6})s", re.DOTALL)
_ARRAYS_LOST = re.compile(
    r"\A(?>.*?would remove entries from array path\(s\): )(.+?)\. Pass replacePaths", re.DOTALL
)


_REFUSED_PREFIX = f"{CONFIG_FILE}.rejected."
_TOO_SHORT = (
    "OpenClaw writes no configuration that has less than half of the former one's length. Make the "
    "change in several steps, none of which removes half of the configuration."
)
_UNCONFIRMED = (
    "the sandbox takes too long to answer. Whether the configuration is changed is not known: "
    "OpenClaw may still change it"
)
_PAD = "-"


class _SizeRefused(Exception):
    """OpenClaw has refused to write a configuration of `size` that lacks `missing` bytes."""

    def __init__(self, former: int, size: int) -> None:
        self.size = size
        self.missing = max(former // 2 - size, 0) + PADDING_SLACK_BYTES


@dataclass(frozen=True)
class Suspension:
    """A suspension, during which a gateway takes no new turns; `is_drained` if no turn runs."""

    id: str
    is_drained: bool


@asynccontextmanager
async def open_gateways(turn_timeout_s: float = TURN_TIMEOUT_S) -> AsyncIterator[Forwarder]:
    """A forwarder for all gateways, with no time limit for pauses in a turn."""
    # A proxy from the environment must not be used for a port of this machine.
    async with open_client(is_proxied=False, keepalive_s=KEEPALIVE_S) as client:
        yield Forwarder(
            client,
            first_byte_timeout_s=STREAM_START_TIMEOUT_S,
            idle_timeout_s=None,
            total_timeout_s=turn_timeout_s,
        )


class Gateway:
    """The gateway of one agent at `url`, called through a forwarder from `open_gateways`.

    `config_lock` serializes changes of the configuration, because OpenClaw's own check for
    conflicting changes misses simultaneous ones. `refused_sizes` is `take_refused_sizes` of the
    sandbox. `when_resumed` waits, until a moment on the monotonic clock, for the end of a
    suspension; the gateways of code that holds the agent have none. `is_disk_full` is that of the
    disk with the agent's files. Raises GatewayUnavailable if `url` is None.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        url: str | None,
        token: str,
        config_lock: asyncio.Lock | None = None,
        refused_sizes: RefusedSizes | None = None,
        is_disk_full: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        if url is None:
            raise GatewayUnavailable("the sandbox has no address")
        self._forwarder = forwarder
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._config_lock = config_lock or asyncio.Lock()
        self._refused_sizes = refused_sizes
        self._is_disk_full = is_disk_full
        self.when_resumed: WhenResumed | None = None

    async def is_started(self) -> bool:
        """Whether turns are taken. `/readyz` does not tell that: it fails if one channel does."""
        return await self.uptime_s() is not None

    async def uptime_s(self) -> float | None:
        """The time since the latest start or restart; None if the gateway takes no turns."""
        try:
            # The gateway reports the uptime only to a caller with the token.
            status, body = await self._exchange("GET", "/startupz", timeout_s=PROBE_TIMEOUT_S)
            if status != HTTPStatus.OK:
                return None
            uptime_ms = untrusted_json.read_object(body).get("uptimeMs")
        except (*_UNANSWERED, ValueError):
            return None
        # A larger number is invalid and could overflow.
        if isinstance(uptime_ms, int | float) and uptime_ms < LONGEST_UPTIME_MS:
            return uptime_ms / 1000
        return math.inf

    async def diverts(self, channel: str) -> bool:
        """Whether its image can divert a channel's calls of fixed hosts to the local messenger.

        Raises GatewayUnavailable.
        """
        try:
            status, _ = await self._exchange(
                "GET", f"{DIVERSION_PATH}{channel}", timeout_s=RPC_TIMEOUT_S
            )
        except _UNANSWERED as failure:
            raise GatewayUnavailable(_reason(failure)) from failure
        return status == HTTPStatus.NO_CONTENT

    async def collect_garbage(self) -> None:
        """Collects garbage now, which an agent would else do with its next message.

        Raises GatewayUnavailable.
        """
        await self._signal({COLLECT_HEADER: "1"})

    async def set_clock(self, clock: AgentClock) -> None:
        """Sets the clock of the sandbox's programs. Raises GatewayUnavailable."""
        await self._signal({CLOCK_HEADER: header_of(clock)})

    async def has_clock(self) -> bool:
        """Whether the sandbox's image is new enough to have one. Raises GatewayUnavailable."""
        answered = await self._signal({CLOCK_HEADER: "?"})
        return any(name.lower() == CLOCK_HEADER.lower() for name, _ in answered)

    async def _signal(self, headers: Mapping[str, str]) -> Sequence[tuple[str, str]]:
        """Sends headers to the preloads of `docker/sandbox`, even while turns are refused.

        Returns those of the answer.
        """
        headers = {**self._headers, **headers}
        try:
            async with (
                asyncio.timeout(RPC_TIMEOUT_S),
                self._open("GET", "/startupz", headers, b"") as answer,
            ):
                return answer.headers
        except _UNANSWERED as failure:
            raise GatewayUnavailable(_reason(failure)) from failure

    async def call(
        self, method: str, params: Mapping[str, Any], timeout_s: float | None = None
    ) -> dict[str, Any]:
        """A control call's payload, after a restart or a suspension if one is under way.

        The gateway has `timeout_s` to answer, or else RPC_TIMEOUT_S.
        Raises RpcRefused if refused, AgentDiskFull if OpenClaw cannot write for lack of room, else
        GatewayUnavailable, and what `when_resumed` raises.
        """
        began_s = time.monotonic()
        call = partial(self._call_when_resumed, method, params, timeout_s=timeout_s)
        try:
            return untrusted_json.object_of(await call())
        except GatewayUnavailable as unavailable:
            # OpenClaw puts off restarts until a turn has ended, and refuses all calls in one.
            if not str(unavailable).endswith(_RESTARTING):
                raise
        await self.wait_for_restart(began_s)
        return untrusted_json.object_of(await call())

    async def call_as_client(self, method: str, params: Mapping[str, Any]) -> Any:
        """The payload of a call that OpenClaw takes from its own clients only.

        Raises SandboxTooOld if the sandbox has no such client, else as `call`.
        """
        return await self._call_when_resumed(method, params, CONTROL_PATH)

    async def _call_when_resumed(
        self,
        method: str,
        params: Mapping[str, Any],
        path: str = RPC_PATH,
        timeout_s: float | None = None,
    ) -> Any:
        patience_s = RPC_TIMEOUT_S if timeout_s is None else timeout_s
        call = partial(self._call, method, params, path, patience_s)
        return await call_when_resumed(call, self.when_resumed)

    async def _call(
        self, method: str, params: Mapping[str, Any], path: str, timeout_s: float
    ) -> Any:
        request = json.dumps({"method": method, "params": params}).encode()
        try:
            status, answer = await self._exchange("POST", path, request, timeout_s=timeout_s)
            if path == CONTROL_PATH and status == HTTPStatus.NOT_FOUND:
                raise SandboxTooOld(f"call {method}")
            if len(answer) > READ_AT_ONCE_BYTES:
                # In a thread, which lets others run between its steps.
                body = await asyncio.to_thread(untrusted_json.read_encodable_object, answer)
            else:
                body = untrusted_json.read_encodable_object(answer)
        except (*_UNANSWERED, ValueError) as failure:
            raise GatewayUnavailable(f"{method}: {_reason(failure)}") from failure
        if body.get("ok"):
            return body.get("payload")
        error = untrusted_json.object_of(body.get("error"))
        message = untrusted_json.message_of(error.get("message")) or f"HTTP {status} without words"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if names_full_disk(message) or await self._lacks_room(message):
                raise AgentDiskFull
            kind = GatewaySuspended if is_suspended(message) else GatewayUnavailable
            raise kind(f"{method}: {message}")
        raise RpcRefused(message, _problems(error))

    async def _lacks_room(self, message: str) -> bool:
        """Whether a full disk is the cause of a failure of which OpenClaw names none."""
        is_unspecific = message == _UNSPECIFIC
        return is_unspecific and self._is_disk_full is not None and await self._is_disk_full()

    async def patch_config(self, patch: Mapping[str, Any]) -> bool:
        """Applies a merge patch to the agent's configuration, like `revise_config`."""
        return await self.revise_config(lambda _: patch)

    async def revise_config(self, patch_of: PatchOf) -> bool:
        """Changes the running agent's configuration; True if the gateway restarts for that.

        `patch_of` returns a merge patch for the current configuration, or None to change nothing.
        It is called again if the configuration has changed in the meantime.
        Raises ConfigRefused with OpenClaw's message if OpenClaw refuses the patch; nothing has
        changed then. Raises ConfigNotApplied if OpenClaw has written the configuration but cannot
        use it; it stays in the file. Raises GatewayUnavailable, too, after CONFIG_TIMEOUT_S.
        """
        async with self.hold_config() as revise:
            return await revise(patch_of)

    @asynccontextmanager
    async def hold_config(self) -> AsyncIterator[Callable[[PatchOf], Awaitable[bool]]]:
        """Holds `config_lock` and yields `revise_config` without the lock."""
        async with self._config_lock:
            yield self._revise

    async def _revise(self, patch_of: PatchOf) -> bool:
        try:
            async with asyncio.timeout(CONFIG_TIMEOUT_S):
                return await self._try_to_revise(patch_of)
        except TimeoutError as late:
            raise GatewayUnavailable(_UNCONFIRMED) from late

    async def _try_to_revise(self, patch_of: PatchOf) -> bool:
        """As `revise_config`; a configuration may shrink to any length.

        OpenClaw does not write one that has less than half of the former length. So the change is
        made at once, with padding, which is then removed in steps that OpenClaw accepts.
        """
        began_s = time.monotonic()
        padding = length = 0
        has_restarted = None
        while has_restarted is None:
            try:
                has_restarted = await self._patch(patch_of, padding)
            except _SizeRefused as refused:
                length = refused.size - padding
                padding = 2 * padding + refused.missing
                if padding > MAX_PADDING_BYTES:
                    raise ConfigRefused(_TOO_SHORT) from None
        if padding and has_restarted:
            await self.wait_for_restart(began_s)
        try:
            while padding:
                padding = padding // 2 if padding + PADDING_SLACK_BYTES > length else 0
                await self._patch(partial(_padding, padding))
        except (GatewayUnavailable, ConfigRefused, _SizeRefused) as failure:
            # The agent has the change. The next one removes the rest of the padding.
            log.warning("a configuration keeps %d bytes of padding: %s", padding, failure)
        return has_restarted

    async def _patch(self, patch_of: PatchOf, padding: int = 0) -> bool:
        """Raises _SizeRefused if OpenClaw refuses to shorten the configuration so much."""
        lost_arrays: set[str] = set()
        began_s, is_repeated = time.monotonic(), False
        for _ in range(PATCH_ATTEMPTS):
            current = await self.call("config.get", {})
            config = untrusted_json.object_of(current.get("config"))
            patch = patch_of(config)
            if not patch:
                return False
            if padding or _is_padded(config):
                patch = merged(_padding(padding), patch, keep_nulls=True)
            # Without this member, OpenClaw merges arrays, or refuses to remove entries.
            replaced = {*_array_paths(patch), *lost_arrays}
            params = {
                "raw": json.dumps(patch),
                "baseHash": current.get("hash"),
                "replacePaths": sorted(replaced),
            }
            try:
                has_restarted = await self._write_config(params)
                if is_repeated and not has_restarted:
                    uptime_s = await self.uptime_s()
                    return uptime_s is None or uptime_s < time.monotonic() - began_s
                return has_restarted
            except GatewayUnavailable as unavailable:
                # It may be written. To merge it once more does no harm.
                if is_repeated or not is_unanswered(unavailable):
                    raise
                is_repeated = True
            except RpcRefused as refused:
                # Only OpenClaw knows the arrays below an object that a null deletes.
                more = set(_lost_arrays(str(refused))) - replaced
                lost_arrays |= more
                # The configuration is read again if more arrays have to be named, or if the agent
                # or a channel has changed it.
                if not more and "changed since last load" not in str(refused):
                    raise ConfigRefused(str(refused), refused.problems) from refused
        raise GatewayUnavailable("the configuration changes faster than it can be patched")

    async def _write_config(self, params: Mapping[str, Any]) -> bool:
        try:
            result = await self._call_rate_limited("config.patch", params)
        except GatewayUnavailable as unavailable:
            if "persisted but was not applied" in str(unavailable):
                raise ConfigNotApplied(str(unavailable)) from unavailable
            if "persisted and" in str(unavailable):
                # OpenClaw answers with this error if it restarts at once.
                return True
            if self._refused_sizes is not None and (sizes := await self._refused_sizes()):
                raise _SizeRefused(*sizes) from unavailable
            raise
        stats = untrusted_json.object_at(result, "sentinel", "payload", "stats")
        return bool(stats.get("requiresRestart"))

    async def _call_rate_limited(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Calls a method that OpenClaw limits to about 30 calls a minute; retries once."""
        try:
            return await self.call(method, params, PATCH_TIMEOUT_S)
        except GatewayUnavailable as unavailable:
            limited = _RATE_LIMITED.search(str(unavailable), 0, SEARCHED_CHARACTERS)
            if limited is None:
                raise
        # The message says when OpenClaw accepts the next call.
        await asyncio.sleep(min(int(limited[1]), LONGEST_TURN_WAIT_S))
        return await self.call(method, params, PATCH_TIMEOUT_S)

    async def wait_for_restart(self, since_s: float) -> None:
        """Waits until the gateway has restarted after `since_s` on the monotonic clock.

        It waits RESTART_TIMEOUT_S at most, and compares uptimes: a gateway that takes turns may
        not have begun its restart yet.
        """

        def is_newer(uptime_s: float) -> bool:
            return uptime_s < time.monotonic() - since_s

        await self._wait_for_uptime(is_newer, RESTART_TIMEOUT_S)

    async def wait_until_started(self, timeout_s: float) -> bool:
        """Waits until turns are taken; False if that takes longer than `timeout_s`."""
        return await self._wait_for_uptime(lambda _: True, timeout_s)

    async def _wait_for_uptime(
        self, is_accepted: Callable[[float], bool], timeout_s: float
    ) -> bool:
        """Waits until the uptime in seconds is accepted; False after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    uptime_s = await self.uptime_s()
                    if uptime_s is not None and is_accepted(uptime_s):
                        return True
                    await asyncio.sleep(PROBE_INTERVAL_S)
        return False

    async def suspend(self, request_id: str, *, drains: bool = True) -> Suspension:
        """Stops the gateway from taking new turns; running turns go on.

        Unless it `drains`, nothing happens while turns or background processes run. A call with
        the same `request_id` extends the same suspension by two minutes.
        """
        answer = await self.call(
            "gateway.suspend.prepare", {"requestId": request_id, "drain": drains}
        )
        return _suspension(answer)

    async def suspension(self, suspension_id: str) -> Suspension:
        """The current state of a suspension."""
        answer = await self.call("gateway.suspend.status", {"suspensionId": suspension_id})
        return _suspension(answer | {"suspensionId": suspension_id})

    async def open_conversations(self) -> None:
        """Makes the gateway create its database of conversations, which else the first turn does.

        Raises GatewayUnavailable.
        """
        # A 404 is a good answer, too: the database is open then.
        path = f"/sessions/{quote(MAIN_KEY, safe='')}/history?limit=1"
        try:
            status, _ = await self._exchange("GET", path, timeout_s=RPC_TIMEOUT_S)
        except _UNANSWERED as failure:
            raise GatewayUnavailable(f"sessions: {_reason(failure)}") from failure
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise GatewayUnavailable(f"sessions: HTTP {status}")

    async def resume(self, suspension_id: str) -> None:
        """Ends a suspension; does nothing if it has ended already."""
        await self.call("gateway.suspend.resume", {"suspensionId": suspension_id})

    @asynccontextmanager
    async def respond(
        self, request: Mapping[str, Any], *, model: str, session: str | None
    ) -> AsyncIterator[UpstreamAnswer]:
        """Sends a message. Leaving the block before the end of the answer cancels the turn.

        A stream begins within STREAM_START_TIMEOUT_S, and any answer ends within the forwarder's
        `turn_timeout_s`. Raises GatewayUnavailable if it does not, or if the gateway cannot be
        reached or breaks off, and MessageTooLarge if the request has more than MAX_MESSAGE_BYTES.
        """
        body = await off_loop(_encoded, request)
        if len(body) > MAX_MESSAGE_BYTES:
            # The gateway closes the connection in the middle of a large body, and its answer is
            # often lost then.
            raise MessageTooLarge
        headers = self._headers | {
            "Content-Type": "application/json",
            "x-openclaw-model": model,
            "x-openclaw-session-key": session_key(session),
        }
        try:
            is_whole = not request.get("stream")
            async with self._open(
                "POST", "/v1/responses", headers, body, is_patient=is_whole
            ) as answer:
                yield answer
        except (UpstreamFailed, StreamBroken) as failure:
            raise GatewayUnavailable(_reason(failure)) from failure

    async def post_hook(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Calls one of OpenClaw's hooks with its own token; its status and answer.

        Raises GatewayUnavailable, also after HOOK_TIMEOUT_S.
        """
        try:
            async with (
                asyncio.timeout(HOOK_TIMEOUT_S),
                self._open("POST", path, headers, body, is_patient=True) as answer,
            ):
                return answer.status, await answer.read(MAX_RPC_BYTES)
        except _UNANSWERED as failure:
            raise GatewayUnavailable(f"hooks: {_reason(failure)}") from failure

    async def _exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        timeout_s: float,
    ) -> tuple[int, bytes]:
        """A short call's status and body. Raises one of `_UNANSWERED` if it fails."""
        content_type = {"Content-Type": "application/json"} if body else {}
        headers = {**self._headers, **content_type}
        async with (
            asyncio.timeout(timeout_s),
            self._open(method, path, headers, body) as answer,
        ):
            return answer.status, await answer.read(MAX_RPC_BYTES)

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        is_patient: bool = False,
    ) -> AsyncIterator[UpstreamAnswer]:
        if (request_id := logs.request_id()) is not None:
            headers = {**headers, logs.REQUEST_ID_HEADER: request_id}
        # A path of the agent's own must not go on with the address: `@host` would be another one.
        url = f"{self._url}/{path.lstrip('/')}"
        answer = await self._forwarder.open(
            method, url, headers.items(), body, is_patient=is_patient
        )
        try:
            yield answer
        finally:
            await answer.close()


async def take_refused_sizes(files: Files, sandbox_id: SandboxId) -> tuple[int, int] | None:
    """The lengths of the configuration and of the latest one that OpenClaw has refused to write.

    OpenClaw leaves refused configurations beside its file. This removes them; None if there are
    none, or the sandbox does not say.
    """
    try:
        entries = (await files.folder(sandbox_id, ".", remove=_REFUSED_PREFIX)).entries
    except ChowderError as failure:
        log.info("sandbox %s: its folder cannot be read: %s", sandbox_id, failure)
        return None
    # The names end with the time, so the last one is the latest.
    refused = [each.size for each in entries if each.name.startswith(_REFUSED_PREFIX)]
    former = [each.size for each in entries if each.name == CONFIG_FILE]
    return (former[0], refused[-1]) if former and refused else None


def is_unanswered(unavailable: GatewayUnavailable) -> bool:
    """Whether a gateway may have done what a call asked for, though the call failed."""
    return isinstance(unavailable.__cause__, _UNANSWERED)


def _padding(length: int, _: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A patch of a setting that only OpenClaw's remote mode reads, and that users cannot set."""
    return {"gateway": {"remote": {"sshIdentity": _PAD * length} if length else None}}


def _is_padded(config: Mapping[str, Any]) -> bool:
    remote = untrusted_json.object_at(config, "gateway", "remote")
    return untrusted_json.text_of(remote.get("sshIdentity")).startswith(_PAD)


async def read_answer(answer: UpstreamAnswer) -> dict[str, Any]:
    """The response in an answer to a message, or the object of its error.

    The gateway sends it at once, when the turn has ended. Raises GatewayUnavailable if it is
    invalid, longer than MAX_ANSWER_BYTES, or not there within ANSWER_TIMEOUT_S of its status.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            body = await answer.read(MAX_ANSWER_BYTES)
        content = untrusted_json.read_object(body, values_max=MAX_ANSWER_VALUES)
        check_response(content)
    except (StreamBroken, TimeoutError, ValueError) as failure:
        raise GatewayUnavailable(_reason(failure)) from failure
    return content


def _array_paths(patch: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in patch.items():
        if isinstance(value, dict):
            yield from _array_paths(value, f"{above}{key}.")
        elif isinstance(value, list):
            yield f"{above}{key}"


def _problems(error: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    """The problems that a refusal lists by path."""
    details = untrusted_json.object_at(error, "details")
    for each in untrusted_json.objects_of(details.get("issues"))[:MAX_PROBLEMS]:
        yield ConfigProblem(
            *(untrusted_json.message_of(each.get(name)) for name in ("path", "message"))
        )


def _lost_arrays(refusal: str) -> list[str]:
    match = _ARRAYS_LOST.search(refusal, 0, SEARCHED_CHARACTERS)
    return [] if match is None else match[1].split(", ")


def _suspension(answer: Mapping[str, Any]) -> Suspension:
    return Suspension(
        id=str(answer.get("suspensionId") or ""), is_drained=answer.get("status") == "ready"
    )


def _encoded(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()


def _reason(failure: Exception) -> str:
    """A message for a failed exchange."""
    if isinstance(failure, UpstreamFailed) and not failure.is_sent:
        return "the sandbox does not answer"
    if isinstance(failure.__cause__, TimeoutError):
        return f"{failure}. {_LATE_REMEDY}"
    if isinstance(failure, UpstreamFailed):
        return "the sandbox broke off"
    if isinstance(failure, TimeoutError):
        return "the sandbox takes too long to answer"
    if isinstance(failure, ValueError):
        return "the sandbox answered with something other than JSON"
    return str(failure)
