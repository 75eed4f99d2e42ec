"""The dashboard in a browser: visits to it, and a server whose engine is scripted to visit."""

from __future__ import annotations

import re
import subprocess
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import httpx
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Error

from chowder_local.core.domain import Instance, SandboxUsage
from tests.api.conftest import app_of
from tests.e2e.api import BOOT_TIMEOUT_S
from tests.e2e.axe import CONTRAST, violations
from tests.scripted.serving import serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal
    from playwright.sync_api import Browser, Locator, Page, Response, ViewportSize

    from chowder_local.accounts.keys import DashboardSessions
    from tests.e2e.serving import ServerProcess

BOOT_TIMEOUT_MS = BOOT_TIMEOUT_S * 1000
NARROW: ViewportSize = {"width": 360, "height": 740}
WIDE: ViewportSize = {"width": 1440, "height": 900}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
LOOKS: tuple[tuple[ViewportSize, Scheme, str], ...] = (
    (NARROW, "dark", ""),
    (NARROW, "light", CONTRAST),
    (WIDE, "dark", CONTRAST),
    (WIDE, "light", ""),
)
"""Each size in each scheme, and by which rule it is judged, if not by all."""
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Chromium breaks a connection off if the engine makes an interface meanwhile: no page's doing."""
BROKEN_OFF = re.compile(
    rf'{NETWORK_CHANGED}|chrome-error://|to "(.+)" is interrupted by another navigation to "\1"'
)
"""The page that says so may come late, and take the place of the next one, or load it anew."""
LOADS_MAX = 3
_PROVOKED: WeakKeyDictionary[Page, list[tuple[str, bool]]] = WeakKeyDictionary()


class Served:
    """A world, and where its server is; it lives in another thread."""

    def __init__(self, portal: BlockingPortal, world: World, root_url: str) -> None:
        self.portal = portal
        self.world = world
        self.root_url = root_url

    def call(self, function: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        async def run() -> Any:
            return await function(*arguments, **named)

        return self.portal.call(run)

    @property
    def dashboard_sessions(self) -> DashboardSessions:
        return self.world.dashboard_sessions

    def created(self, name: str) -> Instance:
        instance: Instance = self.call(self.world.created, name=name)
        return instance

    def read(self, instance: Instance) -> None:
        """Has an agent take what agents take."""
        usage = SandboxUsage(600_000_000, 2_000_000_000, 1.0, 1.0)
        self.world.engine.usages = {instance.sandbox_id: usage}
        self.call(self.world.usage_samples.read)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[World, str]]:
    async with open_world(folder) as world, serve(app_of(world)) as url:
        yield world, url


@contextmanager
def served_in_thread(folder: Path) -> Iterator[Served]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opened(folder)) as (world, url),
    ):
        yield Served(portal, world, url)


@contextmanager
def visit(browser: Browser, served: Served) -> Iterator[Page]:
    """A page of somebody who is signed in; what the browser complains of fails the test."""
    with heard(browser) as page:
        session = served.call(served.dashboard_sessions.begin, served.world.key)
        page.context.add_cookies(
            [{"name": served.dashboard_sessions.cookie, "value": session, "url": served.root_url}]
        )
        yield page


@contextmanager
def heard(browser: Browser) -> Iterator[Page]:
    """A page of its own. An error in its console, or in that of another one which is opened beside
    it, fails the test, but for those that the test provokes."""
    # What turns would be drawn anew sixty times a second.
    with browser.new_context(viewport=WIDE, reduced_motion="reduce") as context:
        page = context.new_page()
        for name in ("goto", "reload"):
            setattr(page, name, _again_if_broken_off(getattr(page, name)))
        complaints: list[str] = []
        context.on("console", lambda told: complaints.extend([told.text] * (told.type == "error")))
        context.on("weberror", lambda failure: complaints.append(str(failure.error)))
        _PROVOKED[page] = []
        yield page
        complaints[:] = [each for each in complaints if NETWORK_CHANGED not in each]
        for part, is_certain in _PROVOKED[page]:
            has_come = any(part in each for each in complaints)
            assert has_come or not is_certain, f"nothing of {part!r}: {complaints}"
            complaints[:] = [each for each in complaints if part not in each]
        assert not complaints, complaints


def _again_if_broken_off(load: Callable[..., Response | None]) -> Callable[..., Response | None]:
    """Loads a page anew if Chromium breaks that off."""

    def load_patiently(*args: Any, **options: Any) -> Response | None:
        for _ in range(1, LOADS_MAX):
            try:
                return load(*args, **options)
            except Error as broken:
                if not BROKEN_OFF.search(broken.message):
                    raise
        return load(*args, **options)

    return load_patiently


def provoke(page: Page, part: str, *, is_certain: bool = True) -> None:
    """Says that the test makes the browser itself complain so, from which no page can keep it."""
    _PROVOKED[page].append((part, is_certain))


def refuse(page: Page, status: int) -> None:
    """Says that a request of the page is to be answered with that status."""
    provoke(page, f"the server responded with a status of {status}")


def judge(page: Page, only: str = "") -> None:
    """Fails if something sticks out, or axe-core finds something, by all rules or by one."""
    sizes = page.evaluate(
        "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.documentElement)"
    )
    assert sizes[0] <= sizes[1], f"{page.url} sticks out"
    found = violations(page, only)
    assert not found, f"{page.url}: {found}"


def judge_in_all_looks(page: Page) -> None:
    """Judges what is shown wide and narrow, light and dark; leaves it wide and light.

    Every rule meets each size and each scheme, and contrasts all four looks.
    """
    for size, scheme, only in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        judge(page, only)


def open_all(page: Page) -> None:
    """Opens whatever there is to open."""
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")


@contextmanager
def visit_server(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A page of somebody who is signed in at a server of a real engine."""
    signed_in = httpx.post(
        f"{root(server)}/sign-in", data={"key": server.key}, headers={"Origin": root(server)}
    )
    ((name, value),) = signed_in.cookies.items()
    with heard(browser) as page:
        page.context.add_cookies([{"name": name, "value": value, "url": root(server)}])
        yield page


def root(server: ServerProcess) -> str:
    """Where a server of a real engine has its pages."""
    return server.base_url.removesuffix("/v1")


def sign_in_link(server: ServerProcess) -> str:
    """A link that signs in there."""
    command = [*server.command(), "dashboard"]
    done = subprocess.run(command, capture_output=True, text=True, env=server.env, check=True)
    return done.stdout.strip()


def line(page: Page, name: str) -> Locator:
    """The instance's line of the list."""
    named = page.locator(".name", has=page.get_by_text(name, exact=True))
    return page.locator("#rows tr", has=named)


def until(page: Page, name: str, status: str) -> None:
    """Returns once the list says that of the instance."""
    line(page, name).and_(page.locator(f"[data-status={status}]")).wait_for(timeout=BOOT_TIMEOUT_MS)
