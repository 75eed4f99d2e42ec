"""axe-core in a page: what keeps people out who see, hear or move otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.node import node_modules

if TYPE_CHECKING:
    from playwright.sync_api import Page

CONTRAST = "color-contrast"
"""The rule that depends on whether a page is light or dark; no other one does."""
RUN = """async (only) => (await axe.run(only ? { runOnly: [only] } : {})).violations.map(
    (each) => `${each.id}: ${each.nodes.map((node) => node.html + node.failureSummary).join(' | ')}`
)"""


def violations(page: Page, only: str = "") -> list[str]:
    """What axe-core finds wrong, by all of its rules or by one."""
    if page.evaluate("typeof axe === 'undefined'"):
        program = node_modules() / "axe-core" / "axe.min.js"
        # Past the page's policy, which would let no other script in.
        page.evaluate(program.read_text())
    found: list[str] = page.evaluate(RUN, only)
    return found
