"""QR codes that wait to be scanned, followed until somebody has, or the last one is void."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway

SCAN_TIMEOUT_S = 180.0
"""For how long a QR code, and those that follow it, can be scanned."""
SCAN_CALL_S = 20.0
LOOK_INTERVAL_S = 0.25
KEPT = 256
LONGEST_QR = 16_384
"""OpenClaw's own bound for what it is shown again."""
_PNG = "data:image/png;base64,"


@dataclass
class QrLogin:
    """A QR code as a data URL, OpenClaw's words about it, and whether it is void by now."""

    qr: str
    message: str
    is_over: bool = False


class QrLogins:
    """The latest code of each channel. OpenClaw connects it for whoever waits, and only then."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._logins: dict[tuple[SandboxId, str], QrLogin] = {}

    def latest(self, sandbox_id: SandboxId, channel: str) -> QrLogin | None:
        """The code that waits to be scanned, or the one that nobody has scanned in time."""
        return self._logins.get((sandbox_id, channel))

    def follow(
        self, sandbox_id: SandboxId, channel: str, gateway: Gateway, qr: str, message: str
    ) -> None:
        """Waits for the code's scan, and for that of those that OpenClaw has follow it."""
        known = self._logins.pop((sandbox_id, channel), None)
        if known is not None and not known.is_over:
            # Whoever waits for that one waits for this one: they are of one login.
            known.qr, known.message = qr, message
            self._logins[sandbox_id, channel] = known
            return
        login = self._logins[sandbox_id, channel] = QrLogin(qr, message)
        while len(self._logins) > KEPT:
            del self._logins[next(iter(self._logins))]
        self._group.create_task(
            self._watch((sandbox_id, channel), gateway, login), name=f"scan {channel}"
        )

    def forget(self, sandbox_id: SandboxId, channel: str) -> None:
        self._logins.pop((sandbox_id, channel), None)

    async def _watch(self, key: tuple[SandboxId, str], gateway: Gateway, login: QrLogin) -> None:
        is_scanned = False
        with contained(f"sandbox {key[0]}: waiting for a scan"):
            try:
                is_scanned = await _is_scanned(gateway, key[1], login)
            except (GatewayUnavailable, RpcRefused) as failure:
                login.message = str(failure)
        login.is_over = True
        if is_scanned and self._logins.get(key) is login:
            del self._logins[key]


async def _is_scanned(gateway: Gateway, channel: str, login: QrLogin) -> bool:
    ends_s = time.monotonic() + SCAN_TIMEOUT_S
    while (called_s := time.monotonic()) < ends_s:
        question = {"channel": channel, "timeoutMs": int(SCAN_CALL_S * 1000)}
        if login.qr.startswith(_PNG) and len(login.qr) <= LONGEST_QR:
            # Then it tells at once when another code has taken the place of this one.
            question["currentQrDataUrl"] = login.qr
        waited = await gateway.call("web.login.wait", question)
        if waited.get("connected"):
            return True
        message = untrusted_json.text_of(waited.get("message"))
        if qr := untrusted_json.text_of(waited.get("qrDataUrl")):
            login.qr, login.message = qr, message
            await asyncio.sleep(LOOK_INTERVAL_S)
        elif time.monotonic() - called_s < SCAN_CALL_S / 2:
            # An answer before its time is the end of it.
            login.message = message
            return False
    login.message = "Nobody has scanned it in time."
    return False
