"""The messengers of running agents: OpenClaw connects them, and is asked how they are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import (
    ChannelRefused,
    ChannelUnreachable,
    ConfigNotApplied,
    PairingNotFound,
    RpcRefused,
)
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.openclaw.channel_table import (
    CHANNELS,
    ConnectionType,
    missing_fields,
    to_openclaw_config,
)
from chowder_local.openclaw.config.agent_config import merged, to_merge_patch
from chowder_local.openclaw.qr_login import QrLogins
from chowder_local.openclaw.sandbox_exec import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.qr_login import QrLogin
    from chowder_local.openclaw.sandbox_exec import Processes

CONNECT_TIMEOUT_S = 15.0
LOOK_INTERVAL_S = 0.25
QR_TIMEOUT_S = 20.0
PAIR_TIMEOUT_S = 60.0
APPROVE = "pairing.approve"

_PNG = "data:image/png;base64,"
_ALREADY_LINKED = "already linked"
_NO_SUCH_CODE = "No pending pairing request"


class ConnectionStatus(StrEnum):
    CONNECTED = "connected"
    AWAITING_SCAN = "awaiting_scan"


@dataclass(frozen=True)
class ChannelState:
    """A channel as OpenClaw sees it; `account` and `issues` are its own words about it.

    `configured` is what is written about it, with secrets hidden.
    """

    channel: str
    is_enabled: bool
    configured: Mapping[str, Any] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    issues: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_connected(self) -> bool:
        if not self.account.get("running"):
            return False
        # Channels that are called, rather than calling, have no connection to tell of.
        connected = self.account.get("connected")
        return connected is True or (connected is None and self._is_ready)

    @property
    def is_refused(self) -> bool:
        """Whether OpenClaw has given up until something is changed."""
        account = self.account
        return account.get("terminalDisconnect") is True or account.get("configured") is False

    @property
    def has_failed(self) -> bool:
        """Whether a try to connect has failed, even if OpenClaw goes on trying."""
        account = self.account
        return bool(account.get("lastError")) or account.get("lifecycle") == "recovering"

    @property
    def reason(self) -> str | None:
        """Why it is not connected, if OpenClaw tells."""
        if self.is_connected:
            return None
        if self.is_enabled and not self.account:
            return "OpenClaw does not run this channel; the sandbox's log says why."
        also = CHANNELS[self.channel].also
        if also and self.account.get("configured") is False:
            return f"OpenClaw also needs {also}."
        reasons = (
            self.account.get("lastError"),
            *(each.get("message") for each in self.issues),
            self.account.get("stateReason"),
            self.account.get("lifecycle"),
        )
        return next(filter(None, map(untrusted_json.text_of, reasons)), None)

    @property
    def _is_ready(self) -> bool:
        return not self.account.get("lastError") and self.account.get("lifecycle") == "ready"


@dataclass(frozen=True)
class Connection:
    """What came of connecting; the QR code is a PNG image in a data URL."""

    channel: str
    status: ConnectionStatus
    message: str
    qr: str | None = None

    @property
    def qr_base64(self) -> str | None:
        return None if self.qr is None else self.qr.removeprefix(_PNG)


class Channels:
    """Connects and disconnects the channels of running agents."""

    def __init__(
        self,
        processes: Processes,
        gateway_of: GatewayOf,
        group: asyncio.TaskGroup,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._approving = Program(processes, "approve.mjs")
        self._gateway_of = gateway_of
        self._logins = QrLogins(group)
        self._connect_timeout_s = connect_timeout_s

    async def enabled(self, instance: Instance) -> Mapping[str, bool]:
        """Every channel, and whether it is switched on. Raises GatewayUnavailable."""
        configured = await _configured(self._gateway(instance))
        return {name: _is_enabled(configured.get(name)) for name in CHANNELS}

    async def states(self, instance: Instance) -> list[ChannelState]:
        """How all channels are. Raises GatewayUnavailable."""
        return list((await _states(self._gateway(instance))).values())

    def qr_login(self, instance: Instance, channel: Channel) -> QrLogin | None:
        """The QR code that was made for a channel, until somebody has scanned it."""
        return self._logins.latest(instance.sandbox_id, channel.name)

    async def state(self, instance: Instance, channel: Channel) -> ChannelState:
        """How a channel is. Raises GatewayUnavailable."""
        return (await _states(self._gateway(instance)))[channel.name]

    async def connect(
        self, instance: Instance, channel: Channel, given: Mapping[str, Any]
    ) -> Connection:
        """Lays credentials over those that are there, and waits some seconds for the channel.

        Raises InputInvalid for what is missing, ConfigRefused, ChannelRefused, ChannelUnreachable
        and GatewayUnavailable. Of the last four only the first leaves everything as it was.
        """
        gateway = self._gateway(instance)
        configured = untrusted_json.object_of((await _configured(gateway)).get(channel.name))
        change = to_openclaw_config(channel, given)
        if lacking := missing_fields(channel, merged(configured, change)):
            raise InputInvalid([_missing(name) for name in lacking])
        started_s = time.monotonic()
        wanted = merged(_policy(channel), change, keep_nulls=True) | {"enabled": True}
        # What is written, but not applied, OpenClaw tries to apply again; the wait below tells.
        with contextlib.suppress(ConfigNotApplied):
            if await gateway.patch_config(to_merge_patch({"channels": {channel.name: wanted}})):
                await gateway.wait_for_restart(started_s)
        if not given and _is_enabled(configured):
            # Nothing has changed, so OpenClaw sees no cause to try again.
            with contextlib.suppress(RpcRefused):
                await gateway.call("channels.start", {"channel": channel.name})
        if channel.connection_type is ConnectionType.INTERACTIVE:
            return await self._link(instance.sandbox_id, gateway, channel)
        return await self._until_connected(gateway, channel)

    async def disconnect(self, instance: Instance, channel: Channel) -> None:
        """Switches a channel off; its credentials are kept. Raises GatewayUnavailable."""
        gateway = self._gateway(instance)
        self._logins.forget(instance.sandbox_id, channel.name)
        if _is_enabled((await _configured(gateway)).get(channel.name)):
            try:
                await gateway.patch_config({"channels": {channel.name: {"enabled": False}}})
            except ConfigNotApplied:
                await gateway.call("channels.stop", {"channel": channel.name})

    async def pair(self, instance: Instance, channel: Channel, code: str) -> str:
        """Lets the sender in who was given the code; what OpenClaw says to that.

        Raises PairingNotFound, ChannelRefused, GatewayUnavailable.
        """
        question = {"method": APPROVE, "params": {"channel": channel.name, "code": code}}
        answer = await self._approving.ask(
            instance.sandbox_id,
            question,
            timeout_s=PAIR_TIMEOUT_S,
            overdue="the pairing code's approval takes too long",
        )
        output = untrusted_json.text_of(answer.get("output"))
        if answer.get("status") == 0:
            return output
        if _NO_SUCH_CODE in output:
            raise PairingNotFound
        raise ChannelRefused(f"{channel.name} takes no code: {_last_line(output)}")

    def _gateway(self, instance: Instance) -> Gateway:
        return self._gateway_of(instance.sandbox_id, instance.gateway_url)

    async def _until_connected(self, gateway: Gateway, channel: Channel) -> Connection:
        ends_s = time.monotonic() + self._connect_timeout_s
        while True:
            state = (await _states(gateway))[channel.name]
            if state.is_connected:
                message = f"{channel.name} is connected."
                return Connection(channel.name, ConnectionStatus.CONNECTED, message)
            if state.is_refused:
                raise ChannelRefused(f"{channel.name} is not connected: {state.reason}")
            if state.has_failed or time.monotonic() > ends_s:
                raise ChannelUnreachable(channel.name, state.reason)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _link(self, sandbox_id: SandboxId, gateway: Gateway, channel: Channel) -> Connection:
        """Has a QR code made for a person to scan, unless one was scanned before."""
        try:
            begun = await gateway.call(
                "web.login.start",
                {"channel": channel.name, "timeoutMs": int(QR_TIMEOUT_S * 1000)},
            )
        except RpcRefused as refused:
            raise ChannelUnreachable(channel.name, str(refused)) from refused
        message, qr = (untrusted_json.text_of(begun.get(name)) for name in ("message", "qrDataUrl"))
        if qr:
            self._logins.follow(sandbox_id, channel.name, gateway, qr, message)
            return Connection(channel.name, ConnectionStatus.AWAITING_SCAN, message, qr)
        if begun.get("connected") or _ALREADY_LINKED in message:
            return await self._until_connected(gateway, channel)
        raise ChannelUnreachable(channel.name, message)


async def _configured(gateway: Gateway) -> Mapping[str, Any]:
    """What is written about each channel; secrets are there, but cannot be read."""
    answer = await gateway.call("config.get", {})
    return untrusted_json.object_at(answer, "sourceConfig", "channels")


async def _states(gateway: Gateway) -> dict[str, ChannelState]:
    configured = await _configured(gateway)
    status = await gateway.call("channels.status", {})
    return {name: _state_of(name, configured, status) for name in CHANNELS}


def _state_of(
    channel: str, configured: Mapping[str, Any], status: Mapping[str, Any]
) -> ChannelState:
    known = untrusted_json.object_at(status, "channelAccounts")
    accounts = untrusted_json.objects_of(known.get(channel)) or [{}]
    first = untrusted_json.object_at(status, "channelDefaultAccountId").get(channel)
    issues = untrusted_json.objects_of(status.get("statusIssues"))
    return ChannelState(
        channel=channel,
        is_enabled=_is_enabled(configured.get(channel)),
        configured=untrusted_json.object_at(configured, channel),
        account=next((each for each in accounts if each.get("accountId") == first), accounts[0]),
        issues=tuple(each for each in issues if each.get("channel") == channel),
    )


def _is_enabled(configured: Any) -> bool:
    """OpenClaw takes a channel that is configured for enabled unless it says otherwise."""
    return isinstance(configured, dict) and configured.get("enabled", True) is not False


def _policy(channel: Channel) -> dict[str, Any]:
    policy: Any = "pairing"
    for name in reversed(channel.dm_policy):
        policy = {name: policy}
    return dict(policy)


def _missing(name: str) -> dict[str, Any]:
    return {"loc": ["body", "config", name], "msg": "Field required", "type": "missing"}


def _last_line(output: str) -> str:
    return (output.splitlines() or ["it says nothing"])[-1].strip()
