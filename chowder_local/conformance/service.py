"""The service that a run judges, and the variables and markers by which the suite knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

BASE_URL, KEY, TARGET = "CONFORMANCE_BASE_URL", "CONFORMANCE_KEY", "CONFORMANCE_TARGET"
READ_ONLY = "read_only"
OPTIONAL = ("costs", "stays", "slow")
"""Markers of tests that may be left out."""


class Target(StrEnum):
    """What a run judges: which side of the differences it expects."""

    HOSTED = "hosted"
    LOCAL = "local"


@dataclass(frozen=True)
class Service:
    """A service to judge. The key is of an organization."""

    base_url: str
    key: str = field(repr=False)
    target: Target
