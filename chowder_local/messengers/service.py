"""The local messenger: the mailboxes of all agents, and the stand-ins that serve them."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.tasks import KeyedLocks
from chowder_local.messengers.discord import Discord
from chowder_local.messengers.mailbox import ChannelFault, Mailbox
from chowder_local.messengers.matrix import Matrix
from chowder_local.messengers.mattermost import Mattermost
from chowder_local.messengers.nostr import Nostr
from chowder_local.messengers.signal import Signal
from chowder_local.messengers.slack import Slack
from chowder_local.messengers.stand_in import refusal
from chowder_local.messengers.telegram import Telegram

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Events
    from chowder_local.core.fault_injection import Faults
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.tasks import Shutdown
    from chowder_local.messengers.stand_in import Call, Reply, Socket, StandIn
    from chowder_local.store.channel_messages import ChannelMessageQueries
    from chowder_local.store.instances import InstanceQueries

STAND_INS: Mapping[str, StandIn] = {
    each.channel: each
    for each in (Discord(), Matrix(), Mattermost(), Nostr(), Signal(), Slack(), Telegram())
}
"""The channels that can be answered without the Internet."""
LACKS: Mapping[str, frozenset[str]] = {
    "nostr": frozenset({"group", "thread", "image"}),
    "signal": frozenset({"thread"}),
}
"""What people cannot send in a channel."""
PATH = "messengers"

_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class Messengers:
    """The mailboxes of agents' channels."""

    queries: ChannelMessageQueries
    instances: InstanceQueries
    secret_box: SecretBox
    relay_url: str
    events: Events
    faults: Faults
    shutdown: Shutdown
    clock: Callable[[], datetime]
    _mailboxes: dict[tuple[InstanceId, str], Mailbox] = field(default_factory=dict)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)

    def fields(self, instance: Instance, channel: str) -> dict[str, Any] | None:
        """What connects a channel to the local messenger; None if it has no stand-in."""
        stand_in = STAND_INS.get(channel)
        if stand_in is None:
            return None
        url = self._url(instance, channel)
        return stand_in.fields(url, self.secret_box.messenger_secret(instance.id, channel))

    async def mailbox(self, instance: Instance, channel: str) -> Mailbox:
        """The mailbox of an agent's channel, with the messages that are kept."""
        key = instance.id, channel
        async with self._locks.holding(key):
            if (mailbox := self._mailboxes.get(key)) is None:
                mailbox = Mailbox(
                    instance=instance,
                    channel=channel,
                    secret=self.secret_box.messenger_secret(instance.id, channel),
                    url=self._url(instance, channel),
                    is_running=partial(self._is_running, instance.id),
                    queries=self.queries,
                    events=self.events,
                    faults=self.faults,
                    shutdown=self.shutdown,
                    clock=self.clock,
                )
                await mailbox.load()
                self._mailboxes[key] = mailbox
        return mailbox

    async def converse(self, channel: str, instance_id: str, call: Call, socket: Socket) -> None:
        """A conversation of an agent with its messenger's server."""
        if (mailbox := await self._of_agent(channel, instance_id)) is not None:
            try:
                await STAND_INS[channel].converse(call, mailbox, socket)
            except* ChannelFault:
                _log.info("A fault ends a connection of %s.", channel)

    async def reply(self, channel: str, instance_id: str, call: Call) -> Reply | None:
        """The answer to an agent's call; None if there is no such stand-in or agent.

        Raises ChannelFault if the call is to be cut off.
        """
        if (mailbox := await self._of_agent(channel, instance_id)) is None:
            return None
        try:
            reply = await STAND_INS[channel].reply(call, mailbox)
        except ChannelFault as ended:
            if ended.fault.status is None:
                raise
            return refusal(ended.fault, ended.fault.status)
        return reply if reply.events is None else replace(reply, events=_until_cut(reply.events))

    async def _of_agent(self, channel: str, instance_id: str) -> Mailbox | None:
        """The mailbox that a call's path names. The stand-in checks that the agent may use it."""
        instance = await self.instances.get(InstanceId(instance_id))
        if channel not in STAND_INS or instance is None:
            return None
        is_gone = instance.status is InstanceStatus.TERMINATED
        return None if is_gone else await self.mailbox(instance, channel)

    async def _is_running(self, instance_id: InstanceId) -> bool:
        instance = await self.instances.get(instance_id)
        return instance is not None and instance.status is InstanceStatus.RUNNING

    def _url(self, instance: Instance, channel: str) -> str:
        return f"{self.relay_url}/{PATH}/{channel}/{instance.id}"

    def forget(self, instance_id: InstanceId) -> None:
        """Drops the mailboxes of an instance that is deleted."""
        for key in [each for each in self._mailboxes if each[0] == instance_id]:
            del self._mailboxes[key]


async def _until_cut(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    # With it, the agent gets the status at once.
    yield b""
    try:
        async with aclosing(events):
            async for each in events:
                yield each
    except ChannelFault:
        _log.info("A fault ends a stream of events.")
