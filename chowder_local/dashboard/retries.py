"""Whether a model call repeats one that came to nothing (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.relay.call_log import LoggedCall


@dataclass(frozen=True)
class Former:
    """How often OpenClaw has tried before, and the last time that it did."""

    number: int = 0
    call: LoggedCall | None = None


def former_of(call: LoggedCall, turn: Sequence[LoggedCall]) -> Former:
    """What a call repeats; `turn` are all calls of its turn, the latest first.

    A turn goes on after a tool's result, and else because its last call has failed or said
    nothing. What OpenClaw asks on its own meanwhile, such as a summary, is none of either.
    """
    own = [each for each in turn if each.session_key == call.session_key]
    before = own[own.index(call) + 1 :] if call in own else []
    tries = 0
    while tries < len(before) and _came_to_nothing(before[tries]):
        tries += 1
    return Former(tries, before[0]) if tries else Former()


def is_failed(call: LoggedCall) -> bool:
    """Whether it is known to have come to nothing, or was answered with an error."""
    return call.error is not None or (call.status or 0) >= 400


def _came_to_nothing(call: LoggedCall) -> bool:
    if call.outcome is None:
        return False
    if is_failed(call):
        return True
    if not call.is_whole:
        return False
    said = call.output
    return not said.text and not said.calls
