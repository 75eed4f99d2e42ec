"""Agents that a test brings into a state: by a snapshot, a seed file, a fault, a clock, a stop."""

import asyncio
from datetime import UTC, datetime

import pytest

from chowder_local.client import ApiRefused


def test_a_snapshot_is_restored(chowder_common_instance, chowder_snapshot):
    agent = chowder_common_instance
    agent.write_file("workspace/prices.md", "tea 3")
    before = chowder_snapshot(agent)
    agent.write_file("workspace/prices.md", "tea 4")
    agent.restore(before)
    assert agent.read_file("workspace/prices.md") == "tea 3"


def test_a_file_declares_agents(chowder_seed):
    desk = chowder_seed("seed.yaml")["desk"]
    assert desk.read_file("workspace/SOUL.md") == "Be short."


def test_a_client_is_told_to_wait(chowder_common_instance, chowder_faults):
    chowder_faults("message", status=429, retry_after_s=2)
    with pytest.raises(ApiRefused, match="429"):
        chowder_common_instance.say("Hi")


def test_tomorrow_comes_at_once(chowder_common_instance, chowder_clock):
    clock = chowder_clock(chowder_common_instance)
    clock.set("2030-01-01T09:00:00+00:00", frozen=True)
    assert clock.advance("25h") == []
    assert clock.now == datetime(2030, 1, 2, 10, tzinfo=UTC)


def test_two_answers_at_once_after_a_stop(chowder_common_instance):
    agent = chowder_common_instance
    agent.stop()
    agent.start()

    async def ask_both():
        return await asyncio.gather(agent.asay("Hi", "ada"), agent.asay("Hi", "grace"))

    ada, grace = asyncio.run(ask_both())
    assert ada == grace
