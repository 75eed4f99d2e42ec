"""The files, the log and the snapshots of an agent, by clicking in real Chromium.

What it says is of no interest here, so it is a quick one.
"""

from __future__ import annotations

import tarfile
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import BOOT_TIMEOUT_S, Api
from tests.e2e.containers import container_of, inside
from tests.e2e.dashboards import root, visit_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
BOOT_TIMEOUT_MS = BOOT_TIMEOUT_S * 1000


@pytest.fixture
def page(browser: Browser, quick_server: ServerProcess) -> Iterator[Page]:
    with visit_server(browser, quick_server) as page:
        yield page


@pytest.fixture
def agent(quick_ids: list[str]) -> str:
    return quick_ids[0]


def content(api: Api, instance: str, path: str) -> str:
    answer = api.get(f"instances/{instance}/files/content", params={"path": path})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["content"]
    return text


def put(api: Api, instance: str, path: str, text: str) -> None:
    body = {"path": path, "content": text}
    answer = api.put(f"instances/{instance}/files/content", json=body)
    assert answer.status_code == 204, answer.text


def test_what_an_agent_is_told_to_be_is_edited(
    page: Page,
    quick_server: ServerProcess,
    quick_api: Api,
    agent: str,
    engine: docker.DockerClient,
) -> None:
    was = "Be kind.\n"
    put(quick_api, agent, "workspace/AGENTS.md", was)
    page.goto(f"{root(quick_server)}/instances/{agent}")
    page.get_by_role("link", name="Files").click()
    page.get_by_role("link", name="workspace/").click()
    page.get_by_role("link", name="AGENTS.md", exact=True).click()
    text = page.get_by_label("Content of workspace/AGENTS.md")
    assert text.input_value() == was
    text.fill(f"{was}\n{HOSTILE}\n")
    page.wait_for_load_state()  # A script has the key.
    page.keyboard.press("Control+s")
    page.locator("#notice").get_by_text("workspace/AGENTS.md is saved.").wait_for()
    assert content(quick_api, agent, "workspace/AGENTS.md") == f"{was}\n{HOSTILE}\n"
    # What the agent does to it meanwhile is not lost.
    container = container_of(engine, quick_api, agent)
    assert inside(container, "echo mine >> /data/.openclaw/workspace/AGENTS.md")[0] == 0
    text.fill(was)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("has changed the file since you opened it").wait_for()
    assert content(quick_api, agent, "workspace/AGENTS.md").endswith("\nmine\n")
    page.get_by_label("Save my version anyway").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("has changed the file").wait_for(state="detached")
    assert content(quick_api, agent, "workspace/AGENTS.md") == was
    assert page.title() != "owned"


def test_an_agent_is_made_what_it_was_by_clicking(
    page: Page, quick_server: ServerProcess, quick_api: Api, agent: str
) -> None:
    put(quick_api, agent, "workspace/note.md", "calm")
    name = f"before {HOSTILE} {uuid.uuid4().hex[:8]}"
    page.goto(f"{root(quick_server)}/instances/{agent}/snapshots")
    page.get_by_label("Name of the new snapshot").fill(name)
    page.get_by_role("button", name="Take a snapshot").click()
    page.locator("#notice").get_by_text(f"{name} is taken.").wait_for()
    put(quick_api, agent, "workspace/note.md", "storm")
    # A log goes on when its agent's sandbox is another one.
    other = page.context.new_page()
    other.goto(f"{root(quick_server)}/instances/{agent}/logs")
    log, word = other.locator("#log"), f"w{uuid.uuid4().hex[:8]}"
    quick_api.say(agent, word, session=uuid.uuid4().hex)
    log.get_by_text(word).first.wait_for()
    page.get_by_role("button", name=f"Restore {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    page.locator("#notice").get_by_text("is being restored to").wait_for()
    log.get_by_text(word).first.wait_for(state="detached", timeout=BOOT_TIMEOUT_MS)
    log.get_by_text("[gateway] listens").first.wait_for(timeout=BOOT_TIMEOUT_MS)
    page.locator("#head").get_by_text("running").wait_for(timeout=BOOT_TIMEOUT_MS)
    quick_api.until(agent, "running")
    assert content(quick_api, agent, "workspace/note.md") == "calm"
    # One that is stopped is kept as well, and is no less of an agent as a file.
    quick_api.stop(agent)
    page.locator("#head").get_by_text("stopped").wait_for()
    page.get_by_role("button", name="Take a snapshot").click()
    page.locator("#snapshots").get_by_text("Unnamed").first.wait_for()
    with page.expect_download() as fetched:
        page.get_by_role("link", name="Export").click()
    with tarfile.open(fetched.value.path()) as tar:
        (path,) = (each for each in tar.getnames() if each.endswith("workspace/note.md"))
        note = tar.extractfile(path)
        assert note is not None
        assert note.read() == b"calm"
    assert page.title() != "owned"
    quick_api.start(agent)
