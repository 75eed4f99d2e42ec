"""What two sides have changed since they were last seen alike."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import dictionaries, sampled_from

from chowder_local.seeding.three_way import Change, compare

HERE, THERE, BOTH = Change.HERE, Change.THERE, Change.BOTH


@pytest.mark.parametrize(
    ("base", "here", "there", "change"),
    [
        ("a", "a", "a", None),
        ("a", "b", "a", HERE),
        ("a", "a", "b", THERE),
        ("a", "b", "c", BOTH),
        ("a", "b", "b", None),
        ("a", None, "a", HERE),
        ("a", "a", None, THERE),
        ("a", None, None, None),
        ("a", "b", None, BOTH),
        ("a", None, "b", BOTH),
        (None, "a", None, HERE),
        (None, None, "a", THERE),
        (None, "a", "b", BOTH),
        (None, "a", "a", None),
    ],
)
def test_a_change_is_of_the_side_that_is_not_as_it_was(
    base: str | None, here: str | None, there: str | None, change: Change | None
) -> None:
    sides = [{} if each is None else {"x": each} for each in (base, here, there)]
    assert compare(*sides).get("x") is change


SIDES = dictionaries(sampled_from("xyz"), sampled_from("abc"))
OPPOSITE = {HERE: THERE, THERE: HERE, BOTH: BOTH}


# A busy machine draws slowly.
@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(SIDES, SIDES, SIDES)
def test_no_side_loses_a_change_of_its_own_without_a_conflict(
    base: dict[str, str], here: dict[str, str], there: dict[str, str]
) -> None:
    changes = compare(base, here, there)
    mirrored = compare(base, there, here)
    assert {name: OPPOSITE[change] for name, change in changes.items()} == mirrored
    for name in "xyz":
        is_ours, is_theirs = (side.get(name) != base.get(name) for side in (here, there))
        change = changes.get(name)
        assert (change is None) is (here.get(name) == there.get(name))
        if change is not None:
            assert (change is BOTH) is (is_ours and is_theirs)
            assert (change is HERE) is (is_ours and not is_theirs)
    assert compare(base, here, there, ["x"]).keys() == changes.keys() & {"x"}
