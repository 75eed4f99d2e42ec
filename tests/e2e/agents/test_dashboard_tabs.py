"""Channels, skills and configuration of a real agent, by clicking."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.config.edits import HIDDEN
from tests.e2e.api import BOOT_TIMEOUT_S, Api
from tests.e2e.bots import TOKEN, BotApi
from tests.e2e.containers import config_of, container_of
from tests.e2e.dashboards import refuse, root, visit_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

LONG_MS = BOOT_TIMEOUT_S * 1000
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    with visit_server(browser, server) as page:
        page.set_default_timeout(LONG_MS)
        yield page


@pytest.fixture
def agent(patient: str) -> str:
    return patient


@pytest.fixture
def pages(server: ServerProcess, agent: str) -> str:
    """Where the agent's pages are."""
    return f"{root(server)}/instances/{agent}"


@pytest.fixture
def bots() -> Iterator[BotApi]:
    with BotApi() as bots:
        yield bots


def config(engine: docker.DockerClient, api: Api, agent: str) -> Any:
    return config_of(container_of(engine, api, agent))


def save(page: Page, words: str = "Saved") -> None:
    """Returns once this very save has come to that."""
    page.evaluate("document.getElementById('verdict').replaceChildren()")
    page.get_by_role("button", name="Save").click()
    page.locator("#verdict").get_by_text(words).wait_for()


def test_telegram_is_connected_disconnected_and_connected_again(
    page: Page, pages: str, api: Api, agent: str, bots: BotApi, server: ServerProcess
) -> None:
    # Where the bots are is no field of the contract's, but it is one of the configuration.
    overrides = {"channels.telegram": {"apiRoot": bots.url, "enabled": False}}
    answer = api.patch(f"instances/{agent}", json={"openclaw_config": overrides})
    assert answer.status_code == 200, answer.text
    page.goto(f"{pages}/channels")
    page.locator("#open-telegram").click()
    page.locator("#telegram-token").fill(TOKEN)
    page.locator("#connect-telegram").click()
    page.locator("#mark-telegram").get_by_text("connected", exact=True).wait_for()
    assert TOKEN not in page.content()

    page.get_by_role("button", name="Disconnect Telegram").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Disconnect Telegram").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    page.locator("#mark-telegram").get_by_text("switched off").wait_for()
    # The credentials are kept.
    page.get_by_role("button", name="Connect again Telegram").click()
    page.locator("#mark-telegram").get_by_text("connected", exact=True).wait_for()
    page.get_by_role("button", name="Disconnect Telegram").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    page.locator("#mark-telegram").get_by_text("switched off").wait_for()
    assert TOKEN not in server.log()


def test_a_skill_is_disabled_and_enabled(page: Page, pages: str, api: Api, agent: str) -> None:
    def is_ready() -> bool:
        return bool(api.get(f"instances/{agent}/skills/weather").json()["ready"])

    page.goto(f"{pages}/skills")
    page.get_by_label("Search the skills").fill("weather")
    page.get_by_role("button", name="Disable weather").click()
    page.locator("#notice").get_by_text("weather is disabled.").wait_for()
    assert not is_ready()
    page.get_by_role("button", name="Enable weather").click()
    page.locator("#notice").get_by_text("weather is enabled.").wait_for()
    assert is_ready()


def test_a_hostile_skill_is_text_and_is_given_what_it_needs(
    page: Page, pages: str, server: ServerProcess, write_skill: Callable[[str, str], None]
) -> None:
    name = f"skill-{secrets.token_hex(4)}"
    needs = json.dumps({"openclaw": {"requires": {"env": ["PAGER_KEY", "PAGER_ROOM"]},
                                     "primaryEnv": "PAGER_KEY"}})  # fmt: skip
    described = json.dumps(HOSTILE)
    write_skill(name, f"---\nname: {name}\ndescription: {described}\nmetadata: {needs}\n---\n")
    page.goto(f"{pages}/skills")
    page.locator("#skill-rows").get_by_text(HOSTILE).wait_for()
    page.get_by_role("link", name=name).click()
    page.get_by_text(HOSTILE).wait_for()
    page.get_by_label("API key").fill("planted-key-7")
    page.get_by_label("PAGER_ROOM").fill("planted-room-7")
    page.get_by_role("button", name="Save").click()
    page.locator("#sheet").get_by_text("ready", exact=True).wait_for()
    assert "planted" not in page.content()
    page.goto(f"{pages}/config")
    page.locator("#document").wait_for()
    # Not there either, whatever OpenClaw takes for a secret.
    assert "planted" not in page.content()
    page.go_back()
    page.get_by_role("button", name="Remove env.PAGER_ROOM").click()
    page.locator("#sheet").get_by_text("lacking").wait_for()
    assert "owned" not in page.title()
    assert "planted" not in server.log()


def test_a_skill_is_installed_and_a_clawhub_that_fails_is_told(
    page: Page, pages: str, clawhub: Any
) -> None:
    slug = f"skill-{secrets.token_hex(4)}"
    clawhub.skills[slug] = f"---\nname: {slug}\ndescription: Juggles.\n---\n"
    page.goto(f"{pages}/skills")
    page.locator("#skill-rows tr").first.wait_for()
    page.get_by_label("Name of a skill on ClawHub").fill(slug)
    with clawhub.gone():
        refuse(page, 502)
        page.get_by_role("button", name="Install").click()
        page.get_by_role("alert").get_by_text("ClawHub is unavailable.").wait_for()
    page.get_by_role("button", name="Install").click()
    page.locator("#notice").get_by_text("Installed").wait_for()
    page.locator("#skill-rows").get_by_role("link", name=slug).wait_for()


def test_a_configuration_is_refused_and_then_taken(
    page: Page, pages: str, api: Api, agent: str, engine: docker.DockerClient
) -> None:
    before = config(engine, api, agent)
    assert before["gateway"]["auth"]["token"]
    page.goto(f"{pages}/config")
    document = page.locator("#document")
    shown = json.loads(document.input_value())
    for secret in (before["gateway"]["auth"]["token"], TOKEN):
        assert secret not in page.content()
    wrong = json.loads(document.input_value())
    wrong["agents"]["defaults"] |= {"nonsense": 1, "thinkingDefault": "low"}
    typed = json.dumps(wrong, indent=2)
    document.fill(typed)
    save(page, 'Unrecognized key: "nonsense"')
    assert document.input_value() == typed
    page.locator("#verdict").get_by_role("button").first.click()
    selected = "(f => f.value.slice(f.selectionStart, f.selectionEnd))(document.activeElement)"
    assert "nonsense" in page.evaluate(selected)
    assert config(engine, api, agent) == before

    del wrong["agents"]["defaults"]["nonsense"]
    document.fill(json.dumps(wrong))
    page.get_by_role("button", name="Validate").click()
    page.get_by_text("No restart is needed.").wait_for()
    assert config(engine, api, agent) == before
    save(page, "Saved and applied.")
    after = config(engine, api, agent)
    assert after["agents"]["defaults"]["thinkingDefault"] == "low"
    assert after["gateway"] == before["gateway"]
    assert after.get("channels") == before.get("channels")
    assert after["models"] == before["models"]

    document.fill(json.dumps(shown))
    save(page, "Saved and applied.")
    assert config(engine, api, agent)["agents"] == before["agents"]


def test_a_hidden_value_stays_is_replaced_and_is_removed(
    page: Page, pages: str, api: Api, agent: str, engine: docker.DockerClient
) -> None:
    provider = {
        "api": "openai-completions",
        "baseUrl": "http://127.0.0.1:9/v1",
        "apiKey": "planted-one",
        "models": [],
    }
    overrides = {"models.providers.mine": provider}
    answer = api.patch(f"instances/{agent}", json={"openclaw_config": overrides})
    assert answer.status_code == 200, answer.text
    page.goto(f"{pages}/config")
    document = page.locator("#document")

    def saved(**changes: Any) -> Any:
        edited = json.loads(document.input_value())
        edited["models"]["providers"]["mine"] |= changes
        document.fill(json.dumps(edited, indent=2))
        save(page)
        return config(engine, api, agent)["models"]["providers"]["mine"]

    assert json.loads(document.input_value())["models"]["providers"]["mine"]["apiKey"] == HIDDEN
    assert saved(baseUrl="http://127.0.0.1:10/v1")["apiKey"] == "planted-one"
    assert saved(apiKey="planted-two")["apiKey"] == "planted-two"
    assert "planted" not in page.content()
    edited = json.loads(document.input_value())
    del edited["models"]
    document.fill(json.dumps(edited))
    save(page)
    # What was not shown is still there.
    left = config(engine, api, agent)["models"]["providers"]
    assert "mine" not in left
    assert all(name.startswith("chowder-") for name in left)


def test_a_stopped_agent_is_started_from_its_tabs(
    page: Page, pages: str, api: Api, agent: str
) -> None:
    api.stop(agent)
    for tab, words in (("channels", "channels"), ("skills", "skills"), ("config", "configuration")):
        page.goto(f"{pages}/{tab}")
        page.get_by_text(f"Start it to see and change its {words}.").wait_for()
    page.get_by_role("button", name=re.compile("^Start ")).click()
    page.locator("#document").wait_for()
