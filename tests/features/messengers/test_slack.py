"""What stands in for Slack, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chowder_local.app.relay_app import serve_relay
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers.mailbox import MessageKind, as_read
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.slack import API, BOT_USER_ID, SOCKET, Slack
from chowder_local.features.messengers.stand_in import BOT_NAME, MENTION, Call
from chowder_local.http.listener import bound_socket
from chowder_local.openclaw.channel_table import CHANNELS, is_local, to_openclaw_config

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

SLACK = Slack()
ADA = SLACK.sender("Ada")


class Line:
    """The agent's end of a WebSocket, without the wire."""

    def __init__(self) -> None:
        self.is_accepted = False
        self.to_agent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_agent: asyncio.Queue[str] = asyncio.Queue()

    async def accept(self) -> None:
        self.is_accepted = True

    def admit(self) -> None:
        """It may stay."""

    async def send(self, text: str) -> None:
        self.to_agent.put_nowait(json.loads(text))

    async def receive(self) -> str:
        return await self.from_agent.get()

    async def event(self) -> dict[str, Any]:
        """The next event, which stays unacknowledged."""
        envelope = await self.to_agent.get()
        event: dict[str, Any] = envelope["payload"]["event"]
        return {**event, "envelope_id": envelope["envelope_id"]}

    def acknowledge(self, event: dict[str, Any]) -> None:
        self.from_agent.put_nowait(json.dumps({"envelope_id": event["envelope_id"]}))


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "slack"
    )


async def reply(
    mailbox: Mailbox, path: str, token: str = "bot_token", body: bytes = b"", **form: Any
) -> Reply:
    fields = SLACK.fields(mailbox.url, mailbox.secret)
    headers = {"authorization": f"Bearer {fields.get(token, token)}", "content-type": "image/png"}
    return await SLACK.reply(Call("POST", path, {}, headers, form, body), mailbox)


async def api(mailbox: Mailbox, method: str, **form: Any) -> dict[str, Any]:
    answered = await reply(mailbox, f"{API}{method}", **form)
    assert answered.status == 200
    content: dict[str, Any] = json.loads(answered.body)
    return content


async def socket_path(mailbox: Mailbox) -> str:
    """A path that opens one connection."""
    opened = await api(mailbox, "apps.connections.open", token="app_token")
    url: str = opened["url"]
    assert url.startswith(f"wss://{SOCKET}")
    return url.removeprefix("wss://")


async def open_line(mailbox: Mailbox, tasks: asyncio.TaskGroup) -> Line:
    line = Line()
    call = Call("GET", await socket_path(mailbox), {}, {}, {})
    tasks.create_task(SLACK.converse(call, mailbox, line))
    assert (await line.to_agent.get())["type"] == "hello"
    return line


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    async with owned_tasks() as tasks:
        line = await open_line(mailbox, tasks)
        said = await mailbox.add("person", person="Ada", text=f"{MENTION} <Hello> & welcome")
        event = await line.event()
        line.acknowledge(event)
        assert (event["user"], event["channel_type"]) == (ADA, "im")
        # Slack's own characters are escaped.
        assert event["text"] == f"<@{BOT_USER_ID}> &lt;Hello&gt; &amp; welcome"
        user = await api(mailbox, "users.info", user=event["user"])
        assert user["user"]["profile"]["display_name"] == "Ada"
        text = f"You said &lt;Hello&gt;, <@{BOT_USER_ID}>"
        await api(mailbox, "chat.postMessage", channel=event["channel"], text=text)
        (answer,) = await mailbox.answers_to(said, wait_s=0.1)
        assert (answer.person, answer.text) == ("Ada", f"You said <Hello>, {MENTION}")
        assert await mailbox.wait_for(lambda: mailbox.messages[0].is_delivered, 10)


async def test_edits_reactions_typing_and_deletions_are_seen_as_such(mailbox: Mailbox) -> None:
    said = await mailbox.add("person", person="Ada", group="Team", thread="Plans", text="Hi")
    async with owned_tasks() as tasks:
        event = await (await open_line(mailbox, tasks)).event()
    chat = {"channel": event["channel"], "thread_ts": event["thread_ts"]}
    await api(mailbox, "reactions.add", channel=chat["channel"], timestamp=event["ts"], name="eyes")
    status = {"channel_id": chat["channel"], "thread_ts": chat["thread_ts"], "status": "busy"}
    await api(mailbox, "agents.sessions.setStatus", **status)
    posted = await api(mailbox, "chat.postMessage", text="Draft", **chat)
    await api(mailbox, "chat.update", channel=chat["channel"], ts=posted["ts"], text="Done")
    # A stream is a message that grows.
    chunks = json.dumps([{"type": "markdown_text", "text": "One "}])
    stream = await api(mailbox, "chat.startStream", chunks=chunks, **chat)
    part = {"channel": chat["channel"], "ts": stream["ts"]}
    await api(mailbox, "chat.appendStream", markdown_text="two", **part)
    await api(mailbox, "chat.stopStream", chunks="[]", **part)
    dropped = await api(mailbox, "chat.postMessage", text="Oops", **chat)
    await api(mailbox, "chat.delete", channel=chat["channel"], ts=dropped["ts"])

    kinds = [(each.kind, each.of) for each in list(mailbox.messages)[1:]]
    message = MessageKind.MESSAGE, None
    draft, stream_id, dropped_id = (
        each.id for each in list(mailbox.messages)[1:] if each.kind is MessageKind.MESSAGE
    )
    assert kinds == [
        (MessageKind.REACTION, said.id),
        (MessageKind.TYPING, None),
        message,
        (MessageKind.EDIT, draft),
        message,
        (MessageKind.EDIT, stream_id),
        message,
        (MessageKind.DELETION, dropped_id),
    ]
    answers = as_read(mailbox.messages)[1:]
    assert [(each.text, each.group, each.thread) for each in answers] == [
        ("Done", "Team", "Plans"),
        ("One two", "Team", "Plans"),
    ]


async def test_the_agent_reads_a_threads_and_a_groups_history(mailbox: Mailbox) -> None:
    for thread, text in (("Plans", "In it"), (None, "First"), (None, "Second")):
        await mailbox.add("person", person="Ada", group="Team", thread=thread, text=text)
    async with owned_tasks() as tasks:
        line = await open_line(mailbox, tasks)
        in_thread, first, second = [await line.event() for _ in range(3)]
    channel = in_thread["channel"]
    history = await api(mailbox, "conversations.history", channel=channel)
    assert [each["text"] for each in history["messages"]] == ["Second", "First"]
    before = {"channel": channel, "latest": second["ts"], "inclusive": "false"}
    history = await api(mailbox, "conversations.history", **before)
    assert [each["ts"] for each in history["messages"]] == [first["ts"]]
    replies = await api(
        mailbox, "conversations.replies", channel=channel, ts=in_thread["thread_ts"]
    )
    assert [each["text"] for each in replies["messages"]] == ["Plans", "In it"]


async def test_the_agent_looks_up_people_groups_and_pictures(mailbox: Mailbox) -> None:
    for person, group in (("Ada", None), ("Ben", "Team")):
        await mailbox.add("person", person=person, group=group, text="Hello")
    picture = await mailbox.add(
        "person", b"\x89PNG", person="Ada", text="Look", image_type="image/png"
    )
    own = await api(mailbox, "auth.test")
    assert (own["user_id"], own["user"]) == (BOT_USER_ID, BOT_NAME)
    people = (await api(mailbox, "users.list"))["members"]
    assert [each["name"] for each in people] == [BOT_NAME, "Ada", "Ben"]
    assert [each["is_bot"] for each in people] == [True, False, False]
    (group,) = (await api(mailbox, "conversations.list"))["channels"]
    info = await api(mailbox, "conversations.info", channel=group["id"])
    assert (info["channel"], group["name"]) == (group, "Team")
    members = await api(mailbox, "conversations.members", channel=group["id"])
    assert members["members"] == [BOT_USER_ID, SLACK.sender("Ben")]
    direct = (await api(mailbox, "conversations.open", users=ADA))["channel"]["id"]
    info = await api(mailbox, "conversations.info", channel=direct)
    assert info["channel"] == {"id": direct, "is_im": True, "user": ADA}
    history = await api(mailbox, "conversations.history", channel=direct)
    (shown,) = history["messages"][0]["files"]
    found = await api(mailbox, "files.info", file=f"F{picture.id}")
    assert found["file"] == shown
    assert (shown["name"], shown["mimetype"]) == ("image.png", "image/png")
    path = shown["url_private_download"].removeprefix("https://")
    image = await reply(mailbox, path)
    assert (image.body, image.content_type) == (b"\x89PNG", "image/png")
    assert json.loads((await reply(mailbox, path, token="")).body)["error"] == "invalid_auth"
    assert (await reply(mailbox, f"{path}0")).status == 404
    for method, empty in (("emoji.list", {"emoji": {}}), ("pins.list", {"items": []})):
        assert await api(mailbox, method) == {"ok": True, **empty}


async def test_what_is_not_acknowledged_comes_again_on_the_newest_connection(
    mailbox: Mailbox,
) -> None:
    async with owned_tasks() as tasks:
        old = await open_line(mailbox, tasks)
        await mailbox.add("person", person="Ada", text="Hello")
        assert (await old.event())["text"] == "Hello"
        new = await open_line(mailbox, tasks)
        event = await new.event()
        assert event["text"] == "Hello"
        new.acknowledge(event)
        await mailbox.wait_for(lambda: mailbox.messages[0].is_delivered, 10)
        await mailbox.add("person", person="Ada", text="More")
        assert (await new.event())["text"] == "More"
        assert old.to_agent.empty()


async def test_an_uploaded_image_is_a_message_with_its_type(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Draw")
    opened = await api(mailbox, "conversations.open", users=ADA)
    upload = await api(mailbox, "files.getUploadURLExternal", filename="a.png", length="3")
    path = upload["upload_url"].removeprefix("https://")
    assert (await reply(mailbox, path, body=b"png")).status == 200
    files = json.dumps([{"id": upload["file_id"], "title": "A drawing"}])
    form = {"files": files, "channel_id": opened["channel"]["id"], "initial_comment": "There"}
    assert (await api(mailbox, "files.completeUploadExternal", **form))["ok"]
    assert (mailbox.messages[-1].text, mailbox.messages[-1].image_type) == ("There", "image/png")
    assert (await api(mailbox, "files.completeUploadExternal", **form))["error"] == "file_not_found"


@pytest.mark.parametrize(
    ("method", "form", "error"),
    [
        ("auth.test", {"token": "app_token"}, "invalid_auth"),
        ("auth.test", {"token": "\ud800"}, "invalid_auth"),
        ("apps.connections.open", {}, "invalid_auth"),
        ("search.everything", {}, "unknown_method"),
        ("chat.postMessage", {"channel": "C0", "text": "Hi"}, "channel_not_found"),
        ("chat.postMessage", {"channel": [ADA], "text": {}}, "channel_not_found"),
        ("chat.postMessage", {"text": "x", "body": b"x" * 2_000_000}, "msg_too_long"),
        ("chat.update", {"channel": ADA, "ts": "soon"}, "invalid_ts"),
        ("chat.update", {"channel": ADA, "ts": "1." + "9" * 5000}, "message_not_found"),
        ("chat.update", {"channel": ADA, "ts": "1.1"}, "message_not_found"),
        ("conversations.history", {"channel": ADA, "limit": "-1"}, "invalid_ts"),
        ("chat.delete", {"channel": ADA, "ts": "1.99"}, "message_not_found"),
        ("users.info", {"user": "U0"}, "user_not_found"),
        ("files.info", {"file": "F1"}, "file_not_found"),
        (
            "files.completeUploadExternal",
            {"channel_id": ADA, "files": "[" * 90_000},
            "invalid_arguments",
        ),
    ],
)
async def test_a_bad_call_is_refused_in_slacks_form(
    mailbox: Mailbox, method: str, form: dict[str, Any], error: str
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    assert await api(mailbox, method, **form) == {"ok": False, "error": error}


async def test_the_agent_connects_once_with_each_ticket(world: World, mailbox: Mailbox) -> None:
    listener = bound_socket("127.0.0.1", 0)
    where = dict(zip(("host", "port"), listener.getsockname(), strict=True))
    async with serve_relay(world.relay, [listener], routes=world.feature_hooks.relay_routes):
        url = f"{mailbox.url.replace('http', 'ws')}/{await socket_path(mailbox)}"
        async with connect(url, **where) as socket:
            assert json.loads(await socket.recv())["type"] == "hello"
            for noise in ("no JSON", '{"envelope_id": 7}', '{"envelope_id": "²"}'):
                await socket.send(noise)
            said = await mailbox.add("person", person="Ada", text="Hello")
            assert json.loads(await socket.recv())["envelope_id"] == str(said.id)
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url, **where)


def test_the_section_in_openclaws_configuration_shows_that_it_is_local() -> None:
    fields = SLACK.fields("http://relay.local:2470/messengers/slack/i", "secret")
    assert is_local(to_openclaw_config(CHANNELS["slack"], fields))
