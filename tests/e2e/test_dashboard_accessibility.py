"""The dashboard's first pages in real Chromium, for whoever sees, moves or reads otherwise.

What is behind them is real but for the engine, which is scripted: agents here only have states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from tests.e2e.dashboards import Served, judge_in_all_looks, refuse

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_overview_and_the_sign_in_are_in_nobodys_way(page: Page, served: Served) -> None:
    ada = served.created("Ada" * 40)
    served.read(ada)
    error = served.call(
        served.world.placed, InstanceStatus.ERROR, name="Bea", error_message="x" * 200
    )
    served.call(served.world.placed, InstanceStatus.PROVISIONING, 2)
    page.goto(f"{served.root_url}/")
    page.locator(f"#instance-{error.id}").wait_for()
    page.get_by_text("Passed checks").click()
    page.locator("#findings li").first.wait_for()
    judge_in_all_looks(page)
    page.locator(f"#delete-{ada.id}").click()
    page.get_by_role("dialog").wait_for()
    judge_in_all_looks(page)
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("is deleted.").wait_for()
    judge_in_all_looks(page)
    refuse(page, 404)
    page.goto(f"{served.root_url}/nowhere")
    judge_in_all_looks(page)
    page.context.clear_cookies()
    page.goto(f"{served.root_url}/")
    page.get_by_label("Your organization's key").fill("chd_org_wrong")
    refuse(page, 401)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").get_by_text("Invalid API key.").wait_for()
    judge_in_all_looks(page)
    page.get_by_label("Your organization's key").fill(served.world.key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Instances").wait_for()
