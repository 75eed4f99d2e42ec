"""Judges what tests observe by the entries of the differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import jsonschema_rs

from chowder_local.conformance.drift import Drift
from chowder_local.conformance.service import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.api.openapi.differences import Difference

Observed = TypeVar("Observed")


@dataclass(eq=False, repr=False)
class Judge:
    """Compares observations with what the differences say of the target."""

    target: Target
    differences: Mapping[str, Difference]

    def __post_init__(self) -> None:
        self._known: list[Drift] = []

    def __call__(self, entry_id: str, observed: Observed) -> Observed:
        """Returns what was observed.

        Fails if it is not what is expected of the target. A hosted service that does what we do
        has a known drift, with which the test goes on.
        """
        entry = self.differences[entry_id]
        if entry.expect is None:
            raise ValueError(f"{entry_id} has no expectation.")
        here, hosted = entry.expect.here, entry.expect.hosted
        is_hosted = self.target is Target.HOSTED
        expected = hosted if is_hosted else here
        if jsonschema_rs.is_valid(expected, observed):
            return observed
        is_known = is_hosted and jsonschema_rs.is_valid(here, observed)
        drift = Drift(
            ", ".join(entry.operations) or entry.topic,
            entry.hosted if is_hosted else entry.here,
            f"{observed!r}",
            entry_id if is_known else None,
        )
        if not is_known:
            raise drift
        self._known.append(drift)
        return observed

    def take_known(self) -> list[Drift]:
        """The known drifts since the last call."""
        known, self._known = self._known, []
        return known
