"""The transitions between statuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.instances.lifecycle.agents import MOVES, Agent
from tests.scripted.engine import NOWHERE

if TYPE_CHECKING:
    from tests.scripted.world import World

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "instance-states.md"


def test_the_table_in_the_docs_has_exactly_the_allowed_transitions() -> None:
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(listed) == sorted((each, to) for each in MOVES for to in MOVES[each])


async def test_a_transition_that_is_not_allowed_raises_and_changes_nothing(world: World) -> None:
    instance = await world.placed(InstanceStatus.TERMINATED)
    with pytest.raises(ValueError, match="cannot move from terminated to running"):
        await Agent(world.agents, instance).to_running(NOWHERE)
    assert await world.now(instance) == instance


async def test_a_transition_from_an_outdated_status_changes_nothing(world: World) -> None:
    agent, late = (Agent(world.agents, seen) for seen in 2 * [await world.created()])
    assert await agent.to_stopped()
    assert not await late.to_error("too late")
    assert await world.now(late.row) == agent.row


async def test_an_instance_that_was_stopped_meanwhile_neither_hibernates_nor_wakes(
    world: World,
) -> None:
    seen = await world.created()
    stopped = await world.lifecycle.stop(world.organization_id, seen.id)
    late = Agent(world.agents, seen)
    assert not await late.hibernate()
    assert not await late.mark_resumed(NOWHERE)
    assert await world.now(seen) == stopped
