"""The numbers of OpenClaw's releases."""

from __future__ import annotations

import pytest

from chowder_local.core.domain import is_release, release_order

IN_ORDER = [
    "2026.8.2", "2026.9.1-beta.1", "2026.9.1", "2026.9.1-2", "2026.9.6", "2026.10.1", "2027.1.1",
]  # fmt: skip


def test_releases_are_ordered_by_number_and_betas_come_first() -> None:
    shuffled = [*IN_ORDER[3:], *IN_ORDER[:3]]
    assert sorted(shuffled, key=release_order) == IN_ORDER


@pytest.mark.parametrize(
    "text", ["v1", "", "latest", "2026.9", "2026.9.6\n", "2026.9.6-" + "a" * 99]
)
def test_other_texts_are_no_releases(text: str) -> None:
    assert not is_release(text)
    with pytest.raises(ValueError, match="no release"):
        release_order(text)
