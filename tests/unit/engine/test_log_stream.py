"""Parsing an engine's log stream, split anywhere, and following it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import EngineSilent
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.container_exec import Frames, follow

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = [(1, b"one\n"), (2, b""), (2, b"two\n"), (1, b"\x01\x00\x00\x00" * 1000)]
SENT = b"".join(struct.pack(">BxxxL", output, len(text)) + text for output, text in FRAMES)


@pytest.mark.parametrize("size", [1, 7, len(SENT)])
def test_frames_are_parsed_wherever_they_are_split(size: int) -> None:
    frames = Frames()
    chunks = (SENT[at : at + size] for at in range(0, len(SENT), size))
    output = b"".join(content for chunk in chunks for _, content in frames.feed(chunk))
    assert output == b"".join(text for _, text in FRAMES)


async def test_an_unreachable_engine_is_an_error_before_the_first_line(tmp_path: Path) -> None:
    address = EngineAddress(f"unix://{tmp_path / 'gone.sock'}", "a test")
    with pytest.raises(EngineSilent, match="follow a log"):
        await anext(follow(address, "some", 10, None, timeout_s=5))
