"""Takes screenshots of the dashboard's main pages, with a server and agents of its own.

With names as arguments, only these.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from markdown_it import MarkdownIt

from tests.e2e.api import BOOT_TIMEOUT_S, Api
from tests.e2e.browser import open_browser
from tests.e2e.node import packages_of
from tests.e2e.serving import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, ViewportSize

FOLDER = Path(__file__).parent.parent / "docs/images"
WIDE: ViewportSize = {"width": 1440, "height": 640}
TALL: ViewportSize = {"width": 1440, "height": 860}
NARROW: ViewportSize = {"width": 390, "height": 800}
CHARTS_MS = 40_000
"""The time until the charts have content."""
USUAL = """([base, env]) => {
  document.querySelector("#base-url code").textContent = base;
  document.querySelector("#env-command code").textContent = env;
}"""
MODELS = (
    ("anthropic", "claude-sonnet-4-20250514", True),
    ("openai", "gpt-4o", True),
    ("gemini", "gemini-2.0-flash", True),
    ("openai", "gpt-4o-mini", False),
)
TALKS = {
    "harbour-pilot": ["Which way does the tide turn at noon?"],
    "galley-cook": [
        'Is there salt? call exec {"command": "echo plenty"}',
        "How long does the chowder simmer?",
    ],
    "night-watch": ["Wake me if the lantern goes out."],
}
CHATS: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("Ada", "Is there chowder today?", {"approve": True}),
    ("Grace", "Hi! Who cooks?", {}),
    ("Ada", "Then keep two bowls, please.", {}),
)
"""What people write to the cook in Telegram; Grace waits for somebody's approval."""
JOBS = (
    ("morning stock", "0 6 * * *", "Count what is left."),
    ("weekly order", "30 17 * * 5", "Order what is missing."),
)

SUMMARY = "trials-summary"
STYLES = "github-markdown-css@5.9.0"
"""GitHub's own, as a package has them. The marks need a font such as Noto Color Emoji."""
PAGE = """<style>{styles}</style><body style="margin: 24px"><main class="markdown-body">{content}
</main></body>"""
TESTS = """
import os
import pytest

@pytest.mark.chowder_trials(10, at_least=0.8, isolation="session", seed=7)
def test_the_desk_counts_what_is_left(chowder_common_instance, chowder_session, chowder_trial):
    command = "ls" if chowder_trial.number == 4 else "echo 3 parcels"
    text = f'How many are left? call exec {{"command": "{command}"}}'
    assert "3 parcels" in chowder_common_instance.say(text, chowder_session)

@pytest.mark.chowder_trials(10, isolation="session", seed=7)
def test_an_order_takes_one_message(chowder_common_instance, chowder_session):
    for _ in range(int(os.environ["MESSAGES"])):
        chowder_common_instance.say("I order two parcels.", chowder_session)

@pytest.mark.chowder_trials(4, isolation="session", seed=7)
def test_the_desk_is_polite(chowder_common_instance, chowder_session):
    answer = chowder_common_instance.say("How much is it?", chowder_session)
    assert "please" in answer
"""
"""Tests of which one fails, and one becomes worse from a first run to a second."""


@dataclass(frozen=True)
class Picture:
    """A screenshot of a page; `address` is its path."""

    name: str
    address: str
    size: ViewportSize
    scheme: Literal["light", "dark"]
    prepare: Callable[[Page], None] | None = None
    """An action before the screenshot."""


def overview_seen(page: Page) -> None:
    """Waits for health and charts, which load after the page."""
    timeout_ms = BOOT_TIMEOUT_S * 1000
    page.locator("#findings li").first.wait_for(state="attached", timeout=timeout_ms)
    page.wait_for_timeout(2_500)
    # Commands to paste are shown as for an installed server with default settings.
    page.evaluate(USUAL, ["http://127.0.0.1:2469/v1", 'eval "$(chowder-local env)"'])


def conversation_read(page: Page) -> None:
    """Waits for the conversation, which loads after the page."""
    page.locator("#talk > li").first.wait_for()


def log_printed(page: Page) -> None:
    """Waits for lines, which are streamed."""
    page.locator("#log div").first.wait_for()


def channels_asked(page: Page) -> None:
    """Opens a channel with its fields."""
    page.locator("#open-slack").click()


def skills_listed(page: Page) -> None:
    """Waits for the skills, which load after the page."""
    page.locator("#skill-rows tr").first.wait_for()


def channels_listed(page: Page) -> None:
    """Waits for the connected channels, which load after the page."""
    page.locator("#waiting button").first.wait_for()


def jobs_listed(page: Page) -> None:
    """Waits for the jobs, which load after the page."""
    page.get_by_text(JOBS[0][0]).first.wait_for()


def configuration_refused(page: Page) -> None:
    """Types an invalid configuration and checks it."""
    document = page.locator("#document")
    typed = json.loads(document.input_value())
    typed["agents"]["defaults"] |= {"timeoutSeconds": "soon", "thinkinDefault": "low"}
    document.fill(json.dumps(typed, indent=2))
    page.locator("#check").click()
    page.locator(".refusals").wait_for()


PICTURES = (
    Picture("overview", "/", WIDE, "light", overview_seen),
    Picture("overview-narrow", "/", NARROW, "light", overview_seen),
    Picture("model-calls", "/model-calls", WIDE, "light"),
    Picture("call", "/model-calls/{call}", TALL, "light"),
    Picture("instance", "/instances/{instance}", TALL, "dark", conversation_read),
    Picture("files", "/instances/{instance}/files?path=workspace", WIDE, "light"),
    Picture("file", "/instances/{instance}/files/edit?path=workspace/AGENTS.md", TALL, "light"),
    Picture("logs", "/instances/{instance}/logs", TALL, "dark", log_printed),
    Picture("snapshots", "/instances/{instance}/snapshots", WIDE, "light"),
    Picture("channels", "/instances/{instance}/channels", TALL, "light", channels_asked),
    Picture("messengers", "/instances/{instance}/messengers", TALL, "light", channels_listed),
    Picture("schedule", "/instances/{instance}/schedule", WIDE, "light", jobs_listed),
    Picture("skills", "/instances/{instance}/skills", TALL, "dark", skills_listed),
    Picture("configuration", "/instances/{instance}/config", TALL, "light", configuration_refused),
    Picture("usage", "/usage", TALL, "light"),
    Picture("organization", "/organization", WIDE, "light"),
    Picture("organization-narrow", "/organization", NARROW, "dark"),
    Picture("replies", "/recordings", TALL, "dark"),
    Picture("faults", "/faults", WIDE, "light"),
    Picture("subscription", "/subscription", WIDE, "dark"),
)


def main() -> None:
    """Takes all screenshots, and removes the agents."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "chowder", {"CHOWDER_OFFLINE": "true"})
        server.up()
        try:
            if SUMMARY in (sys.argv[1:] or [SUMMARY]):
                photograph_summary(judge(server))
            if sys.argv[1:] == [SUMMARY]:
                return
            with Api(server.base_url, server.key) as api:
                places = populate(api)
            spend(server.data_dir / "chowder.db")
            photograph(server, places)
        finally:
            server.reset()


def populate(api: Api) -> dict[str, str]:
    """Makes agents, one of them stopped; the values for the addresses of screenshots."""
    made = {name: api.created(name) for name in TALKS}
    for name, instance_id in made.items():
        api.until(instance_id, "running")
        for words in TALKS[name]:
            api.say(instance_id, words)
    api.stop(made["night-watch"])
    cook = made["galley-cook"]
    administer(api, made)
    live_with(api, cook)
    local = api.base_url.join(f"/local/instances/{cook}/model-calls")
    first = api.get(str(local)).json()[-1]
    for name in ("first-broth", "before-the-storm"):
        api.post(str(api.base_url.join(f"/local/instances/{cook}/snapshots")), json={"name": name})
    return {"instance": cook, "call": first["id"]}


def administer(api: Api, made: dict[str, str]) -> None:
    """Makes keys, faults and replies."""
    pilot = made["harbour-pilot"]
    for name, permissions in (("the shop's page", ["read", "interact"]), ("backups", ["files"])):
        key = {"name": name, "instance_ids": [pilot], "permissions": permissions}
        api.post("keys", json=key).raise_for_status()
    rules = [
        {"name": "weather", "match": {"text": "weather"}, "reply": "It is sunny."},
        {"match": {"text": "order"}, "times": 1, "reply": {"error": 429, "retry_after_s": 1}},
    ]
    script = {"replies": rules}
    api.put(str(api.base_url.join("/local/replies")), json=script).raise_for_status()
    api.say(pilot, "How is the weather?", session="deck")
    for fault in (
        {"kind": "message", "status": 429, "times": 3, "instance_id": pilot},
        {"kind": "stream", "after_events": 5},
    ):
        api.post(str(api.base_url.join("/local/faults")), json=fault).raise_for_status()


def live_with(api: Api, instance_id: str) -> None:
    """People write to an agent, and it has jobs."""
    local = str(api.base_url.join(f"/local/instances/{instance_id}"))
    connect = {"config": {"offline": True}}
    api.post(f"instances/{instance_id}/channels/telegram/connect", json=connect).raise_for_status()
    for name, cron, text in JOBS:
        job = {"name": name, "schedule": {"kind": "cron", "cron": cron}, "message": text}
        api.post(f"{local}/jobs", json=job).raise_for_status()
    api.post(f"{local}/clock/advance", json={"to": "next_job"}).raise_for_status()
    # Last, because a pairing code ends an hour later by the agent's clock.
    for person, text, more in CHATS:
        message = {"from": person, "text": text, "wait_s": 60, **more}
        api.post(f"{local}/channels/telegram/messages", json=message).raise_for_status()


def spend(database: Path) -> None:
    """Inserts the usage of a month into the database."""
    today = datetime.now(UTC).date()
    with closing(sqlite3.connect(database)) as file, file:
        ids = [found for (found,) in file.execute("SELECT id FROM instance ORDER BY name")]
        for number, (provider, model, is_billed) in enumerate(MODELS):
            for days in range(30):
                calls = 12 + (days * 7 + number * 11) % 23 - 10 * (days % 7 == number)
                day, instance = today - timedelta(days=days), ids[(days + number) % len(ids)]
                counts = (calls, 0, calls * 16_500, calls * 9_000, 0, 0, calls * 210)
                row = (instance, day.isoformat(), "", provider, model, is_billed, *counts)
                file.execute("INSERT INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", row)


def photograph(server: ServerProcess, places: dict[str, str]) -> None:
    """Visits the page of each picture, in a browser that has waited for the charts."""
    root = server.base_url.removesuffix("/v1")
    command = [*server.command(), "dashboard"]
    link = subprocess.run(command, capture_output=True, text=True, env=server.env, check=True)  # noqa: S603
    with open_browser() as browser, browser.new_context() as context:
        page = context.new_page()
        page.goto(link.stdout.strip())
        page.wait_for_url(f"{root}/")
        page.wait_for_timeout(CHARTS_MS)
        with Api(server.base_url, server.key) as api:
            # It is provisioning in the screenshots.
            api.created("cabin-boy")
        wanted = sys.argv[1:] or [each.name for each in PICTURES]
        for each in PICTURES:
            if each.name in wanted:
                # A new tab, because leaving the first one ends its samples.
                take(context.new_page(), root, each, places)


def judge(server: ServerProcess) -> str:
    """The summary of a pull request whose tests ran before and after a change."""
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary.md"
        (Path(folder) / "test_desk.py").write_text(TESTS)
        command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--chowder-baseline", "a"]
        env = server.env | {"CHOWDER_BASE_URL": server.base_url, "CHOWDER_KEY": server.key}
        for messages in ("1", "3"):
            summary.write_text("")
            more = {"MESSAGES": messages, "GITHUB_STEP_SUMMARY": str(summary)}
            # The second run fails, which is what the summary shows.
            subprocess.run(command, cwd=folder, env=env | more, check=False)  # noqa: S603 - ours
        return summary.read_text()


def photograph_summary(summary: str) -> None:
    """Takes a picture of Markdown as GitHub shows it, with the first details open."""
    styles = (packages_of(STYLES) / "github-markdown-css/github-markdown-light.css").read_text()
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    content = markdown.render(summary.replace("<details>", "<details open>", 1))
    with open_browser() as browser:
        page = browser.new_page(viewport=TALL)
        page.set_content(PAGE.format(styles=styles, content=content))
        page.screenshot(path=FOLDER / f"{SUMMARY}.png")


def take(page: Page, root: str, picture: Picture, places: dict[str, str]) -> None:
    """Takes one screenshot."""
    page.set_viewport_size(picture.size)
    page.emulate_media(color_scheme=picture.scheme)
    page.goto(f"{root}{picture.address.format(**places)}")
    if picture.prepare is not None:
        picture.prepare(page)
    page.screenshot(path=FOLDER / f"{picture.name}.png")
    page.close()


if __name__ == "__main__":
    main()
