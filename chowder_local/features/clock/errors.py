"""Errors of clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError
from chowder_local.core.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClockRefused(ChowderError):
    """The agent's clock would go back although it may have jobs, is being moved on already, or its
    image has none.
    """

    http_status = 409
    retry = "while the clock is being moved on"
    remedy = (
        "Set a clock that is to start in the past before the agent's first job. To go back, "
        "restore a snapshot from before, or create another agent. End an advance in progress with "
        "`DELETE /local/instances/{instance_id}/clock/advance`."
    )


class AdvanceInterrupted(ChowderError):
    """The instance was stopped, deleted or restored, or failed, while its clock was moved on. The
    answer's `runs` are those so far.
    """

    http_status = 409
    remedy = (
        "Bring the instance back to `running` and advance its clock again: it goes on from where "
        "it has come to."
    )

    def __init__(self, reason: str, runs: Sequence[object]) -> None:
        ran = count_of(len(runs), "run")
        super().__init__(f"The advance of the clock has ended after {ran}: {reason}")
        self.runs = runs
