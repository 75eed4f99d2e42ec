"""QR codes that wait to be scanned: the latest one is known until somebody has, or it is void."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.tasks import owned_tasks
from chowder_local.openclaw import qr_login
from chowder_local.openclaw.qr_login import KEPT, QrLogins
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOX = SandboxId("box")
QR = "data:image/png;base64,aaaa"
NEXT = "data:image/png;base64,bbbb"


class Waiting:
    """A gateway that answers one wait after the other, and hangs at the end."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert method == "web.login.wait"
        self.asked.append(params)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found


@pytest.fixture
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    async with owned_tasks() as group:
        yield group


def begun(group: asyncio.TaskGroup, gateway: Any) -> QrLogins:
    made = QrLogins(group)
    made.follow(BOX, "whatsapp", gateway, QR, "Scan.")
    return made


async def test_a_code_is_known_until_it_is_scanned(group: asyncio.TaskGroup) -> None:
    gateway = Waiting({"connected": True})
    made = begun(group, gateway)
    found = made.latest(BOX, "whatsapp")
    assert found is not None
    assert (found.qr, found.message, found.is_over) == (QR, "Scan.", False)
    await eventually(lambda: made.latest(BOX, "whatsapp") is None, "it is scanned")
    assert gateway.asked == [{"channel": "whatsapp", "timeoutMs": 20_000, "currentQrDataUrl": QR}]


async def test_the_next_code_takes_the_place_of_the_first(group: asyncio.TaskGroup) -> None:
    gateway = Waiting({"connected": False, "qrDataUrl": NEXT, "message": "Refreshed."})
    made = begun(group, gateway)
    await eventually(lambda: len(gateway.asked) == 2, "it goes on waiting")
    found = made.latest(BOX, "whatsapp")
    assert found is not None
    assert (found.qr, found.message, found.is_over) == (NEXT, "Refreshed.", False)
    assert gateway.asked[1]["currentQrDataUrl"] == NEXT


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"connected": False, "message": "The login QR expired."}, "The login QR expired."),
        ({}, ""),
        (GatewayUnavailable("gone"), "Gateway unavailable – gone"),
        # Which ends nothing else.
        (RuntimeError("a defect"), "Scan."),
    ],
)
async def test_a_code_that_is_void_says_so(
    group: asyncio.TaskGroup, answer: Any, words: str
) -> None:
    made = begun(group, Waiting(answer))
    found = made.latest(BOX, "whatsapp")
    assert found is not None
    await eventually(lambda: found.is_over, "it is void")
    assert made.latest(BOX, "whatsapp") is found
    assert found.message == words


async def test_nobody_waits_for_ever(
    group: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qr_login, "SCAN_TIMEOUT_S", 0.0)
    made = begun(group, Waiting())
    found = made.latest(BOX, "whatsapp")
    assert found is not None
    await eventually(lambda: found.is_over, "it is void")
    assert "in time" in found.message


async def test_a_code_that_is_asked_for_twice_is_waited_for_once(
    group: asyncio.TaskGroup,
) -> None:
    gateway: Any = Waiting()
    made = begun(group, gateway)
    await eventually(lambda: gateway.asked != [], "it waits")
    made.follow(BOX, "whatsapp", gateway, NEXT, "Already active.")
    found = made.latest(BOX, "whatsapp")
    assert found is not None
    assert (found.qr, found.message) == (NEXT, "Already active.")
    await asyncio.sleep(0)
    assert len(gateway.asked) == 1


async def test_what_is_no_picture_is_not_sent_back(group: asyncio.TaskGroup) -> None:
    gateway: Any = Waiting()
    made = QrLogins(group)
    made.follow(BOX, "whatsapp", gateway, "https://elsewhere/", "")
    await eventually(lambda: gateway.asked != [], "it waits")
    assert "currentQrDataUrl" not in gateway.asked[0]


async def test_old_ones_are_forgotten_and_any_at_will(group: asyncio.TaskGroup) -> None:
    gateway: Any = Waiting()
    made = QrLogins(group)
    for number in range(KEPT + 1):
        made.follow(SandboxId(f"box-{number}"), "whatsapp", gateway, QR, "")
    assert made.latest(SandboxId("box-0"), "whatsapp") is None
    assert made.latest(SandboxId("box-1"), "whatsapp") is not None
    made.forget(SandboxId("box-1"), "whatsapp")
    assert made.latest(SandboxId("box-1"), "whatsapp") is None
