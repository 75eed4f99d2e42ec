"""Faults that are set: found in order, used up, and never anybody else's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.errors.requests import FaultNotFound, FaultsFull
from chowder_local.core.events import Events, EventType
from chowder_local.core.fault_injection import (
    MOST,
    MOST_OF_ONE,
    Call,
    FaultDraft,
    FaultKind,
    Faults,
    matches,
)

OURS, OTHERS = OrganizationId("ours"), OrganizationId("others")
STOP, START = FaultDraft(FaultKind.STOP), FaultDraft(FaultKind.START, times=2)


ANY = Call(set(FaultKind), instance_id=InstanceId("i"))
STARTING = Call({FaultKind.START})


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def faults(events: Events) -> Faults:
    return Faults(events, lambda: datetime(2026, 5, 4, tzinfo=UTC))


def test_without_any_it_says_so(faults: Faults) -> None:
    said = [faults.are_set]
    faults.add(OURS, STOP)
    said.append(faults.are_set)
    assert faults.take(OURS, ANY) == STOP
    assert [*said, faults.are_set] == [False, True, False]


def test_a_fault_is_used_up_by_as_many_calls_as_were_asked_for(faults: Faults) -> None:
    faults.add(OURS, START)
    assert [faults.take(OURS, ANY) for _ in range(3)] == [START, START, None]
    assert faults.of(OURS) == []


def test_what_is_left_of_a_fault_is_told(faults: Faults) -> None:
    fault = faults.add(OURS, START)
    faults.take(OURS, ANY)
    assert [(each.id, each.left) for each in faults.of(OURS)] == [(fault.id, 1)]


def test_the_one_that_was_set_first_comes_first(faults: Faults) -> None:
    last = FaultDraft(FaultKind.START, status=500)
    for draft in (STOP, START, last):
        faults.add(OURS, draft)
    assert faults.take(OURS, STARTING) == START
    # A fault that is used in part keeps its place.
    assert [faults.take(OURS, ANY) for _ in range(3)] == [STOP, START, last]


def test_to_look_for_one_uses_nothing_up(faults: Faults, events: Events) -> None:
    faults.add(OURS, STOP)
    found = faults.find(OURS, ANY)
    assert found is not None
    assert found.left == 1
    assert faults.find(OURS, STARTING) is None
    assert events.after(0) == []


def test_a_fault_is_its_organizations_alone(faults: Faults) -> None:
    fault = faults.add(OURS, STOP)
    assert faults.of(OTHERS) == []
    assert faults.take(OTHERS, ANY) is None
    with pytest.raises(FaultNotFound):
        faults.remove(OTHERS, fault.id)
    assert faults.clear(OTHERS) == 0
    assert faults.of(OURS) == [fault]


def test_faults_are_taken_back_one_by_one_or_all_at_once(faults: Faults) -> None:
    first, second, _ = (faults.add(OURS, STOP) for _ in range(3))
    theirs = faults.add(OTHERS, STOP)
    faults.remove(OURS, second.id)
    with pytest.raises(FaultNotFound):
        faults.remove(OURS, second.id)
    assert faults.of(OURS)[0] == first
    assert faults.clear(OURS) == 2
    assert faults.of(OTHERS) == [theirs]
    assert faults.are_set


def test_an_organization_has_no_more_faults_than_it_may(faults: Faults) -> None:
    for _ in range(MOST_OF_ONE):
        faults.add(OURS, STOP)
    with pytest.raises(FaultsFull, match=f"may have {MOST_OF_ONE} at once"):
        faults.add(OURS, STOP)
    faults.add(OTHERS, STOP)


def test_all_of_them_together_have_no_more_than_fit(faults: Faults) -> None:
    for number in range(MOST):
        faults.add(OrganizationId(f"organization-{number // MOST_OF_ONE}"), STOP)
    with pytest.raises(FaultsFull):
        faults.add(OURS, STOP)


def test_a_fault_that_is_applied_is_told_as_an_event(faults: Faults, events: Events) -> None:
    fault = faults.add(OURS, START)
    faults.take(OURS, ANY)
    (event,) = events.after(0)
    assert (event.type, event.organization_id, event.instance_id) == (
        EventType.FAULT_APPLIED, OURS, "i",
    )  # fmt: skip
    assert event.more == {"fault_id": fault.id, "fault": "start", "left": 1}


FILES = Call({FaultKind.CALL}, "GET", "/v1/instances/{instance_id}/files", InstanceId("i"))


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (FaultDraft(FaultKind.CALL), True),
        (FaultDraft(FaultKind.STOP), False),
        (FaultDraft(FaultKind.CALL, method="GET", path="/v1/instances/{instance_id}/files"), True),
        (FaultDraft(FaultKind.CALL, method="PUT", path="*"), False),
        (FaultDraft(FaultKind.CALL, path="*/files"), True),
        (FaultDraft(FaultKind.CALL, path="/v1/keys*"), False),
        (FaultDraft(FaultKind.CALL, instance_id=InstanceId("i")), True),
        (FaultDraft(FaultKind.CALL, instance_id=InstanceId("other")), False),
    ],
)
def test_a_fault_matches_by_kind_instance_method_and_path(
    draft: FaultDraft, expected: bool
) -> None:
    assert matches(draft, FILES) is expected
