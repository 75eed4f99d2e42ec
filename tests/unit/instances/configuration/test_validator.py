"""When the overrides of an instance to come are judged, and by what."""

from __future__ import annotations

import asyncio
import json

import pytest

from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.instances.configuration.validator import ConfigValidator
from chowder_local.openclaw.config.schema import SCHEMA_FILE
from tests.scripted.engine import ScriptedEngine

NOTHING_ALLOWED = json.dumps({"type": "object", "additionalProperties": False}).encode()
BAD = {"nonsense": 1}


@pytest.fixture
def engine() -> ScriptedEngine:
    engine = ScriptedEngine("http://gateway.test")
    engine.image_files[SCHEMA_FILE] = NOTHING_ALLOWED
    return engine


async def test_the_schema_is_read_once_and_only_when_something_is_to_be_judged(
    engine: ScriptedEngine,
) -> None:
    judge = ConfigValidator(engine)
    await judge.check({})
    assert engine.made("file_of_image") == 0
    found = await asyncio.gather(*(judge.check(BAD) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [ConfigRefused] * 5
    assert engine.made("file_of_image") == 1


@pytest.mark.parametrize(
    ("names", "more"), [("abc", ""), ("abcd", " (+1 more issue)"), ("abcdef", " (+3 more issues)")]
)
async def test_as_many_problems_are_told_as_openclaw_tells(
    engine: ScriptedEngine, names: str, more: str
) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    engine.image_files[SCHEMA_FILE] = json.dumps(schema).encode()
    with pytest.raises(ConfigRefused) as refusal:
        await ConfigValidator(engine).check(dict.fromkeys(names, 1))
    told = "; ".join(
        f"{name}: Invalid input: expected string, received number" for name in names[:3]
    )
    assert str(refusal.value) == f"invalid config: {told}{more}"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff"])
async def test_an_image_without_a_schema_leaves_the_judgement_to_the_boot(
    engine: ScriptedEngine, content: bytes | None
) -> None:
    del engine.image_files[SCHEMA_FILE]
    if content is not None:
        engine.image_files[SCHEMA_FILE] = content
    judge = ConfigValidator(engine)
    await judge.check(BAD)
    await judge.check(BAD)
    assert engine.made("file_of_image") == 1


async def test_an_engine_that_is_away_refuses_nothing_and_is_asked_again(
    engine: ScriptedEngine,
) -> None:
    judge = ConfigValidator(engine)
    engine.failing["file_of_image"] = EngineUnavailable("The engine is on holiday.")
    await judge.check(BAD)
    del engine.failing["file_of_image"]
    with pytest.raises(ConfigRefused):
        await judge.check(BAD)


async def test_an_image_that_is_gone_leaves_the_judgement_to_the_boot(
    engine: ScriptedEngine,
) -> None:
    engine.failing["file_of_image"] = ImageMissing("mine:1")
    await ConfigValidator(engine).check(BAD)
