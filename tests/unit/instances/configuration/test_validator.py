"""Validating the overrides of new instances."""

from __future__ import annotations

import asyncio
import json

import pytest

from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.sandboxes import EngineUnavailable, ImageMissing
from chowder_local.instances.configuration.initial_config import ConfigValidator
from chowder_local.openclaw.config.edits import SCHEMA_FILE
from tests.scripted.engine import ScriptedEngine

NOTHING_ALLOWED = json.dumps({"type": "object", "additionalProperties": False}).encode()
BAD = {"nonsense": 1}


@pytest.fixture
def engine() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.image_files[SCHEMA_FILE] = NOTHING_ALLOWED
    return engine


async def test_the_schema_is_read_once_and_only_if_needed(
    engine: ScriptedEngine,
) -> None:
    validator = ConfigValidator(engine)
    await validator.check({})
    assert engine.made("file_of_image") == 0
    outcomes = await asyncio.gather(
        *(validator.check(BAD) for _ in range(5)), return_exceptions=True
    )
    assert [type(each) for each in outcomes] == [ConfigRefused] * 5
    assert engine.made("file_of_image") == 1


@pytest.mark.parametrize(
    ("names", "more"), [("abc", ""), ("abcd", " (+1 more issue)"), ("abcdef", " (+3 more issues)")]
)
async def test_as_many_problems_are_listed_as_by_openclaw(
    engine: ScriptedEngine, names: str, more: str
) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    engine.image_files[SCHEMA_FILE] = json.dumps(schema).encode()
    with pytest.raises(ConfigRefused) as refusal:
        await ConfigValidator(engine).check(dict.fromkeys(names, 1))
    message = "; ".join(
        f"{name}: Invalid input: expected string, received number" for name in names[:3]
    )
    assert str(refusal.value) == f"invalid config: {message}{more}"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff"])
async def test_without_a_schema_the_boot_validates(
    engine: ScriptedEngine, content: bytes | None
) -> None:
    del engine.image_files[SCHEMA_FILE]
    if content is not None:
        engine.image_files[SCHEMA_FILE] = content
    validator = ConfigValidator(engine)
    await validator.check(BAD)
    await validator.check(BAD)
    assert engine.made("file_of_image") == 1


async def test_without_the_engine_nothing_is_refused_and_the_schema_is_read_later(
    engine: ScriptedEngine,
) -> None:
    validator = ConfigValidator(engine)
    engine.failing["file_of_image"] = EngineUnavailable("The engine is on holiday.")
    await validator.check(BAD)
    del engine.failing["file_of_image"]
    with pytest.raises(ConfigRefused):
        await validator.check(BAD)


async def test_without_the_image_nothing_is_refused(
    engine: ScriptedEngine,
) -> None:
    engine.failing["file_of_image"] = ImageMissing("mine:1")
    await ConfigValidator(engine).check(BAD)
