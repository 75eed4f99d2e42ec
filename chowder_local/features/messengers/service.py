"""The local messenger: the mailboxes of all agents, and the stand-ins that serve them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.tasks import KeyedLocks, logging_errors
from chowder_local.features.messengers.discord import Discord
from chowder_local.features.messengers.googlechat import GoogleChat
from chowder_local.features.messengers.line import Line
from chowder_local.features.messengers.mailbox import ChannelFault, Mailbox
from chowder_local.features.messengers.matrix import Matrix
from chowder_local.features.messengers.mattermost import Mattermost
from chowder_local.features.messengers.msteams import MsTeams
from chowder_local.features.messengers.nostr import Nostr
from chowder_local.features.messengers.signal import Signal
from chowder_local.features.messengers.slack import Slack
from chowder_local.features.messengers.stand_in import CallingStandIn, refusal
from chowder_local.features.messengers.telegram import Telegram
from chowder_local.features.messengers.whatsapp import Whatsapp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from datetime import datetime

    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Events
    from chowder_local.core.fault_injection import Faults
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.tasks import Shutdown
    from chowder_local.features.messengers.mailbox import ChannelMessage
    from chowder_local.features.messengers.stand_in import Call, Reply, Socket, StandIn, Webhook
    from chowder_local.features.messengers.store import ChannelMessageQueries
    from chowder_local.store.instances import InstanceQueries

STAND_INS: Mapping[str, StandIn] = {
    each.channel: each
    for each in (
        Discord(),
        GoogleChat(),
        Line(),
        Matrix(),
        Mattermost(),
        MsTeams(),
        Nostr(),
        Signal(),
        Slack(),
        Telegram(),
        Whatsapp(),
    )
}
"""Those of all channels, by name."""
LACKS: Mapping[str, frozenset[str]] = {
    "line": frozenset({"thread"}),
    "nostr": frozenset({"group", "thread", "image"}),
    "signal": frozenset({"thread"}),
    "whatsapp": frozenset({"group", "thread", "image"}),
}
"""What people cannot send in a channel."""
CAPTIONLESS = {"line"}
"""The channels in which a picture has no text beside it."""
PATH = "messengers"
FOR_EVER_S = 31 * 86_400.0
RETRY_S = 0.5
MAX_TRIES = 120
"""An agent that cannot be called then is called again only after something has happened to it."""
REFUSED = {400, 413}
"""What a plugin answers to a message that it will never take."""

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
    group: asyncio.TaskGroup
    call_agent: Callable[[Instance, Webhook], Awaitable[int]]
    """Calls a running agent's gateway, and returns the status of its answer."""
    _mailboxes: dict[tuple[InstanceId, str], Mailbox] = field(default_factory=dict)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)
    _deliveries: dict[tuple[InstanceId, str], asyncio.Task[None]] = field(default_factory=dict)

    async def begin(self) -> None:
        """Goes on to deliver what was written before the server's start."""
        for instance_id, channel in await self.queries.undelivered_channels():
            if isinstance(STAND_INS.get(channel), CallingStandIn):
                await self._of_agent(channel, instance_id)

    def fields(self, instance: Instance, channel: str) -> dict[str, Any]:
        """What connects a channel to the local messenger."""
        secret = self.secret_box.messenger_secret(instance.id, channel)
        return STAND_INS[channel].fields(self._url(instance, channel), secret)

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
                stand_in = STAND_INS[channel]
                if isinstance(stand_in, CallingStandIn):
                    work = self._deliver(mailbox, stand_in)
                    self._deliveries[key] = self.group.create_task(work, name=f"deliver {key}")
        return mailbox

    async def mailboxes(self, instance: Instance) -> list[Mailbox]:
        """Those of all channels of an agent."""
        return [await self.mailbox(instance, channel) for channel in STAND_INS]

    async def _deliver(self, mailbox: Mailbox, stand_in: CallingStandIn) -> None:
        """Brings the agent what people write, when it can take it."""
        tries = 0
        while not self.shutdown.has_begun:
            is_done = False
            with logging_errors(f"{mailbox.instance.id}: bringing messages of {mailbox.channel}"):
                is_done = await self._bring(mailbox, stand_in)
            tries = 0 if is_done else tries + 1
            if is_done:
                continue
            latest = self.events.last_id
            # A gateway that has just started takes a while until its channels are there.
            if tries < MAX_TRIES and await mailbox.is_running():
                await asyncio.sleep(RETRY_S)
            else:
                await self._next_event(mailbox, latest)
                tries = 0

    async def _bring(self, mailbox: Mailbox, stand_in: CallingStandIn) -> bool:
        """Waits for messages; whether the agent has taken all."""
        try:
            messages = await mailbox.undelivered(FOR_EVER_S)
        except ChannelFault:
            # It has cut off a call, which is made again.
            return True
        for message in messages:
            if not await self._call(mailbox, stand_in, message):
                return False
            await mailbox.mark_delivered(message.id)
        return True

    async def _call(
        self, mailbox: Mailbox, stand_in: CallingStandIn, message: ChannelMessage
    ) -> bool:
        """Whether the agent has taken a message, or will never take it."""
        instance = await self.instances.get(mailbox.instance.id)
        if instance is None or instance.status is not InstanceStatus.RUNNING:
            return False
        now = self.clock() if instance.clock is None else instance.clock.at(self.clock())
        webhook = await stand_in.webhook(message, mailbox, now)
        try:
            status = await self.call_agent(instance, webhook)
        except ChowderError as failed:
            _log.info("%s is not called about %s: %s", instance.id, mailbox.channel, failed)
            return False
        if status in REFUSED:
            _log.warning("%s refuses a message of %s: %s", instance.id, mailbox.channel, status)
        return status in REFUSED or status < 300

    async def _next_event(self, mailbox: Mailbox, latest: str) -> None:
        """Waits until something happens to the agent after an event, such as its start."""
        instance = mailbox.instance
        with self.events.follow(instance.organization_id, latest) as follower:
            async for events in follower.batches():
                if any(each.instance_id == instance.id for each in events):
                    return

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
            if (delivery := self._deliveries.pop(key, None)) is not None:
                delivery.cancel()


async def _until_cut(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    # With it, the agent gets the status at once.
    yield b""
    try:
        async with aclosing(events):
            async for each in events:
                yield each
    except ChannelFault:
        _log.info("A fault ends a stream of events.")
