"""Numbers of bytes in words."""

from __future__ import annotations

import pytest

from chowder_local.core.formatting import size_of


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_500_000, "2 MB"),
        (9.4e8, "940 MB"),
        (2.5e10, "25.0 GB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(size: float, words: str) -> None:
    assert size_of(size) == words
