"""Messages that the local messenger brings to an agent, in place of being asked for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from chowder_local.api.schemas.faults_and_replies import FaultCreation
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.features.messengers import service
from chowder_local.features.messengers.service import Messengers
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.core.domain import Instance
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Webhook
    from tests.scripted.world import World


@dataclass
class Agent:
    """What answers the calls, with one status after the other; 0 is no answer."""

    statuses: Iterable[int] = ()
    texts: list[str] = field(default_factory=list)

    async def call(self, instance: Instance, webhook: Webhook) -> int:
        (event,) = json.loads(webhook.body)["events"]
        self.texts.append(event["message"]["text"])
        status, *self.statuses = [*self.statuses] or [200]
        if not status:
            raise GatewayUnavailable("it starts")
        return status


@pytest.fixture
def agent(world: World, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(service, "RETRY_S", 0.001)
    agent = Agent()
    world.feature(Messengers).call_agent = agent.call
    return agent


def undelivered(mailbox: Mailbox) -> int:
    return sum(not each.is_delivered for each in mailbox.messages)


async def test_a_message_is_brought_again_until_the_agent_takes_it(
    world: World, agent: Agent
) -> None:
    mailbox = await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "line"
    )
    agent.statuses = [0, 404, 503, 200]
    await mailbox.add("person", person="Ada", text="one")
    await mailbox.add("person", person="Ada", text="two")
    await eventually(lambda: not undelivered(mailbox), "both are delivered")
    assert agent.texts == ["one"] * 4 + ["two"]


async def test_a_message_that_the_agent_will_never_take_holds_up_no_other(
    world: World, agent: Agent
) -> None:
    mailbox = await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "line"
    )
    agent.statuses = [413]
    await mailbox.add("person", person="Ada", text="long")
    await mailbox.add("person", person="Ada", text="short")
    await eventually(lambda: not undelivered(mailbox), "both are dealt with")
    assert agent.texts == ["long", "short"]


async def test_a_stopped_agent_gets_its_messages_when_it_is_started(
    world: World, agent: Agent
) -> None:
    stopped = await world.placed(InstanceStatus.STOPPED)
    mailbox = await world.feature(Messengers).mailbox(stopped, "line")
    await mailbox.add("person", person="Ada", text="Hello")
    # Another agent's start is not its own.
    await world.placed(InstanceStatus.RUNNING, number=2)
    assert undelivered(mailbox) == 1
    await world.instances.change(stopped.id, now=world.clock.now, status=InstanceStatus.RUNNING)
    await eventually(lambda: not undelivered(mailbox), "it is delivered")
    assert agent.texts == ["Hello"]


async def test_an_agent_that_never_takes_a_message_is_left_in_peace_until_the_next(
    world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_TRIES", 2)
    mailbox = await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "line"
    )
    agent.statuses = [404, 404]
    await mailbox.add("person", person="Ada", text="one")
    await eventually(lambda: len(agent.texts) == 2, "it is called twice")
    await mailbox.add("person", person="Ada", text="two")
    await eventually(lambda: not undelivered(mailbox), "both are delivered")
    assert agent.texts == ["one", "one", "one", "two"]


async def test_what_was_written_before_the_servers_start_is_brought(
    world: World, agent: Agent
) -> None:
    instance = await world.placed(InstanceStatus.RUNNING)
    content = {"at": world.clock.now.isoformat(), "author": "person", "person": "Ada"}
    for channel in ("line", "telegram"):
        await world.feature(Messengers).queries.add(
            instance.id, channel, {**content, "text": channel}, None, is_delivered=False
        )
    await world.feature(Messengers).begin()
    await eventually(lambda: agent.texts == ["line"], "the agent is called about the first")


@pytest.mark.parametrize(("effect", "calls"), [("twice", 2), ("disconnect", 1)])
async def test_an_injected_fault_applies_to_what_is_brought(
    world: World, agent: Agent, effect: str, calls: int
) -> None:
    instance = await world.placed(InstanceStatus.RUNNING)
    mailbox = await world.feature(Messengers).mailbox(instance, "line")
    fault = FaultCreation(kind="channel", instance_id=instance.id, effect=effect).draft()
    world.faults.add(instance.organization_id, fault)
    await mailbox.add("person", person="Ada", text="Hello")
    await mailbox.add("person", person="Ada", text="again")
    await eventually(lambda: not undelivered(mailbox), "both are delivered")
    assert agent.texts == ["Hello"] * calls + ["again"]


async def test_a_deleted_agent_is_called_no_more(world: World, agent: Agent) -> None:
    instance = await world.placed(InstanceStatus.STOPPED)
    mailbox = await world.feature(Messengers).mailbox(instance, "line")
    await mailbox.add("person", person="Ada", text="Hello")
    world.feature(Messengers).forget(instance.id)
    await world.instances.change(instance.id, now=world.clock.now, status=InstanceStatus.RUNNING)
    await world.feature(Messengers).mailbox(instance, "line")
    await eventually(lambda: agent.texts == ["Hello"], "only the new mailbox calls")
