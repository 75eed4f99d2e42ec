"""Faults: matching, order, use, limits, and isolation of organizations."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.errors.requests import FaultsFull
from chowder_local.core.events import Events
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


def test_finding_a_fault_does_not_use_it_up(faults: Faults, events: Events) -> None:
    faults.add(OURS, STOP)
    fault = faults.find(OURS, ANY)
    assert fault is not None
    assert fault.left == 1
    assert faults.find(OURS, STARTING) is None
    assert events.after(0) == []


def test_the_faults_of_all_organizations_are_limited(faults: Faults) -> None:
    for number in range(MAX_FAULTS):
        faults.add(OrganizationId(f"organization-{number // MAX_FAULTS_PER_ORGANIZATION}"), STOP)
    with pytest.raises(FaultsFull, match=f"^The organizations .* {MAX_FAULTS} faults"):
        faults.add(OURS, STOP)


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
