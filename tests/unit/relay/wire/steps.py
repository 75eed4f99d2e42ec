"""An answer of the offline model that nothing interrupts, as its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.relay.wire.reply import StreamStep


def as_bytes(steps: Iterable[bytes | StreamStep]) -> bytes:
    """The whole of it."""
    made = list(steps)
    data = [step for step in made if isinstance(step, bytes)]
    assert len(data) == len(made), "something interrupts it"
    return b"".join(data)
