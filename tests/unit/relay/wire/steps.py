"""The bytes of an offline answer without steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.relay.wire.conversation import StreamStep


def as_bytes(steps: Iterable[bytes | StreamStep]) -> bytes:
    made = list(steps)
    data = [step for step in made if isinstance(step, bytes)]
    assert len(data) == len(made), "something interrupts it"
    return b"".join(data)
