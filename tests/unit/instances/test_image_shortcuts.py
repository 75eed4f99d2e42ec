"""Reading from the sandbox image which shortcuts fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.instances.versions import ImageShortcuts
from chowder_local.openclaw.shortcuts import STATE_TRANSFER, TRANSCRIPTS
from tests.scripted.engine import ScriptedEngine
from tests.scripted.shortcuts import REASON, make_unfit

if TYPE_CHECKING:
    from chowder_local.core.errors import ChowderError


async def test_the_image_is_read_once() -> None:
    engine = ScriptedEngine()
    make_unfit(engine, STATE_TRANSFER)
    shortcuts = ImageShortcuts(engine)
    assert [await shortcuts.allow(each) for each in (STATE_TRANSFER, TRANSCRIPTS)] == [False, True]
    assert await shortcuts.misfits() == {STATE_TRANSFER.name: REASON}
    assert engine.made("file_of_image") == 1


@pytest.mark.parametrize("failure", [EngineUnavailable("gone"), ImageMissing("sandbox:1")])
async def test_nothing_is_allowed_until_the_image_can_be_read(failure: ChowderError) -> None:
    engine = ScriptedEngine()
    engine.failing["file_of_image"] = failure
    shortcuts = ImageShortcuts(engine)
    assert not await shortcuts.allow(STATE_TRANSFER)
    del engine.failing["file_of_image"]
    assert await shortcuts.allow(STATE_TRANSFER)
