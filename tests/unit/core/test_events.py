"""Events: visibility, resuming, keepalives, and slow followers."""

from __future__ import annotations

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.events import Event, Events, EventType, Follower

OURS, OTHERS = OrganizationId("ours"), OrganizationId("others")


def publish(events: Events, count: int = 1, organization_id: OrganizationId | None = OURS) -> None:
    for number in range(count):
        events.publish(EventType.BOOT_QUEUED, organization_id, InstanceId("i"), n=number)


async def events_of(follower: Follower) -> list[Event]:
    """All events that a follower gets until it is ended or dropped."""
    return [event async for batch in follower.batches() for event in batch]


async def events_after(events: Events, last_id: str | None = None) -> list[Event]:
    """All events that a new follower gets when the server is closing."""
    events.close()
    with events.follow(OURS, last_id) as follower:
        return await events_of(follower)


async def test_an_event_wakes_a_waiting_follower() -> None:
    events = Events()
    with events.follow(OURS) as follower:
        batches = follower.batches()
        for number in (1, 2):
            publish(events)
            assert [each.number for each in await anext(batches)] == [number]


async def test_events_of_others_do_not_change_the_time_of_keepalives() -> None:
    events = Events(quiet_s=0.05)
    with events.follow(OURS) as follower:
        publish(events, organization_id=OTHERS)
        batches = follower.batches()
        # The keepalive comes first, and on time.
        assert await anext(batches) == []
        publish(events)
        assert len(await anext(batches)) == 1


async def test_a_follower_that_resumes_after_the_last_event_gets_nothing() -> None:
    events = Events()
    publish(events, 5)
    assert await events_after(events, events.id_of(5)) == []


async def test_resuming_just_before_the_oldest_kept_event_misses_nothing() -> None:
    events = Events(capacity=3)
    publish(events, 5)
    assert [each.number for each in await events_after(events, events.id_of(2))] == [3, 4, 5]


async def test_a_follower_that_resumes_too_late_gets_events_missed_and_the_kept_events() -> None:
    events = Events(capacity=3)
    publish(events, 5)
    missed, *rest = await events_after(events, events.id_of(1))
    assert (missed.type, missed.number) == (EventType.EVENTS_MISSED, 2)
    assert [each.number for each in rest] == [3, 4, 5]


@pytest.mark.parametrize(
    "last_id", ["", "7", "-", "x-1", "00000000-1", "x-٣", "x-" + "9" * 5000, "x--1", "\r\n", "é"]
)
async def test_an_id_of_another_run_of_the_server_gets_events_missed_and_all_events(
    last_id: str,
) -> None:
    events = Events()
    publish(events, 2)
    received = await events_after(events, last_id)
    assert received[0].type is EventType.EVENTS_MISSED
    assert [each.number for each in received[1:]] == [1, 2]


@pytest.mark.parametrize("number", ["-1", "x", "", "1.5", "٣", "9" * 5000])
async def test_an_id_with_an_invalid_number_gets_events_missed(number: str) -> None:
    events = Events()
    publish(events, 2)
    received = await events_after(events, events.id_of(0)[:-1] + number)
    assert received[0].type is EventType.EVENTS_MISSED


async def test_an_id_of_a_future_event_gets_the_next_events() -> None:
    events = Events()
    publish(events)
    with events.follow(OURS, events.id_of(99)) as follower:
        publish(events)
        events.close()
        assert [each.number for each in await events_of(follower)] == [2]


async def test_the_number_of_kept_events_is_limited() -> None:
    events = Events(capacity=3)
    publish(events, 1000)
    assert len(events.after(0)) == 3


async def test_a_follower_that_leaves_is_removed() -> None:
    events = Events()
    with events.follow(OURS):
        assert events.follower_count == 1
    assert events.follower_count == 0
