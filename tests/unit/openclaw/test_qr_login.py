"""QR codes of logins: the latest one is kept until it is scanned or expires."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.tasks import owned_tasks
from chowder_local.openclaw import qr_login
from chowder_local.openclaw.qr_login import MAX_LOGINS, MAX_QR, QrLogins
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOX = SandboxId("box")
QR = "data:image/png;base64,aaaa"
NEXT = "data:image/png;base64,bbbb"


class Waiting:
    """A gateway that answers waits in order, and then hangs."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert method == "web.login.wait"
        self.requests.append(params)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        current: dict[str, Any] = answer
        return current


@pytest.fixture
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    async with owned_tasks() as group:
        yield group


def started(group: asyncio.TaskGroup, gateway: Any) -> QrLogins:
    logins = QrLogins(group)
    logins.follow(BOX, "whatsapp", gateway, QR, "Scan.")
    return logins


async def test_a_code_is_known_until_it_is_scanned(group: asyncio.TaskGroup) -> None:
    gateway = Waiting({"connected": True})
    logins = started(group, gateway)
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    assert (current.qr, current.message, current.is_over) == (QR, "Scan.", False)
    await eventually(lambda: logins.latest(BOX, "whatsapp") is None, "it is scanned")
    assert gateway.requests == [
        {"channel": "whatsapp", "timeoutMs": 20_000, "currentQrDataUrl": QR}
    ]


async def test_the_next_code_takes_the_place_of_the_first(group: asyncio.TaskGroup) -> None:
    gateway = Waiting({"connected": False, "qrDataUrl": NEXT, "message": "Refreshed."})
    logins = started(group, gateway)
    await eventually(lambda: len(gateway.requests) == 2, "it goes on waiting")
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    assert (current.qr, current.message, current.is_over) == (NEXT, "Refreshed.", False)
    assert gateway.requests[1]["currentQrDataUrl"] == NEXT


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"connected": False, "message": "The login QR expired."}, "The login QR expired."),
        ({}, ""),
        (GatewayUnavailable("gone"), "Gateway unavailable – gone"),
        # The failure stays in the login's task.
        (RuntimeError("a defect"), "Scan."),
    ],
)
async def test_an_expired_login_has_openclaws_message(
    group: asyncio.TaskGroup, answer: Any, words: str
) -> None:
    logins = started(group, Waiting(answer))
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    await eventually(lambda: current.is_over, "it has expired")
    assert logins.latest(BOX, "whatsapp") is current
    assert current.message == words


async def test_a_picture_that_is_longer_than_a_code_is_not_kept(group: asyncio.TaskGroup) -> None:
    logins = started(group, Waiting({"qrDataUrl": QR + "a" * MAX_QR, "message": "Scan this."}))
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    await eventually(lambda: current.is_over, "it has ended")
    assert (current.qr, current.message) == (QR, "Scan this.")


async def test_a_login_expires_after_the_scan_timeout(
    group: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qr_login, "SCAN_TIMEOUT_S", 0.0)
    logins = started(group, Waiting())
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    await eventually(lambda: current.is_over, "it has expired")
    assert "in time" in current.message


async def test_a_code_that_is_requested_twice_has_one_task(
    group: asyncio.TaskGroup,
) -> None:
    gateway: Any = Waiting()
    logins = started(group, gateway)
    await eventually(lambda: gateway.requests != [], "it waits")
    logins.follow(BOX, "whatsapp", gateway, NEXT, "Already active.")
    current = logins.latest(BOX, "whatsapp")
    assert current is not None
    assert (current.qr, current.message) == (NEXT, "Already active.")
    await asyncio.sleep(0)
    assert len(gateway.requests) == 1


async def test_only_a_png_is_sent_back(group: asyncio.TaskGroup) -> None:
    gateway: Any = Waiting()
    logins = QrLogins(group)
    logins.follow(BOX, "whatsapp", gateway, "https://elsewhere/", "")
    await eventually(lambda: gateway.requests != [], "it waits")
    assert "currentQrDataUrl" not in gateway.requests[0]


async def test_old_logins_are_forgotten_and_any_can_be(group: asyncio.TaskGroup) -> None:
    gateway: Any = Waiting()
    logins = QrLogins(group)
    for number in range(MAX_LOGINS + 1):
        logins.follow(SandboxId(f"box-{number}"), "whatsapp", gateway, QR, "")
    assert logins.latest(SandboxId("box-0"), "whatsapp") is None
    assert logins.latest(SandboxId("box-1"), "whatsapp") is not None
    logins.forget(SandboxId("box-1"), "whatsapp")
    assert logins.latest(SandboxId("box-1"), "whatsapp") is None


async def test_a_release_that_takes_no_channel_is_asked_without_one(
    group: asyncio.TaskGroup,
) -> None:
    refusal = RpcRefused("invalid web.login.wait params: at root: unexpected property 'channel'")
    gateway = Waiting(refusal, {"connected": True})
    logins = started(group, gateway)
    await eventually(lambda: logins.latest(BOX, "whatsapp") is None, "the code is gone")
    assert [sorted(each) for each in gateway.requests] == [
        ["channel", "currentQrDataUrl", "timeoutMs"],
        ["currentQrDataUrl", "timeoutMs"],
    ]
