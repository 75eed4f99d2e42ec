"""A real browser, and a page in it that is served from another port than the API."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

# The names in scripts/environment, which brings the first where it may.
BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FOREIGN_DOMAIN = "elsewhere.test"
"""A domain that is on this machine only in that browser's eyes."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window; without one the tests fail."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found is not None, "there is no Chromium here; scripts/environment dev brings it"
    rules = f"--host-resolver-rules=MAP *.{FOREIGN_DOMAIN} 127.0.0.1"
    # Chromium refuses to be root's otherwise.
    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[rules, *unboxed])
        yield browser
        browser.close()


@dataclass(frozen=True)
class SharedBrowser:
    """A browser of a whole run that is set aside between the tests that use it.

    Playwright leaves its event loop marked as the thread's running one: beside an open browser
    that is not set aside, no test could run a loop of its own.
    """

    browser: Browser
    loop: asyncio.AbstractEventLoop

    @contextmanager
    def in_use(self) -> Iterator[Browser]:
        asyncio._set_running_loop(self.loop)
        try:
            yield self.browser
        finally:
            asyncio._set_running_loop(None)


@contextmanager
def shared_browser() -> Iterator[SharedBrowser]:
    """A browser, set aside."""
    with open_browser() as browser:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        try:
            yield SharedBrowser(browser, loop)
        finally:
            asyncio._set_running_loop(loop)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """A folder's files on a port of the loopback."""
    handler = partial(Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, name="pages")
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


class Silent(SimpleHTTPRequestHandler):
    """Serves files and says nothing about it."""

    def log_message(self, *_: object) -> None:
        pass
