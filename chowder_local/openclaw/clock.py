"""An agent's clock in its sandbox; `docker/sandbox/native` is the other end."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chowder_local.core.domain import AgentClock

CLOCK_FILE = "chowder-clock"
"""The record that every program in a sandbox maps; its path in the state folder."""
CLOCK_HEADER = "X-Chowder-Clock"
"""What `docker/sandbox/clock.cjs` looks for."""
_RECORD = struct.Struct("<16xqq16xq8x")
_NS_OF_MS = 1_000_000


def record_of(clock: AgentClock) -> bytes:
    """The record's content before a boot."""
    # A seed of 0 is none.
    seed = 0 if clock.seed is None else clock.seed + 1
    return _RECORD.pack(clock.offset_ms * _NS_OF_MS, (clock.frozen_ms or 0) * _NS_OF_MS, seed)


def header_of(clock: AgentClock) -> str:
    """The header's value that sets the clock of a running sandbox."""
    frozen_ms, seed = clock.frozen_ms or 0, "-" if clock.seed is None else clock.seed
    return f"{clock.offset_ms * _NS_OF_MS} {frozen_ms * _NS_OF_MS} {seed}"
