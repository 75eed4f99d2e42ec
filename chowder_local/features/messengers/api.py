"""The calls of the local messenger: their rows of the route table, and their handlers."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from chowder_local.api.access import Access
from chowder_local.api.operations import PICTURE_BODY_BYTES, Operation
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import ChannelNotFound
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.features.messengers.mailbox import AnswerProgress, ChannelMessage, wait_for
from chowder_local.features.messengers.model import (
    ChannelAnswersView,
    ChannelMessageCreation,
    ChannelMessageQuery,
)
from chowder_local.features.messengers.service import CAPTIONLESS, LACKS, STAND_INS, Messengers
from chowder_local.features.messengers.turns import earlier_answers
from chowder_local.http.bodies import parse, parse_query
from chowder_local.http.services import instance, require_living, running, service, services
from chowder_local.openclaw.channel_table import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.features.messengers.mailbox import EarlierAnswers, Mailbox

UNFETCHED_S = 3.0
"""A message that an agent has not fetched for so long finds no connection."""


async def say_in_channel(request: Request) -> ChannelAnswersView:
    """Says something to the agent as a person, and with `wait_s` returns its answer.

    A stopped agent gets it when it is started.
    """
    mailbox = await _mailbox(request)
    body = await parse(request, ChannelMessageCreation)
    message = await say(request, instance(request), mailbox, body)
    answers = await _answers(request, mailbox, message, body.wait_s) if body.wait_s else []
    return ChannelAnswersView(message=mailbox.find(message.id) or message, answers=answers)


async def say(
    request: Request, agent: Instance, mailbox: Mailbox, body: ChannelMessageCreation
) -> ChannelMessage:
    """Says something to an agent as a person."""
    lacking = [each for each in LACKS.get(mailbox.channel, ()) if getattr(body, each) is not None]
    if lacking:
        raise InputInvalid([_lacking(mailbox.channel, each) for each in lacking])
    if body.image is not None and body.text and mailbox.channel in CAPTIONLESS:
        raise InputInvalid([_captionless(mailbox.channel)])
    image_type = None if body.image is None else _image_type(body.image)
    if agent.status is InstanceStatus.RUNNING or body.approve or body.wait_s:
        # A hibernated agent comes back for it.
        agent = await running(request, agent)
        channel = CHANNELS[mailbox.channel]
        await services(request).channels.check_local(agent, channel)
        if body.approve:
            sender = STAND_INS[mailbox.channel].sender(body.person)
            await services(request).channels.admit(agent, channel, sender=sender)
    return await mailbox.add(
        "person",
        body.image,
        person=body.person,
        group=body.group,
        thread=body.thread,
        text=body.text,
        image_type=image_type,
    )


async def _answers(
    request: Request, mailbox: Mailbox, message: ChannelMessage, wait_s: float
) -> list[ChannelMessage]:
    agent, channel = await running(request, instance(request)), CHANNELS[mailbox.channel]

    def is_fetched() -> bool:
        return (mailbox.find(message.id) or message).is_delivered

    if not channel.reconnects and not await mailbox.wait_for(is_fetched, min(wait_s, UNFETCHED_S)):
        # OpenClaw notices late that a connection has not outlived a stop of its agent.
        await services(request).channels.reconnect(agent, channel)

    def progress() -> AnswerProgress:
        calls = services(request).call_log.of_instance(agent.id)
        recent = list(takewhile(lambda each: each.at > message.at, calls))
        if not recent:
            return AnswerProgress()
        output = recent[0].output
        # After a tool there is another call.
        is_busy = bool(output.calls) or any(each.outcome is None for each in recent)
        return AnswerProgress(is_busy, output.text)

    def earlier() -> EarlierAnswers:
        calls = services(request).call_log.of_instance(agent.id)
        return earlier_answers(message, mailbox, calls)

    return await mailbox.answers_to(message, wait_s, progress, earlier)


async def list_channel_messages(request: Request) -> list[ChannelMessage]:
    """What people and the agent have said in a channel, oldest first."""
    return await _messages(request, [await _mailbox(request)])


async def list_all_channel_messages(request: Request) -> list[ChannelMessage]:
    """What people and the agent have said in all channels, oldest first."""
    agent = require_living(instance(request))
    return await _messages(request, await service(request, Messengers).mailboxes(agent))


async def _messages(request: Request, mailboxes: Sequence[Mailbox]) -> list[ChannelMessage]:
    query = parse_query(request, ChannelMessageQuery)

    def wanted() -> list[ChannelMessage]:
        return [
            each
            for mailbox in mailboxes
            for each in mailbox.after(query.after)
            if query.person in (None, each.person) and query.group in (None, each.group)
        ]

    await wait_for(mailboxes, lambda: bool(wanted()), query.wait_s)
    return sorted(wanted(), key=lambda each: each.id)[-query.limit :]


async def clear_channel_messages(request: Request) -> None:
    """Removes what was said in a channel; the agent remembers it."""
    await (await _mailbox(request)).clear()


async def _mailbox(request: Request) -> Mailbox:
    return await mailbox_of(request, instance(request), request.path_params["channel"])


async def mailbox_of(request: Request, agent: Instance, channel: str) -> Mailbox:
    """Raises ChannelNotFound, and InstanceNotFound if the agent is deleted."""
    if channel not in CHANNELS:
        raise ChannelNotFound
    return await service(request, Messengers).mailbox(require_living(agent), channel)


def _lacking(channel: str, member: str) -> dict[str, Any]:
    message = f"the local messenger has no {member}s in {channel}"
    return {"loc": ["body", member], "msg": message, "type": "value_error"}


def _captionless(channel: str) -> dict[str, Any]:
    message = f"{channel} has no text beside a picture; send it as a message of its own"
    return {"loc": ["body", "text"], "msg": message, "type": "value_error"}


def _image_type(image: bytes) -> str:
    for start, kind in (
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ):
        if image.startswith(start):
            return kind
    return "image/webp" if image[8:12] == b"WEBP" else "application/octet-stream"


OPERATIONS = (
    Operation(
        "POST",
        "/local/instances/{instance_id}/channels/{channel}/messages",
        say_in_channel,
        Access.CHANNELS,
        "sayInChannel",
        "Say something in a channel",
        body=ChannelMessageCreation,
        answer=ChannelAnswersView,
        status=201,
        errors=(400, 404, 409, 502),
        tool="say_in_channel",
        max_body_bytes=PICTURE_BODY_BYTES,
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/channels/{channel}/messages",
        list_channel_messages,
        Access.CHANNELS,
        "listChannelMessages",
        "List a channel's messages",
        answer=[ChannelMessage],
        errors=(404, 409),
        query=ChannelMessageQuery,
        tool="list_channel_messages",
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/channels/messages",
        list_all_channel_messages,
        Access.CHANNELS,
        "listAllChannelMessages",
        "List the messages of all channels",
        answer=[ChannelMessage],
        errors=(409,),
        query=ChannelMessageQuery,
    ),
    Operation(
        "DELETE",
        "/local/instances/{instance_id}/channels/{channel}/messages",
        clear_channel_messages,
        Access.CHANNELS,
        "clearChannelMessages",
        "Remove a channel's messages",
        status=204,
        errors=(404, 409),
    ),
)
