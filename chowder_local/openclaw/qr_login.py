"""Follows the QR codes of channel logins until one is scanned or the last one expires."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import (
    ChannelRefused,
    ChannelUnreachable,
    GatewayUnavailable,
    RpcRefused,
)
from chowder_local.core.tasks import logging_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway

SCAN_TIMEOUT_S = 180.0
"""How long a QR code and its successors can be scanned."""
SCAN_CALL_S = 20.0
LOOK_INTERVAL_S = 0.25
MAX_LOGINS = 256
MAX_QR = 64 * 1024
LONGEST_QR = 16_384
"""OpenClaw's own bound for `currentQrDataUrl`."""
_PNG = "data:image/png;base64,"
SELF_SCANNED = (
    f"{_PNG}"
    "iVBORw0KGgoAAAANSUhEUgAAAJQAAACUAQAAAABdRz15AAAA9UlEQVR42u1WQQ7DMAxC+4D//0t+4AHZrZdt5V"
    "grUtIcEMHYLvYSxHP3yx2AwXgfH5cvXOPbO+EJKnij8NdtPMzwkPSq4A2EyK3hcYt4WhQS2NHP0n2ikl+HYJLj"
    "eOi2fnKhNRQmWckHbb0jYOG9UY4L0dNWyK+JySw+sOIX6ScH5tTAMzk5xYBT8R9MzpZGJb9L6RZEFvJB80qvMr"
    "uCX9wM4uQxvUZ9mJw9k5q7X7+werEyC3gMrXTAWn+ZY75tvPeMDkTBTv26Kk4BT2m+pf/tGcQNPHhiqkpq89IT"
    "LtbuzLdNw3I/6OQ3jSrm24r/nv/EP+/ebKCBKxNrPx4AAAAASUVORK5CYII="
)
"""It says: This code of chowder-local scans itself."""
_CHANNEL_UNKNOWN = "unexpected property 'channel'"


@dataclass
class QrLogin:
    """A QR code as a data URL, OpenClaw's message, and whether the login has ended."""

    qr: str
    message: str
    is_over: bool = False


@dataclass(eq=False, repr=False)
class QrLogins:
    """The latest login of each channel; OpenClaw connects it only while a task waits for it."""

    group: asyncio.TaskGroup

    def __post_init__(self) -> None:
        self._logins: dict[tuple[SandboxId, str], QrLogin] = {}

    def latest(self, sandbox_id: SandboxId, channel: str) -> QrLogin | None:
        """The channel's current login, or the one that has expired; None after a scan."""
        return self._logins.get((sandbox_id, channel))

    def follow(
        self, sandbox_id: SandboxId, channel: str, gateway: Gateway, qr: str, message: str
    ) -> None:
        """Starts to wait for a scan of the code, or of one of its successors."""
        current = self._logins.pop((sandbox_id, channel), None)
        if current is not None and not current.is_over:
            # The code belongs to the same login, whose task goes on waiting.
            current.qr, current.message = qr, message
            self._logins[sandbox_id, channel] = current
            return
        login = QrLogin(qr, message)
        self._show((sandbox_id, channel), login, _is_scanned(gateway, channel, login))

    def show_until(
        self, sandbox_id: SandboxId, channel: str, message: str, connection: Awaitable[Any]
    ) -> str:
        """Shows a code that needs no scan, and returns it."""

        async def is_connected() -> bool:
            return bool(await connection)

        login = QrLogin(SELF_SCANNED, message)
        self._show((sandbox_id, channel), login, is_connected())
        return login.qr

    def _show(self, key: tuple[SandboxId, str], login: QrLogin, scan: Awaitable[bool]) -> None:
        self._logins[key] = login
        while len(self._logins) > MAX_LOGINS:
            del self._logins[next(iter(self._logins))]
        self.group.create_task(self._watch(key, login, scan), name=f"scan {key[1]}")

    def forget(self, sandbox_id: SandboxId, channel: str) -> None:
        self._logins.pop((sandbox_id, channel), None)

    async def _watch(
        self, key: tuple[SandboxId, str], login: QrLogin, scan: Awaitable[bool]
    ) -> None:
        is_scanned = False
        with logging_errors(f"sandbox {key[0]}: waiting for a scan"):
            try:
                is_scanned = await scan
            except (ChannelRefused, ChannelUnreachable, GatewayUnavailable, RpcRefused) as failure:
                login.message = str(failure)
        login.is_over = True
        if is_scanned and self._logins.get(key) is login:
            del self._logins[key]


async def call_login(gateway: Gateway, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """A call of a channel's login. Raises as `Gateway.call`."""
    try:
        return await gateway.call(method, request)
    except RpcRefused as refused:
        if _CHANNEL_UNKNOWN not in str(refused):
            raise
    # Before 2026.9, OpenClaw knew one channel with a login, and did not want its name.
    unnamed = {name: value for name, value in request.items() if name != "channel"}
    return await gateway.call(method, unnamed)


def read_login(reply: Mapping[str, Any]) -> tuple[str, str]:
    """OpenClaw's message, and the QR code as a data URL; empty if it is too long to be one."""
    qr = untrusted_json.text_of(reply.get("qrDataUrl"))
    return untrusted_json.message_of(reply.get("message")), qr if len(qr) <= MAX_QR else ""


async def _is_scanned(gateway: Gateway, channel: str, login: QrLogin) -> bool:
    ends_s = time.monotonic() + SCAN_TIMEOUT_S
    while (called_s := time.monotonic()) < ends_s:
        request: dict[str, Any] = {"channel": channel, "timeoutMs": int(SCAN_CALL_S * 1000)}
        if login.qr.startswith(_PNG) and len(login.qr) <= LONGEST_QR:
            # With this member, OpenClaw answers as soon as another code has replaced this one.
            request["currentQrDataUrl"] = login.qr
        reply = await call_login(gateway, "web.login.wait", request)
        if reply.get("connected"):
            return True
        message, qr = read_login(reply)
        if qr:
            login.qr, login.message = qr, message
            await asyncio.sleep(LOOK_INTERVAL_S)
        elif time.monotonic() - called_s < SCAN_CALL_S / 2:
            # An early answer without a code means that the login has ended.
            login.message = message
            return False
    login.message = "The QR code was not scanned in time. Connect the channel again for a new one."
    return False
