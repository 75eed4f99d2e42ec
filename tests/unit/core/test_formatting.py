"""Numbers are formatted for people."""

from __future__ import annotations

import pytest

from chowder_local.core.wording import size_of


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_500_000, "2 MB"),
        (9.4e8, "940 MB"),
        (2.5e10, "25.0 GB"),
    ],
)
def test_a_size_has_a_fitting_unit(size: float, text: str) -> None:
    assert size_of(size) == text
