"""Connects and disconnects the channels of running agents, and reads their state."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, FailFast, Field, TypeAdapter, ValidationError

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import (
    ChannelNotLocal,
    ChannelRefused,
    ChannelUnreachable,
    ConfigNotApplied,
    GatewayUnavailable,
    PairingNotFound,
    RpcRefused,
    SandboxTooOld,
)
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.openclaw.channel_table import (
    CHANNELS,
    ConnectionType,
    generated_fields,
    is_local,
    missing_fields,
    to_openclaw_config,
)
from chowder_local.openclaw.config.agent_config import merged, to_merge_patch
from chowder_local.openclaw.qr_login import QrLogins, call_login, read_login
from chowder_local.openclaw.sandbox_exec import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.qr_login import QrLogin
    from chowder_local.openclaw.sandbox_exec import Processes

CONNECT_TIMEOUT_S = 15.0
MAX_PAIRINGS = 1_000
LOOK_INTERVAL_S = 0.25
QR_TIMEOUT_S = 20.0
PAIR_TIMEOUT_S = 120.0
"""A pairing starts OpenClaw's command line, which took over 60 s at a load of 14 on two cores."""
OFFLINE = "offline"
_NO_LOCAL_MESSENGER = {
    "loc": ["body", "config", OFFLINE],
    "msg": "this server has no local messenger: CHOWDER_FEATURES_OFF leaves it out",
    "type": "value_error",
}
"""The member, or the value of a credential, that connects a channel to the local messenger."""
DEFAULTS = {"groupPolicy", "streaming"}
"""Of a local messenger's fields, under OpenClaw's names, those that a client may give."""
FILES = "files"
"""Of a local messenger's fields: files of the agent's state, with their paths."""
APPROVE = "pairing.approve"
ADMIT = "pairing.admit"
LIST_PAIRINGS = "pairing.list"

_UNCHECKED = "OpenClaw does not check its credentials before the first message."
_PNG = "data:image/png;base64,"
_ALREADY_LINKED = "already linked"
_NO_SUCH_CODE = "No pending pairing request"


class ConnectionStatus(StrEnum):
    CONNECTED = "connected"
    AWAITING_SCAN = "awaiting_scan"


@dataclass(frozen=True)
class ChannelState:
    """A channel's state; `account` and `issues` are OpenClaw's own report.

    `configured` is the channel's section of the configuration, with secrets hidden.
    """

    channel: str
    is_enabled: bool
    configured: Mapping[str, Any] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)
    issues: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_connected(self) -> bool:
        # Slack's webhook reports a connection, although OpenClaw has given it up.
        if not self.account.get("running") or self.is_refused:
            return False
        # A channel that receives webhooks reports no connection.
        connected = self.account.get("connected")
        return connected is True or (connected is None and self._is_ready)

    @property
    def attempt(self) -> Any:
        """When the latest attempt to connect began; None if there is none, or it is not told."""
        return self.account.get("lastStartAt") if self.account.get("configured", True) else None

    @property
    def is_refused(self) -> bool:
        """Whether OpenClaw has stopped trying until the configuration changes."""
        account = self.account
        return account.get("terminalDisconnect") is True or account.get("configured") is False

    @property
    def has_failed(self) -> bool:
        """Whether an attempt to connect has failed; OpenClaw may still be trying."""
        account = self.account
        return bool(account.get("lastError")) or account.get("lifecycle") == "recovering"

    @property
    def reason(self) -> str | None:
        """Why it is not connected, if OpenClaw says so."""
        if self.is_connected:
            return None
        if self.is_enabled and not self.account:
            return (
                "OpenClaw does not run this channel: its release has no such channel, or the "
                "sandbox's log says why."
            )
        also_required = CHANNELS[self.channel].also_required
        if also_required and self.account.get("configured") is False:
            return f"OpenClaw also needs {also_required}."
        reasons = (
            self.account.get("lastError"),
            *(each.get("message") for each in self.issues),
            self.account.get("stateReason"),
            self.account.get("lifecycle"),
        )
        return next(filter(None, map(untrusted_json.message_of, reasons)), None)

    @property
    def _is_ready(self) -> bool:
        return not self.account.get("lastError") and self.account.get("lifecycle") == "ready"


class PairingRequest(BaseModel):
    """A person who waits for an approval; `meta` is what OpenClaw keeps about that person."""

    code: str
    sender: str = Field(validation_alias="id")
    created_at: datetime = Field(validation_alias="createdAt")
    last_seen_at: datetime = Field(validation_alias="lastSeenAt")
    meta: dict[str, str] = {}


_REQUESTS = TypeAdapter(Annotated[list[PairingRequest], FailFast(), Field(max_length=MAX_PAIRINGS)])


@dataclass(frozen=True)
class ChannelConnection:
    """The result of `Channels.connect`; `qr` is a PNG image in a data URL."""

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
        state_dir: str,
        files: Files,
        offline_fields: Sequence[Callable[[Instance, str], Mapping[str, Any]]],
        is_offline: bool = False,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._pairings = Program(processes, "pairings.py")
        self._state_dir = state_dir
        self._files = files
        self._offline_fields = offline_fields
        self._is_offline = is_offline
        self._gateway_of = gateway_of
        self._logins = QrLogins(group)
        self._connect_timeout_s = connect_timeout_s

    async def enabled(self, instance: Instance) -> Mapping[str, bool]:
        """Whether each channel is enabled, by name. Raises GatewayUnavailable."""
        configured = await _configured(self._gateway(instance))
        return {name: _is_enabled(configured.get(name)) for name in CHANNELS}

    async def states(self, instance: Instance) -> list[ChannelState]:
        """The state of every channel. Raises GatewayUnavailable."""
        return list((await _states(self._gateway(instance))).values())

    def qr_login(self, instance: Instance, channel: Channel) -> QrLogin | None:
        """The latest QR code of a channel; None if there is none, or it was scanned."""
        return self._logins.latest(instance.sandbox_id, channel.name)

    async def state(self, instance: Instance, channel: Channel) -> ChannelState:
        """The state of one channel. Raises GatewayUnavailable."""
        return (await _states(self._gateway(instance)))[channel.name]

    async def connect(
        self, instance: Instance, channel: Channel, fields: Mapping[str, Any]
    ) -> ChannelConnection:
        """Merges the fields into the channel's configuration and waits for the connection.

        It waits `connect_timeout_s` at most. Raises InputInvalid if a required field is missing
        and ConfigRefused if OpenClaw refuses the configuration; neither changes anything. Raises
        ChannelRefused if OpenClaw has given up, ChannelUnreachable if the channel is not connected
        in time, and GatewayUnavailable; the configuration may have changed then.
        """
        gateway = self._gateway(instance)
        former_config = await gateway.call("config.get", {})
        channels = untrusted_json.object_at(former_config, "sourceConfig", "channels")
        configured = untrusted_json.object_of(channels.get(channel.name))
        former = await self.state(instance, channel)
        fields, files = self._with_local_fields(instance, channel, fields, configured)
        change = to_openclaw_config(channel, fields)
        change |= generated_fields(channel, merged(configured, change))
        if (
            channel.has_fixed_hosts
            and is_local(merged(configured, change))
            and not await gateway.diverts(channel.name)
        ):
            raise SandboxTooOld(f"connect {channel.name} to the local messenger")
        if missing := missing_fields(channel, merged(configured, change)):
            raise InputInvalid([_missing_field_error(name) for name in missing])
        for path, content in files.items():
            await self._files.write_text(instance.sandbox_id, path, content)
        started_s = time.monotonic()
        wanted = merged(_dm_policy(channel), change, keep_nulls=True) | {"enabled": True}
        patch = to_merge_patch({"channels": {channel.name: wanted}})
        # OpenClaw applies a written configuration later; the wait below shows whether it did.
        with contextlib.suppress(ConfigNotApplied):
            if await gateway.patch_config(patch):
                await gateway.wait_for_restart(started_s)
        config = await gateway.call("config.get", {})
        was_enabled = _is_enabled(channels.get(channel.name))
        if was_enabled and config.get("hash") == former_config.get("hash"):
            # OpenClaw tries again only after a while, or never.
            await _try_again(gateway, channel, former)
        if channel.connection_type is ConnectionType.INTERACTIVE:
            if files and not (former.is_connected or former.has_failed):
                return self._scan_itself(instance.sandbox_id, gateway, channel, former)
            return await self._link(instance.sandbox_id, gateway, channel, former)
        return await self._until_connected(gateway, channel, former)

    def _with_local_fields(
        self,
        instance: Instance,
        channel: Channel,
        fields: Mapping[str, Any],
        configured: Mapping[str, Any],
    ) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """The fields with those of the local messenger, or without those that it had set.

        With them are the files that OpenClaw has to have.
        """
        rest = {name: value for name, value in fields.items() if name != OFFLINE}
        is_offline = fields.get(OFFLINE, self._is_offline) is True or OFFLINE in rest.values()
        if is_offline and not self._offline_fields:
            raise InputInvalid([_NO_LOCAL_MESSENGER])
        local: dict[str, Any] = {}
        if self._offline_fields:
            local |= self._offline_fields[0](instance, channel.name)
        files = local.pop(FILES, {})
        if is_offline:
            given = {name: value for name, value in rest.items() if value != OFFLINE}
            ours, theirs = (to_openclaw_config(channel, each) for each in (local, given))
            chosen = {name: theirs[name] for name in theirs if name in DEFAULTS}
            return {**theirs, **ours, **chosen}, files
        if is_local(configured) and (rest or OFFLINE in fields):
            # A real messenger has its own address.
            return {**dict.fromkeys(local), **rest}, {}
        return rest, {}

    async def disconnect(self, instance: Instance, channel: Channel) -> None:
        """Disables a channel and keeps its credentials. Raises GatewayUnavailable."""
        gateway = self._gateway(instance)
        self._logins.forget(instance.sandbox_id, channel.name)
        if _is_enabled((await _configured(gateway)).get(channel.name)):
            started_s = time.monotonic()
            try:
                off = {"channels": {channel.name: {"enabled": False}}}
                if await gateway.patch_config(off):
                    await gateway.wait_for_restart(started_s)
            except ConfigNotApplied:
                await gateway.call("channels.stop", {"channel": channel.name})

    async def check_local(self, instance: Instance, channel: Channel) -> None:
        """Raises ChannelNotLocal unless the channel is connected to the local messenger.

        Connects one again that does not so itself, after a restart of the server.
        """
        gateway = self._gateway(instance)
        section = (await _configured(gateway)).get(channel.name)
        if not (_is_enabled(section) and is_local(section)):
            raise ChannelNotLocal(channel.name)
        if not channel.reconnects and (await _states(gateway))[channel.name].has_failed:
            await _start_again(gateway, channel)

    async def reconnect(self, instance: Instance, channel: Channel) -> None:
        """Ends the connection to the messenger and makes another one."""
        await _start_again(self._gateway(instance), channel)

    async def admit(self, instance: Instance, channel: Channel, **who: str) -> None:
        """Approves a `sender`, or who has the pairing `code`, in OpenClaw's database.

        Raises PairingNotFound, ChannelRefused if the database is another one, GatewayUnavailable.
        """
        params = {"channel": channel.name, "state_dir": self._state_dir, **who}
        answer = await self._pairings.ask(
            instance.sandbox_id,
            {"method": ADMIT, "params": params},
            timeout_s=PAIR_TIMEOUT_S,
            timeout_message="the person was not approved in time",
        )
        if "error" in answer:
            reason = _last_line(untrusted_json.text_of(answer["error"]))
            raise ChannelRefused(f"{channel.name} has not approved anybody: {reason}")
        if not answer.get("is_found"):
            raise PairingNotFound
        if channel.caches_approvals and answer.get("is_new"):
            await _start_again(self._gateway(instance), channel)

    async def pairings(self, instance: Instance, channel: Channel) -> list[PairingRequest]:
        """The people who wait for an approval, oldest first.

        Raises ChannelRefused if OpenClaw does not list them, and GatewayUnavailable.
        """
        params = {"channel": channel.name, "state_dir": self._state_dir}
        answer = await self._pairings.ask(
            instance.sandbox_id,
            {"method": LIST_PAIRINGS, "params": params},
            timeout_s=PAIR_TIMEOUT_S,
            timeout_message="the pairing requests were not listed in time",
        )
        if "error" in answer:
            reason = _last_line(untrusted_json.text_of(answer["error"]))
            raise ChannelRefused(f"{channel.name} has no list of pairing requests: {reason}")
        try:
            return _REQUESTS.validate_python(answer.get("requests"))
        except ValidationError:
            raise GatewayUnavailable("the sandbox returned an invalid list of pairings") from None

    async def pair(self, instance: Instance, channel: Channel, code: str) -> str:
        """Approves the sender who got the code, and returns OpenClaw's output.

        Raises PairingNotFound if no pending request has the code, ChannelRefused if OpenClaw
        refuses it for another reason, and GatewayUnavailable.
        """
        request = {"method": APPROVE, "params": {"channel": channel.name, "code": code}}
        answer = await self._pairings.ask(
            instance.sandbox_id,
            request,
            timeout_s=PAIR_TIMEOUT_S,
            timeout_message="the pairing code was not approved in time",
        )
        output = untrusted_json.text_of(answer.get("output"))
        if answer.get("status") == 0:
            if channel.caches_approvals:
                await _start_again(self._gateway(instance), channel)
            return output
        if _NO_SUCH_CODE in output:
            raise PairingNotFound
        raise ChannelRefused(f"{channel.name} does not accept the code: {_last_line(output)}")

    def _gateway(self, instance: Instance) -> Gateway:
        return self._gateway_of(instance.sandbox_id, instance.gateway_url)

    async def _until_connected(
        self, gateway: Gateway, channel: Channel, former: ChannelState
    ) -> ChannelConnection:
        """Waits for the result of an attempt that is not the one of the former state."""
        ends_s = time.monotonic() + self._connect_timeout_s
        while True:
            state = (await _states(gateway))[channel.name]
            is_over = time.monotonic() > ends_s
            is_new = state.attempt is None or state.attempt != former.attempt
            if state.is_connected:
                message = f"{channel.name} is connected."
                if not channel.is_checked:
                    message = f"{channel.name} is set up. {_UNCHECKED}"
                return ChannelConnection(channel.name, ConnectionStatus.CONNECTED, message)
            if state.is_refused and (is_new or is_over):
                raise ChannelRefused(f"{channel.name} is not connected: {state.reason}")
            if (state.has_failed and is_new) or is_over:
                raise ChannelUnreachable(channel.name, state.reason)
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _scan_itself(
        self, sandbox_id: SandboxId, gateway: Gateway, channel: Channel, former: ChannelState
    ) -> ChannelConnection:
        """Shows a QR code for as long as an account of the local messenger takes to connect."""
        message = f"This code scans itself: {channel.name} connects to the local messenger."
        connection = self._until_connected(gateway, channel, former)
        qr = self._logins.show_until(sandbox_id, channel.name, message, connection)
        return ChannelConnection(channel.name, ConnectionStatus.AWAITING_SCAN, message, qr)

    async def _link(
        self, sandbox_id: SandboxId, gateway: Gateway, channel: Channel, former: ChannelState
    ) -> ChannelConnection:
        """Requests a QR code for a person to scan, unless the account is linked already."""
        try:
            request = {"channel": channel.name, "timeoutMs": int(QR_TIMEOUT_S * 1000)}
            login = await call_login(gateway, "web.login.start", request)
        except RpcRefused as refused:
            raise ChannelUnreachable(channel.name, str(refused)) from refused
        message, qr = read_login(login)
        if qr:
            self._logins.follow(sandbox_id, channel.name, gateway, qr, message)
            return ChannelConnection(channel.name, ConnectionStatus.AWAITING_SCAN, message, qr)
        if login.get("connected") or _ALREADY_LINKED in message:
            return await self._until_connected(gateway, channel, former)
        raise ChannelUnreachable(channel.name, message)


async def _try_again(gateway: Gateway, channel: Channel, former: ChannelState) -> None:
    """Starts another attempt to connect, unless the channel is connected."""
    if not former.is_connected:
        await _start_again(gateway, channel)


async def _start_again(gateway: Gateway, channel: Channel) -> None:
    """Stops and starts a channel; returns before it is connected."""
    # A login that waits for a scan goes on.
    is_stopped = channel.connection_type is not ConnectionType.INTERACTIVE
    for method in ("channels.stop", "channels.start") if is_stopped else ("channels.start",):
        with contextlib.suppress(RpcRefused):
            await _control(gateway, method, channel)


async def _control(gateway: Gateway, method: str, channel: Channel) -> None:
    """Stops or starts a channel on behalf of a client that stays.

    A channel serves people on behalf of who has started it: OpenClaw refuses the agent reactions
    in one that a control call has started, which is over. Older sandboxes have no such client.
    """
    params = {"channel": channel.name}
    try:
        await gateway.call_as_client(method, params)
    except SandboxTooOld:
        await gateway.call(method, params)


async def _configured(gateway: Gateway) -> Mapping[str, Any]:
    """The configuration of each channel; OpenClaw replaces secrets by a placeholder."""
    answer = await gateway.call("config.get", {})
    return untrusted_json.object_at(answer, "sourceConfig", "channels")


async def _states(gateway: Gateway) -> dict[str, ChannelState]:
    configured = await _configured(gateway)
    status = await gateway.call("channels.status", {})
    return {name: _state_of(name, configured, status) for name in CHANNELS}


def _state_of(
    channel: str, configured: Mapping[str, Any], status: Mapping[str, Any]
) -> ChannelState:
    channel_accounts = untrusted_json.object_at(status, "channelAccounts")
    accounts = untrusted_json.objects_of(channel_accounts.get(channel)) or [{}]
    default_id = untrusted_json.object_at(status, "channelDefaultAccountId").get(channel)
    issues = untrusted_json.objects_of(status.get("statusIssues"))
    return ChannelState(
        channel=channel,
        is_enabled=_is_enabled(configured.get(channel)),
        configured=untrusted_json.object_at(configured, channel),
        account=next(
            (each for each in accounts if each.get("accountId") == default_id), accounts[0]
        ),
        issues=tuple(each for each in issues if each.get("channel") == channel),
    )


def _is_enabled(configured: Any) -> bool:
    """OpenClaw enables every configured channel unless `enabled` is false."""
    return isinstance(configured, dict) and configured.get("enabled", True) is not False


def _dm_policy(channel: Channel) -> dict[str, Any]:
    policy: Any = "pairing"
    for name in reversed(channel.dm_policy):
        policy = {name: policy}
    return dict(policy)


def _missing_field_error(name: str) -> dict[str, Any]:
    return {"loc": ["body", "config", name], "msg": "Field required", "type": "missing"}


def _last_line(output: str) -> str:
    return untrusted_json.message_of((output.splitlines() or ["no output"])[-1].strip())
