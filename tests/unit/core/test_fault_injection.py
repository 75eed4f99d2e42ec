"""Faults: matching, order, use, limits, and isolation of organizations."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.errors.requests import FaultNotFound, FaultsFull
from chowder_local.core.events import Events, EventType
from chowder_local.core.fault_injection import (
    MAX_FAULTS,
    MAX_FAULTS_PER_ORGANIZATION,
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


def test_it_knows_whether_any_fault_is_set(faults: Faults) -> None:
    states = [faults.are_set]
    faults.add(OURS, STOP)
    states.append(faults.are_set)
    assert faults.take(OURS, ANY) == STOP
    assert [*states, faults.are_set] == [False, True, False]


def test_a_fault_is_used_up_after_its_number_of_calls(faults: Faults) -> None:
    faults.add(OURS, START)
    assert [faults.take(OURS, ANY) for _ in range(3)] == [START, START, None]
    assert faults.of_organization(OURS) == []


def test_a_fault_counts_the_calls_that_are_left(faults: Faults) -> None:
    fault = faults.add(OURS, START)
    faults.take(OURS, ANY)
    assert [(each.id, each.left) for each in faults.of_organization(OURS)] == [(fault.id, 1)]


def test_the_oldest_fault_is_used_first(faults: Faults) -> None:
    last = FaultDraft(FaultKind.START, status=500)
    for draft in (STOP, START, last):
        faults.add(OURS, draft)
    assert faults.take(OURS, STARTING) == START
    # A partly used fault keeps its position.
    assert [faults.take(OURS, ANY) for _ in range(3)] == [STOP, START, last]


def test_finding_a_fault_does_not_use_it_up(faults: Faults, events: Events) -> None:
    faults.add(OURS, STOP)
    fault = faults.find(OURS, ANY)
    assert fault is not None
    assert fault.left == 1
    assert faults.find(OURS, STARTING) is None
    assert events.after(0) == []


def test_an_organization_cannot_use_see_or_remove_faults_of_others(faults: Faults) -> None:
    fault = faults.add(OURS, STOP)
    assert faults.of_organization(OTHERS) == []
    assert faults.take(OTHERS, ANY) is None
    with pytest.raises(FaultNotFound):
        faults.remove(OTHERS, fault.id)
    assert faults.clear(OTHERS) == 0
    assert faults.of_organization(OURS) == [fault]


def test_faults_are_removed_one_by_one_or_all_at_once(faults: Faults) -> None:
    first, second, _ = (faults.add(OURS, STOP) for _ in range(3))
    theirs = faults.add(OTHERS, STOP)
    faults.remove(OURS, second.id)
    with pytest.raises(FaultNotFound):
        faults.remove(OURS, second.id)
    assert faults.of_organization(OURS)[0] == first
    assert faults.clear(OURS) == 2
    assert faults.of_organization(OTHERS) == [theirs]
    assert faults.are_set


def test_the_faults_of_an_organization_are_limited(faults: Faults) -> None:
    for _ in range(MAX_FAULTS_PER_ORGANIZATION):
        faults.add(OURS, STOP)
    with pytest.raises(
        FaultsFull, match=f"^An organization .* {MAX_FAULTS_PER_ORGANIZATION} faults"
    ):
        faults.add(OURS, STOP)
    faults.add(OTHERS, STOP)


def test_the_faults_of_all_organizations_are_limited(faults: Faults) -> None:
    for number in range(MAX_FAULTS):
        faults.add(OrganizationId(f"organization-{number // MAX_FAULTS_PER_ORGANIZATION}"), STOP)
    with pytest.raises(FaultsFull, match=f"^The organizations .* {MAX_FAULTS} faults"):
        faults.add(OURS, STOP)


def test_using_a_fault_publishes_an_event(faults: Faults, events: Events) -> None:
    fault = faults.add(OURS, START)
    faults.take(OURS, ANY)
    (event,) = events.after(0)
    assert (event.type, event.organization_id, event.instance_id) == (
        EventType.FAULT_APPLIED, OURS, "i",
    )  # fmt: skip
    assert event.members == {"fault_id": fault.id, "fault": "start", "left": 1}


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
