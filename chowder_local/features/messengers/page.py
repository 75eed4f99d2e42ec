"""What people and an instance's agent say in channels of the local messenger."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.dashboard.channels import title_of
from chowder_local.dashboard.pages import (
    PageParts,
    agent_part,
    form,
    instance_page,
    notice,
    part,
    parts,
)
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.dashboard.streams import follow_instance
from chowder_local.features.messengers.api import mailbox_of, say
from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.model import ChannelMessageCreation
from chowder_local.features.messengers.service import STAND_INS, Messengers
from chowder_local.http.bodies import validated
from chowder_local.http.services import instance_of, running_instance_of, service, services
from chowder_local.openclaw.channel_table import CHANNELS, is_local
from chowder_local.openclaw.channels import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox

TAB = "/messengers"
MACROS = "conversations.html"
EVENTS = {EventType.CHANNEL_MESSAGE}
MAX_SHOWN = 200
"""The latest messages of each channel that the page shows."""
MAX_TEXT_CHARS = 20_000
MAX_PAYLOAD_CHARS = 100_000
MAX_FORM_BYTES = 256 * 1024


@dataclass
class Conversation:
    """What was said to one person, or in one group."""

    channel: str
    group: str | None
    person: str | None
    messages: list[ChannelMessage] = field(default_factory=list)

    @property
    def title(self) -> str:
        return title_of(self.channel)

    @property
    def deleted(self) -> set[int | None]:
        """The messages that the agent has deleted."""
        return {each.of for each in self.messages if each.kind is MessageKind.DELETION}


@dataclass(frozen=True)
class Connected:
    """A channel that has a stand-in, and who waits in it: names by pairing codes."""

    channel: str
    is_local: bool
    is_enabled: bool
    waiting: Mapping[str, str]

    @property
    def title(self) -> str:
        return title_of(self.channel)


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    # Read before the messages: an event in between is then sent twice rather than never.
    last_event = services(request).events.last_id
    return await instance_page(
        request,
        "messengers.html",
        instance,
        tab=TAB,
        titles={name: title_of(name) for name in STAND_INS},
        conversations=await _conversations(request, instance),
        max_text=MAX_TEXT_CHARS,
        last_event=last_event,
    )


async def index(request: Request) -> Response:
    """The channels and the people who wait in them, which only the agent knows."""

    async def render(instance: Instance) -> Response:
        return parts(await _connected(request, instance))

    return await agent_part(request, f"{TAB}/connected", render)


async def follow(request: Request) -> Response:
    """Tells the page when to reload its lists."""
    return await follow_instance(request, EVENTS)


async def say_as(request: Request) -> Response:
    """Says something as the person whom the form names."""
    instance = await instance_of(request)
    sent = await form(request, MAX_FORM_BYTES)
    mailbox = await mailbox_of(request, instance, sent.pop("channel", ""))
    message = await say(request, instance, mailbox, validated(ChannelMessageCreation, sent, "body"))
    return notice(request, f"{message.person} has said it in {title_of(mailbox.channel)}.")


async def show_payload(request: Request) -> Response:
    """A message as the messenger's own protocol has it."""
    instance = await instance_of(request)
    mailbox = await mailbox_of(request, instance, request.path_params["channel"])
    number = request.path_params["number"]
    message = mailbox.find(int(number)) if number.isdecimal() and len(number) < 20 else None
    text = "The message is no longer kept."
    if message is not None:
        # What an agent sends may be long, and some protocols sign messages.
        text = await asyncio.to_thread(_payload_of, message, mailbox)
    return parts(part(request, MACROS, "payload", text))


async def connect(request: Request) -> Response:
    """Connects a channel to the local messenger."""
    instance = await running_instance_of(request)
    mailbox = await mailbox_of(request, instance, request.path_params["channel"])
    channel = CHANNELS[mailbox.channel]
    connection = await services(request).channels.connect(instance, channel, {OFFLINE: True})
    return notice(request, connection.message, await _connected(request, instance, oob=True))


async def approve(request: Request) -> Response:
    """Approves the person who waits with a pairing code."""
    instance = await running_instance_of(request)
    mailbox = await mailbox_of(request, instance, request.path_params["channel"])
    channel, code = CHANNELS[mailbox.channel], request.path_params["code"]
    await services(request).channels.admit(instance, channel, code=code)
    connected = await _connected(request, instance, oob=True)
    return notice(request, "The agent answers this person from now on.", connected)


async def _conversations(request: Request, instance: Instance) -> list[Conversation]:
    """Those with the latest messages first."""
    found: dict[tuple[str, str | None, str | None], Conversation] = {}
    for mailbox in await service(request, Messengers).mailboxes(instance):
        for each in list(mailbox.messages)[-MAX_SHOWN:]:
            key = mailbox.channel, *each.chat
            found.setdefault(key, Conversation(*key)).messages.append(each)
    return sorted(found.values(), key=lambda each: each.messages[-1].id, reverse=True)


async def _connected(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    channels, rows = services(request).channels, []
    for state in await channels.states(instance):
        is_here = state.is_enabled and is_local(state.configured)
        waiting = {}
        if is_here:
            mailbox = await service(request, Messengers).mailbox(instance, state.channel)
            for each in await channels.pairings(instance, CHANNELS[state.channel]):
                name = mailbox.person_of(STAND_INS[state.channel].sender, each.sender)
                waiting[each.code] = name or each.sender
        rows.append(Connected(state.channel, is_here, state.is_enabled, waiting))
    return part(request, MACROS, "connected", instance, rows, oob=oob)


def _payload_of(message: ChannelMessage, mailbox: Mailbox) -> str:
    payload = message.payload
    if message.author == "person":
        payload = STAND_INS[mailbox.channel].native(message, mailbox)
    text = json.dumps(payload, ensure_ascii=False)
    if len(text) > MAX_PAYLOAD_CHARS:
        return f"{text[:MAX_PAYLOAD_CHARS]}…"
    return json.dumps(payload, ensure_ascii=False, indent=2)


OF_CHANNEL = f"{INSTANCE}{TAB}/{{channel}}"
PAGES = (
    Page("GET", f"{INSTANCE}{TAB}", show),
    Page("GET", f"{INSTANCE}{TAB}/live", follow),
    Page("GET", f"{INSTANCE}{TAB}/connected", index),
    Page("POST", f"{INSTANCE}{TAB}/say", say_as),
    Page("GET", f"{OF_CHANNEL}/payloads/{{number}}", show_payload),
    Page("POST", f"{OF_CHANNEL}/connect", connect),
    Page("POST", f"{OF_CHANNEL}/pairings/{{code}}/approve", approve),
)
PARTS = PageParts(tab=(TAB, "Messengers"))
