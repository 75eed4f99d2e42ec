"""What stands in for Discord, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers.discord import (
    API,
    ATTACHMENTS,
    BOT_ID,
    GATEWAY,
    GATEWAY_URL,
    GUILD_ID,
    MESSAGE_CONTENT,
    Discord,
    bot_token,
)
from chowder_local.features.messengers.mailbox import MessageKind, as_read
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import MENTION, Call
from chowder_local.openclaw.channel_table import is_local

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

DISCORD = Discord()
ADA = DISCORD.sender("Ada")
PNG = b"\x89PNG\r\n\x1a\n"


class Line:
    """The agent's end of the Gateway, without the wire."""

    def __init__(self, tasks: asyncio.TaskGroup, mailbox: Mailbox) -> None:
        self.to_agent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_agent: asyncio.Queue[str] = asyncio.Queue()
        call = Call("GET", GATEWAY, {"v": "10"}, {}, {})
        self.conversation = tasks.create_task(DISCORD.converse(call, mailbox, self))

    async def accept(self) -> None:
        """The Gateway's first message says that it has accepted."""

    def admit(self) -> None:
        """It may stay."""

    async def send(self, text: str) -> None:
        self.to_agent.put_nowait(json.loads(text))

    async def receive(self) -> str:
        return await self.from_agent.get()

    def say(self, op: Any, content: Any) -> None:
        self.from_agent.put_nowait(json.dumps({"op": op, "d": content}))

    async def identify(self, mailbox: Mailbox) -> dict[str, Any]:
        assert (await self.to_agent.get())["op"] == 10
        self.say(2, {"token": bot_token(mailbox.secret), "intents": 1})
        ready = await self.to_agent.get()
        assert ready["t"] == "READY"
        content: dict[str, Any] = ready["d"]
        return content

    async def message(self) -> dict[str, Any]:
        """The next message, which the agent does not acknowledge."""
        event = await self.to_agent.get()
        assert (event["t"], (await self.to_agent.get())["op"]) == ("MESSAGE_CREATE", 1)
        message: dict[str, Any] = event["d"]
        return {**message, "sequence": event["s"]}


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "discord"
    )


async def reply(mailbox: Mailbox, method: str, path: str, **form: Any) -> Reply:
    path, _, query = path.partition("?")
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    headers = {"authorization": f"Bot {bot_token(mailbox.secret)}"}
    call = Call(method, path, parameters, headers, form, json.dumps(form).encode())
    return await DISCORD.reply(call, mailbox)


async def api(mailbox: Mailbox, method: str, path: str, **form: Any) -> Any:
    answered = await reply(mailbox, method, f"{API}{path}", **form)
    assert answered.status in {200, 204}, answered.body
    return json.loads(answered.body) if answered.body else None


async def direct(mailbox: Mailbox, person: str) -> str:
    recipient = DISCORD.sender(person)
    chat = await api(mailbox, "POST", "users/@me/channels", recipient_id=recipient)
    return f"channels/{chat['id']}"


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    async with owned_tasks() as tasks:
        line = Line(tasks, mailbox)
        ready = await line.identify(mailbox)
        assert ready["user"]["id"] == BOT_ID
        said = await mailbox.add("person", person="Ada", text="Hello")
        event = await line.message()
        assert (event["author"]["id"], event["content"]) == (ADA, "Hello")
        assert "guild_id" not in event
        assert await mailbox.undelivered(0)
        line.say(1, event["sequence"])
        assert (await line.to_agent.get())["op"] == 11
        assert not await mailbox.undelivered(0)

        channel = f"channels/{event['channel_id']}"
        assert (await api(mailbox, "GET", channel))["recipients"][0]["username"] == "Ada"
        await api(mailbox, "POST", f"{channel}/typing")
        draft = await api(mailbox, "POST", f"{channel}/messages", content="…")
        path = f"{channel}/messages/{draft['id']}"
        await api(mailbox, "PATCH", path, content=f"Hello, Ada, says <@{BOT_ID}>")
        other = await api(mailbox, "POST", f"{channel}/messages", content="!")
        await api(mailbox, "DELETE", f"{channel}/messages/{other['id']}")
        await api(mailbox, "PUT", f"{channel}/messages/{event['id']}/reactions/👀/@me")
        (answer,) = await mailbox.answers_to(said, wait_s=0.1)
        assert (answer.person, answer.text) == ("Ada", f"Hello, Ada, says {MENTION}")
    assert [each.kind for each in mailbox.messages if each.author == "agent"] == [
        MessageKind.TYPING,
        MessageKind.MESSAGE,
        MessageKind.EDIT,
        MessageKind.MESSAGE,
        MessageKind.DELETION,
        MessageKind.REACTION,
    ]
    assert (mailbox.messages[-1].of, mailbox.messages[-1].text) == (said.id, "👀")


async def test_a_connection_that_goes_on_gets_what_it_has_not_acknowledged(
    mailbox: Mailbox,
) -> None:
    async with owned_tasks() as tasks:
        line = Line(tasks, mailbox)
        ready = await line.identify(mailbox)
        first = await mailbox.add("person", person="Ada", text="One")
        await mailbox.add("person", person="Ada", text="Two")
        await line.message()
        await line.message()
        next_line = Line(tasks, mailbox)
        await next_line.to_agent.get()
        token = bot_token(mailbox.secret)
        content = {"token": token, "session_id": ready["session_id"], "seq": first.id}
        next_line.say(6, content)
        assert (await next_line.to_agent.get())["t"] == "RESUMED"
        assert (await next_line.message())["content"] == "Two"
        # The earlier connection gets nothing any more.
        await mailbox.add("person", person="Ada", text="Three")
        assert (await next_line.message())["content"] == "Three"
        assert line.to_agent.empty()


async def test_the_agent_answers_in_a_groups_thread_and_reads_it(mailbox: Mailbox) -> None:
    async with owned_tasks() as tasks:
        line = Line(tasks, mailbox)
        await line.identify(mailbox)
        for thread, text in ((None, "First"), ("Plans", f"{MENTION} One"), ("Plans", "Two")):
            await mailbox.add("person", person="Ada", group="Team", thread=thread, text=text)
        first, one, two = [await line.message() for _ in range(3)]
    assert (first["guild_id"], one["mentions"][0]["id"]) == (GUILD_ID, BOT_ID)
    assert one["content"] == f"<@{BOT_ID}> One"
    thread = await api(mailbox, "GET", f"channels/{one['channel_id']}")
    assert (thread["parent_id"], thread["name"]) == (first["channel_id"], "Plans")
    messages = f"channels/{thread['id']}/messages"
    await api(mailbox, "POST", messages, content="Done")
    (answer,) = as_read(mailbox.messages)[3:]
    assert (answer.group, answer.thread, answer.person) == ("Team", "Plans", None)
    page = await api(mailbox, "GET", f"{messages}?limit=2")
    assert [each["content"] for each in page] == ["Done", "Two"]
    page = await api(mailbox, "GET", f"{messages}?before={two['id']}")
    assert [each["id"] for each in page] == [one["id"]]
    page = await api(mailbox, "GET", f"{messages}?after={one['id']}&limit=1")
    assert [each["id"] for each in page] == [two["id"]]
    assert await api(mailbox, "GET", f"{messages}/{two['id']}") == page[0]


async def test_the_agent_begins_a_thread(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", group="Team", text="Hello")
    (group,) = await api(mailbox, "GET", f"guilds/{GUILD_ID}/channels")
    begun = await api(mailbox, "POST", f"channels/{group['id']}/threads", name="Plans")
    await api(mailbox, "POST", f"channels/{begun['id']}/messages", content="First")
    assert (mailbox.messages[-1].group, mailbox.messages[-1].thread) == ("Team", "Plans")
    threads = await api(mailbox, "GET", f"guilds/{GUILD_ID}/threads/active")
    assert [each["name"] for each in threads["threads"]] == ["Plans"]


async def test_the_agent_looks_up_people_and_channels(mailbox: Mailbox) -> None:
    for person, group in (("Ada", None), ("Ben", "Team")):
        await mailbox.add("person", person=person, group=group, text="Hello")
    assert (await api(mailbox, "GET", "users/@me"))["id"] == BOT_ID
    assert (await api(mailbox, "GET", f"users/{ADA}"))["username"] == "Ada"
    assert (await api(mailbox, "GET", "oauth2/applications/@me"))["id"] == BOT_ID
    assert (await api(mailbox, "GET", "gateway/bot"))["url"] == GATEWAY_URL
    (guild,) = await api(mailbox, "GET", "users/@me/guilds")
    path = f"guilds/{guild['id']}"
    assert (await api(mailbox, "GET", path))["name"] == guild["name"]
    found = await api(mailbox, "GET", f"{path}/members/search?query=ADA&limit=5")
    assert [each["user"]["id"] for each in found] == [ADA]
    assert (await api(mailbox, "GET", f"{path}/members/{ADA}"))["roles"] == []
    assert [each["name"] for each in await api(mailbox, "GET", f"{path}/roles")] == ["@everyone"]
    commands = f"applications/{BOT_ID}/commands"
    assert await api(mailbox, "GET", commands) == []
    assert (await api(mailbox, "POST", commands, name="help"))["id"].isdecimal()


async def test_clients_of_other_libraries_than_openclaws_find_what_they_demand(
    world: World, mailbox: Mailbox
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    chat = await direct(mailbox, "Ada")
    transport = httpx.ASGITransport(world.relay_app)
    headers = {"Authorization": f"Bot {bot_token(mailbox.secret)}"}
    base = f"{mailbox.url}/{API}"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
        for path in ("oauth2/applications/@me", "applications/@me"):
            application = (await client.get(path)).json()
            # Those that AppInfo of discord.py 2.7 does not do without.
            assert application.keys() >= {
                *("id", "name", "description", "icon", "owner", "verify_key"),
                *("bot_public", "bot_require_code_grant"),
            }
            assert application["flags"] == MESSAGE_CONTENT
            assert application["owner"].keys() >= {"id", "username", "discriminator", "avatar"}
        # It parses a body that says it is JSON, also an empty one.
        typing = await client.post(f"{chat}/typing")
        assert (typing.status_code, typing.headers.get("content-type")) == (204, None)


async def test_the_agent_fetches_an_image_that_discord_has_signed(mailbox: Mailbox) -> None:
    said = await mailbox.add("person", PNG, person="Ada", text="Look", image_type="image/png")
    (image,) = DISCORD.native(said, mailbox)["attachments"]
    assert image["content_type"] == "image/png"
    path, _, signature = image["url"].removeprefix("https://").partition("?hm=")
    assert path.startswith(ATTACHMENTS)
    answered = await DISCORD.reply(Call("GET", path, {"hm": signature}, {}, {}), mailbox)
    assert (answered.body, answered.content_type) == (PNG, "image/png")
    unsigned = Call("GET", path, {"hm": "x"}, {}, {})
    assert (await DISCORD.reply(unsigned, mailbox)).status == 404


async def test_of_a_file_that_the_agent_sends_the_type_is_kept(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    form = {"payload_json": '{"content": "A chart"}', "files[0]": "chart.png"}
    await api(mailbox, "POST", f"{await direct(mailbox, 'Ada')}/messages", **form)
    sent = mailbox.messages[-1]
    assert (sent.text, sent.image_type) == ("A chart", "image/png")


async def test_the_text_of_components_is_read(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    parts = [{"type": 10, "content": "One"}, {"components": [{"type": 10, "content": "Two"}, 3]}]
    await api(mailbox, "POST", f"{await direct(mailbox, 'Ada')}/messages", components=parts)
    assert mailbox.messages[-1].text == "One\nTwo"


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "code"),
    [
        ("GET", "", {}, 404, 0),
        ("GET", "voice/regions", {}, 404, 0),
        ("GET", "guilds/1", {}, 404, 0),
        ("GET", f"guilds/{GUILD_ID}/audit-logs", {}, 404, 0),
        ("GET", "users/1", {}, 404, 10013),
        ("GET", "channels/1", {}, 404, 10003),
        ("POST", "users/@me/channels", {"recipient_id": []}, 404, 10013),
        ("POST", "{chat}/messages", {"content": "x" * 2001}, 400, 50035),
        ("POST", "{chat}/messages", {"content": "x" * 1_100_000}, 413, 40005),
        ("POST", "{chat}/threads", {"name": "Plans"}, 400, 50024),
        ("POST", "{chat}/webhooks", {"name": "A"}, 403, 50013),
        ("GET", "{chat}/messages?before=x", {}, 400, 50035),
        ("GET", "{chat}/messages/²", {}, 404, 10008),
        ("PATCH", "{chat}/messages/1", {"content": "Hi"}, 404, 10008),
        ("PATCH", "{chat}/messages/{message}", {"content": "Hi"}, 403, 50005),
        ("PUT", "{chat}/messages/{message}/crosspost", {}, 404, 0),
    ],
)
async def test_a_bad_call_is_refused_in_discords_form(
    mailbox: Mailbox, method: str, path: str, form: dict[str, Any], status: int, code: int
) -> None:
    said = await mailbox.add("person", person="Ada", text="Hello")
    native = DISCORD.native(said, mailbox)
    path = path.format(chat=f"channels/{native['channel_id']}", message=native["id"])
    refused = await reply(mailbox, method, f"{API}{path}", **form)
    assert (refused.status, json.loads(refused.body)["code"]) == (status, code), refused.body
    assert len(mailbox.messages) == 1


async def test_a_call_without_the_token_is_refused(mailbox: Mailbox) -> None:
    for headers in ({}, {"authorization": "Bot \ud800"}, {"authorization": "Bot x"}):
        call = Call("GET", "api/v10/users/@me", {}, headers, {})
        assert (await DISCORD.reply(call, mailbox)).status == 401


@pytest.mark.parametrize(
    "payload",
    [
        '{"op": 2, "d": {"token": "wrong"}}',
        '{"op": 6, "d": {"token": ["wrong"], "seq": {}}}',
        '{"op": 2, "d": 3}',
        '{"op": 2, "d": {"token": "\\ud800"}}',
    ],
)
async def test_a_connection_without_the_token_gets_nothing(mailbox: Mailbox, payload: str) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    async with owned_tasks() as tasks:
        line = Line(tasks, mailbox)
        line.from_agent.put_nowait('{"op": [], "d": null')
        line.from_agent.put_nowait(payload)
        await line.conversation
        assert [line.to_agent.get_nowait()["op"] for _ in range(2)] == [10, 9]
    assert line.to_agent.empty()


async def test_who_does_not_say_the_token_acknowledges_nothing(mailbox: Mailbox) -> None:
    said = await mailbox.add("person", person="Ada", text="Hello")
    async with owned_tasks() as tasks:
        stranger = Line(tasks, mailbox)
        stranger.say(1, said.id)
        assert [(await stranger.to_agent.get())["op"] for _ in range(2)] == [10, 11]
        assert await mailbox.undelivered(0) == [said]


async def test_an_agent_identifies_itself_once(mailbox: Mailbox) -> None:
    async with owned_tasks() as tasks:
        line = Line(tasks, mailbox)
        await line.identify(mailbox)
        line.say(2, {"token": bot_token(mailbox.secret)})
        await line.conversation
        assert (await line.to_agent.get())["op"] == 9


def test_its_section_marks_the_agent_as_connected_to_this_machine() -> None:
    fields = DISCORD.fields("http://relay.local:1/messengers/discord/i", "secret")
    assert is_local(fields)
