"""Events: whose they are, where one who follows begins, and that nobody is waited for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chowder_local.core.domain import InstanceId, OrganizationId
from chowder_local.core.events import Event, Events, EventType, Follower

README = Path(__file__).parents[3] / "README.md"
OURS, OTHERS = OrganizationId("ours"), OrganizationId("others")


def publish(events: Events, count: int = 1, organization_id: OrganizationId | None = OURS) -> None:
    for number in range(count):
        events.publish(EventType.BOOT_QUEUED, organization_id, InstanceId("i"), n=number)


async def told(follower: Follower) -> list[Event]:
    """All that one is told until it is ended or dropped."""
    return [event async for batch in follower.batches() for event in batch]


async def all_told(events: Events, last_id: str | None = None) -> list[Event]:
    """What is told to who comes when the server is about to end."""
    events.close()
    with events.follow(OURS, last_id) as follower:
        return await told(follower)


async def test_who_follows_is_told_what_happens_from_now_on() -> None:
    events = Events()
    publish(events)
    with events.follow(OURS) as follower:
        publish(events, 2)
        events.close()
        assert [each.number for each in await told(follower)] == [2, 3]


async def test_an_event_waits_for_nobody_and_wakes_who_waits() -> None:
    events = Events()
    with events.follow(OURS) as follower:
        batches = follower.batches()
        for number in (1, 2):
            publish(events)
            assert [each.number for each in await anext(batches)] == [number]


async def test_an_organization_sees_its_own_events_and_nobodys() -> None:
    events = Events()
    with events.follow(OURS) as follower:
        publish(events, organization_id=OTHERS)
        publish(events, organization_id=OURS)
        publish(events, organization_id=None)
        events.close()
        assert [each.organization_id for each in await told(follower)] == [OURS, None]


async def test_what_others_do_is_not_even_to_be_seen_from_when_bytes_come() -> None:
    events = Events(quiet_s=0.05)
    with events.follow(OURS) as follower:
        publish(events, organization_id=OTHERS)
        batches = follower.batches()
        # The sign of life comes in its own time, and is the first that comes.
        assert await anext(batches) == []
        publish(events)
        assert len(await anext(batches)) == 1


async def test_who_comes_back_gets_what_it_missed() -> None:
    events = Events()
    publish(events, 5)
    assert [each.number for each in await all_told(events, events.id_of(3))] == [4, 5]


async def test_who_has_seen_the_last_one_gets_nothing() -> None:
    events = Events()
    publish(events, 5)
    assert await all_told(events, events.id_of(5)) == []


async def test_a_kept_event_is_not_called_missed_at_the_edge_of_the_list() -> None:
    events = Events(capacity=3)
    publish(events, 5)
    assert [each.number for each in await all_told(events, events.id_of(2))] == [3, 4, 5]


async def test_who_comes_back_too_late_is_told_that_it_missed_some_and_gets_the_rest() -> None:
    events = Events(capacity=3)
    publish(events, 5)
    missed, *rest = await all_told(events, events.id_of(1))
    assert (missed.type, missed.number) == (EventType.EVENTS_MISSED, 2)
    assert [each.number for each in rest] == [3, 4, 5]


@pytest.mark.parametrize(
    "last_id", ["", "7", "-", "x-1", "00000000-1", "x-٣", "x-" + "9" * 5000, "x--1", "\r\n", "é"]
)
async def test_an_id_that_is_not_of_this_life_of_the_server_begins_anew(last_id: str) -> None:
    events = Events()
    publish(events, 2)
    found = await all_told(events, last_id)
    assert found[0].type is EventType.EVENTS_MISSED
    assert [each.number for each in found[1:]] == [1, 2]


@pytest.mark.parametrize("number", ["-1", "x", "", "1.5", "٣", "9" * 5000])
async def test_a_number_that_makes_no_sense_begins_anew(number: str) -> None:
    events = Events()
    publish(events, 2)
    found = await all_told(events, events.id_of(0)[:-1] + number)
    assert found[0].type is EventType.EVENTS_MISSED


async def test_a_number_that_is_still_to_come_waits_for_what_comes_next() -> None:
    events = Events()
    publish(events)
    with events.follow(OURS, events.id_of(99)) as follower:
        publish(events)
        events.close()
        assert [each.number for each in await told(follower)] == [2]


async def test_who_reads_too_slowly_is_dropped_and_not_waited_for() -> None:
    events = Events(capacity=3)
    with events.follow(OURS) as slow, events.follow(OURS) as quick:
        batches = quick.batches()
        for _ in range(4):
            publish(events)
            await anext(batches)
        assert slow.is_outrun.is_set()
        assert not quick.is_outrun.is_set()
        assert await told(slow) == []


async def test_only_so_many_events_are_kept() -> None:
    events = Events(capacity=3)
    publish(events, 1000)
    assert len(events.after(0)) == 3


async def test_who_leaves_is_forgotten() -> None:
    events = Events()
    with events.follow(OURS):
        assert events.follower_count == 1
    assert events.follower_count == 0


def test_readme_lists_every_type_and_no_other() -> None:
    table = README.read_text().partition("| event | besides |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `([a-z._]+)` \|", table, re.M)
    assert listed == [str(each) for each in EventType]
