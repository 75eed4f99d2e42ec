"""The files, the log and the snapshots of an agent, by clicking in real Chromium.

What it says is of no interest here, so it is a quick one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.containers import container_of, inside
from tests.e2e.dashboards import root, visit_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


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
