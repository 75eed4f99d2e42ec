"""Which shortcuts fit, as a test says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION
from chowder_local.openclaw.shortcuts import OBSERVATIONS_FILE
from tests.scripted.engine import OBSERVATIONS

if TYPE_CHECKING:
    from chowder_local.openclaw.shortcuts import MayTake, Shortcut
    from tests.scripted.engine import ScriptedEngine

REASON = "it was renamed"


async def all_fit(_: Shortcut, __: str = DEFAULT_VERSION) -> bool:
    return True


def all_but(*unfit: Shortcut) -> MayTake:
    """All shortcuts fit except these."""

    async def allows(shortcut: Shortcut, _: str = DEFAULT_VERSION) -> bool:
        return shortcut not in unfit

    return allows


def make_unfit(engine: ScriptedEngine, *shortcuts: Shortcut) -> None:
    """Makes the engine's image one whose OpenClaw these shortcuts do not fit."""
    seen = json.loads(OBSERVATIONS)
    seen["unfit"] = {each.name: REASON for each in shortcuts}
    engine.image_files[OBSERVATIONS_FILE] = json.dumps(seen).encode()
