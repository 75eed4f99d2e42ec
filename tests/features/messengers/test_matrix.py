"""What stands in for a Matrix homeserver, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.matrix import BOT, Matrix
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

MATRIX = Matrix()
ADA = MATRIX.sender("Ada")
TEXT = {"msgtype": "m.text", "body": "Hi"}


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "matrix"
    )


async def call(
    mailbox: Mailbox, method: str, path: str, form: dict[str, Any] | None = None, **query: str
) -> Reply:
    headers = {"authorization": f"Bearer {mailbox.secret}"}
    return await MATRIX.reply(
        Call(method, f"_matrix/client/v3/{path}", query, headers, form or {}), mailbox
    )


async def got(
    mailbox: Mailbox, method: str, path: str, form: dict[str, Any] | None = None, **query: str
) -> Any:
    reply = await call(mailbox, method, path, form, **query)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def delivered(mailbox: Mailbox, person: str, text: str, **more: Any) -> dict[str, Any]:
    """What somebody says, as the agent's next call without a token has it, with its room."""
    message = await mailbox.add("person", person=person, text=text, **more)
    for room, content in (await got(mailbox, "GET", "sync"))["rooms"]["join"].items():
        for event in content["timeline"]["events"]:
            if event["event_id"] == f"${message.id}":
                return {"room_id": room, **event}
    raise AssertionError(text)


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    start = await got(mailbox, "GET", "sync")
    assert start["rooms"]["join"] == {}
    poll = asyncio.create_task(
        got(mailbox, "GET", "sync", since=start["next_batch"], timeout="30000")
    )
    first = await mailbox.add("person", person="Ada", text="Hello")
    news = await poll
    ((room, joined),) = news["rooms"]["join"].items()
    (event,) = joined["timeline"]["events"]
    assert (event["sender"], event["content"]["body"]) == (ADA, "Hello")
    members = {
        each["state_key"]: each["content"]
        for each in joined["state"]["events"]
        if each["type"] == "m.room.member"
    }
    assert set(members) == {BOT, ADA}
    assert members[ADA]["displayname"] == "Ada"
    assert news["account_data"]["events"][0]["content"] == {ADA: [room]}
    assert await got(mailbox, "GET", f"profile/{ADA}/displayname") == {"displayname": "Ada"}

    await got(mailbox, "PUT", f"rooms/{room}/typing/{BOT}", {"typing": True})
    await got(mailbox, "PUT", f"rooms/{room}/typing/{BOT}", {"typing": False})
    sent = await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t1", TEXT)
    assert await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t1", TEXT) == sent
    new = {**TEXT, "body": "Hey"}
    edit = {
        **TEXT,
        "m.new_content": new,
        "m.relates_to": {"rel_type": "m.replace", "event_id": sent["event_id"]},
    }
    await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t2", edit)
    thumb = {"m.relates_to": {"rel_type": "m.annotation", "event_id": f"${first.id}", "key": "👍"}}
    reaction = await got(mailbox, "PUT", f"rooms/{room}/send/m.reaction/t3", thumb)
    relations = await got(mailbox, "GET", f"rooms/{room}/relations/${first.id}/m.annotation")
    assert [each["event_id"] for each in relations["chunk"]] == [reaction["event_id"]]
    await got(mailbox, "PUT", f"rooms/{room}/redact/{sent['event_id']}/t4", {})
    done = [(each.kind, each.text, each.of, each.person) for each in mailbox.after(first.id)]
    number = int(sent["event_id"][1:])
    assert done == [
        (MessageKind.TYPING, None, None, "Ada"),
        (MessageKind.MESSAGE, "Hi", None, "Ada"),
        (MessageKind.EDIT, "Hey", number, "Ada"),
        (MessageKind.REACTION, "👍", first.id, "Ada"),
        (MessageKind.DELETION, None, number, "Ada"),
    ]
    # The agent gets what it has done, too, and nothing of the room that it knows.
    assert not mailbox.messages[0].is_delivered
    again = await got(mailbox, "GET", "sync", since=news["next_batch"])
    own = again["rooms"]["join"][room]
    assert [each["type"] for each in own["timeline"]["events"]] == [
        "m.room.message", "m.room.message", "m.reaction", "m.room.redaction",
    ]  # fmt: skip
    assert own["state"]["events"] == []
    assert own["timeline"]["events"][0]["unsigned"] == {"transaction_id": "t1"}
    assert mailbox.messages[0].is_delivered


async def test_what_was_not_fetched_is_there_at_the_next_start(mailbox: Mailbox) -> None:
    first = await delivered(mailbox, "Ada", "One")
    await got(mailbox, "GET", "sync", since=f"s{first['event_id'][1:]}")
    await delivered(mailbox, "Ada", "Two")
    joined = (await got(mailbox, "GET", "sync"))["rooms"]["join"][first["room_id"]]
    assert [each["content"]["body"] for each in joined["timeline"]["events"]] == ["Two"]
    assert len(joined["state"]["events"]) == 4


async def test_a_call_of_a_stopped_agent_waits_until_it_runs(
    world: World, mailbox: Mailbox
) -> None:
    await delivered(mailbox, "Ada", "One")
    number, now = mailbox.instance.id, world.clock()
    await world.instances.change(number, now=now, status=InstanceStatus.STOPPED)
    assert await got(mailbox, "GET", "sync", since="s0", timeout="1") == {"next_batch": "s0"}
    poll = asyncio.create_task(got(mailbox, "GET", "sync", since="s0", timeout="9000"))
    await world.instances.change(number, now=now, status=InstanceStatus.RUNNING)
    assert (await poll)["rooms"]["join"]


async def test_a_group_has_its_people_mentions_and_threads(mailbox: Mailbox) -> None:
    first = await delivered(mailbox, "Ada", "@agent_bot Hello", group="Team", thread="Plans")
    room, content = first["room_id"], first["content"]
    assert content["m.mentions"] == {"user_ids": [BOT]}
    root = content["m.relates_to"]["event_id"]
    assert (await got(mailbox, "GET", f"rooms/{room}/event/{root}"))["content"]["body"] == "Plans"
    await delivered(mailbox, "Eve", "Hello", group="Team")
    members = await got(mailbox, "GET", f"rooms/{room}/joined_members")
    assert set(members["joined"]) == {BOT, ADA, MATRIX.sender("Eve")}
    joined = (await got(mailbox, "GET", "sync", since=f"s{first['event_id'][1:]}"))["rooms"]["join"]
    (newcomer,) = joined[room]["state"]["events"]
    assert newcomer["content"]["displayname"] == "Eve"
    assert await got(mailbox, "GET", f"rooms/{room}/state/m.room.name/") == {"name": "Team"}
    answer = {**TEXT, "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t", answer)
    latest = mailbox.messages[-1]
    assert (latest.group, latest.thread, latest.person) == ("Team", "Plans", None)
    for query, bodies in (
        ({"dir": "b", "limit": "2"}, ["Hi", "Hello"]),
        ({"dir": "f", "limit": "9", "from": first["event_id"][1:]}, ["Hello", "Hi"]),
    ):
        chunk = (await got(mailbox, "GET", f"rooms/{room}/messages", **query))["chunk"]
        assert [each["content"]["body"] for each in chunk] == bodies


async def test_pictures_go_both_ways(mailbox: Mailbox) -> None:
    event = await delivered(mailbox, "Ada", "Look", image=b"\x89PNG", image_type="image/png")
    content, room = event["content"], event["room_id"]
    assert (content["msgtype"], content["info"]["mimetype"]) == ("m.image", "image/png")
    path = content["url"].removeprefix("mxc://")
    picture = await call(mailbox, "GET", f"media/download/{path}")
    assert (picture.body, picture.content_type) == (b"\x89PNG", "image/png")
    image = {"msgtype": "m.image", "body": "a.gif", "url": "mxc://x/y"}
    sent = {**image, "info": {"mimetype": "image/gif"}}
    await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t", sent)
    assert mailbox.messages[-1].image_type == "image/gif"


async def test_the_agent_finds_the_room_of_a_person_who_has_written(mailbox: Mailbox) -> None:
    room = (await delivered(mailbox, "Ada", "Hello"))["room_id"]
    asked = {"invite": ["@nobody:local", ADA], "is_direct": True}
    assert await got(mailbox, "POST", "createRoom", asked) == {"room_id": room}
    assert await got(mailbox, "GET", "joined_rooms") == {"joined_rooms": [room]}
    assert (await call(mailbox, "POST", "createRoom", {"invite": [{}]})).status == 403


async def test_a_call_needs_the_token(mailbox: Mailbox) -> None:
    for headers in ({}, {"authorization": "Bearer é"}, {"authorization": mailbox.secret + "x"}):
        request = Call("GET", "_matrix/client/v3/sync", {}, headers, {})
        reply = await MATRIX.reply(request, mailbox)
        assert reply.status == 401
        assert json.loads(reply.body)["errcode"] == "M_UNKNOWN_TOKEN"


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "code"),
    [
        ("GET", "", {}, 404, "M_UNRECOGNIZED"),
        ("POST", "keys/query", {}, 404, "M_UNRECOGNIZED"),
        ("GET", "rooms/!1:local/state", {}, 403, "M_FORBIDDEN"),
        ("PUT", "rooms/ROOM/send/m.room.topic/t", {}, 403, "M_FORBIDDEN"),
        ("PUT", "rooms/ROOM/state/m.room.name/", {"name": "x"}, 403, "M_FORBIDDEN"),
        ("GET", "rooms/ROOM/state/m.room.encryption/", {}, 404, "M_NOT_FOUND"),
        ("GET", "rooms/ROOM/event/$999999999999999999999", {}, 404, "M_NOT_FOUND"),
        ("GET", "rooms/ROOM", {}, 404, "M_NOT_FOUND"),
        ("GET", "media/download/local/99999999999999999999", {}, 404, "M_NOT_FOUND"),
        ("GET", "media/download/local/٣", {}, 404, "M_NOT_FOUND"),
        ("GET", "profile/@nobody:local", {}, 404, "M_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_done_is_refused_as_matrix_does(
    mailbox: Mailbox, method: str, path: str, form: dict[str, Any], status: int, code: str
) -> None:
    room = (await delivered(mailbox, "Ada", "Hello"))["room_id"]
    reply = await call(mailbox, method, path.replace("ROOM", room), form)
    assert (reply.status, json.loads(reply.body)["errcode"]) == (status, code)
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"body": {}, "m.relates_to": []},
        {"body": "a", "m.relates_to": {"rel_type": "m.replace", "event_id": 5}, "m.new_content": 5},
        {"body": "a", "m.relates_to": {"rel_type": "m.thread", "event_id": {}}},
        {"body": "a", "url": 5, "info": {"mimetype": []}},
    ],
)
async def test_an_odd_message_is_taken_and_can_be_read_again(
    mailbox: Mailbox, content: dict[str, Any]
) -> None:
    room = (await delivered(mailbox, "Ada", "Hello"))["room_id"]
    sent = await got(mailbox, "PUT", f"rooms/{room}/send/m.room.message/t", content)
    event = await got(mailbox, "GET", f"rooms/{room}/event/{sent['event_id']}")
    assert event["content"] == content
    for since in ("s0", "-1", "s" + "9" * 30, "x"):
        await got(mailbox, "GET", "sync", since=since, timeout="soon")
