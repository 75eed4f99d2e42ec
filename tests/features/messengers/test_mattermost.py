"""What stands in for Mattermost, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from starlette.datastructures import UploadFile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.tasks import owned_tasks
from chowder_local.features.messengers import mailbox as mailbox_module
from chowder_local.features.messengers import relay
from chowder_local.features.messengers.mailbox import (
    MAX_TEXT_CHARS,
    AnswerProgress,
    MessageKind,
    as_read,
)
from chowder_local.features.messengers.mattermost import BOT_ID, Mattermost
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import MENTION, Call, parse_object
from chowder_local.http.listener import SandboxConnection, bound_socket, listening
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from websockets.asyncio.client import ClientConnection

    from chowder_local.features.messengers.mailbox import Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

    Connect = Callable[[], connect]

MATTERMOST = Mattermost()
ADA = MATTERMOST.sender("Ada")
PNG = base64.b64decode("iVBORw0KGgo=")


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    agent = await world.placed(InstanceStatus.RUNNING)
    return await world.feature(Messengers).mailbox(agent, "mattermost")


@pytest.fixture
async def connected(world: World, mailbox: Mailbox) -> AsyncIterator[Connect]:
    """Opens WebSockets, which have not authenticated."""
    listener = bound_socket("127.0.0.1", 0)
    where = dict(zip(("host", "port"), listener.getsockname(), strict=True))
    url = f"{mailbox.url.replace('http', 'ws')}/api/v4/websocket"
    app = world.relay_app
    serving = listening(app, listener, protocol=SandboxConnection, takes_websockets=True)
    async with serving:
        yield partial(connect, url, **where)


@pytest.fixture
async def line(connected: Connect) -> AsyncIterator[ClientConnection]:
    """The agent's WebSocket, before it has authenticated."""
    async with connected() as line:
        yield line


def token(mailbox: Mailbox) -> str:
    found: str = MATTERMOST.fields(mailbox.url, mailbox.secret)["bot_token"]
    return found


async def reply(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Reply:
    path, _, query = path.partition("?")
    parameters = dict(each.split("=") for each in query.split("&") if each)
    headers = {"authorization": f"Bearer {token(mailbox)}"}
    body = b"" if content is None else json.dumps(content).encode()
    call = Call(method, f"api/v4/{path}", parameters, headers, parse_object(body), body)
    return await MATTERMOST.reply(call, mailbox)


async def api(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Any:
    answered = await reply(mailbox, method, path, content)
    assert answered.status in {200, 201}, answered.body
    return json.loads(answered.body)


async def authenticate(line: ClientConnection, token: str) -> None:
    data = {"token": token}
    await line.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": data}))


async def next_post(line: ClientConnection) -> dict[str, Any]:
    event = json.loads(await line.recv())
    assert event["event"] == "posted"
    post: dict[str, Any] = json.loads(event["data"]["post"])
    return {**post, "channel_type": event["data"]["channel_type"]}


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(
    mailbox: Mailbox, line: ClientConnection
) -> None:
    await authenticate(line, token(mailbox))
    assert json.loads(await line.recv()) == {"status": "OK", "seq_reply": 1}
    said = await mailbox.add("person", person="Ada", text="Hello")
    post = await next_post(line)
    assert (post["user_id"], post["message"], post["channel_type"]) == (ADA, "Hello", "D")
    assert (await api(mailbox, "GET", f"users/{ADA}"))["username"] == "Ada"
    await line.send('{"action": "user_typing"}')

    await api(mailbox, "POST", "users/me/typing", {"channel_id": post["channel_id"]})
    draft = await api(mailbox, "POST", "posts", {"channel_id": post["channel_id"], "message": "…"})
    await api(mailbox, "PUT", f"posts/{draft['id']}", {"message": "Hello, Ada"})
    other = await api(mailbox, "POST", "posts", {"channel_id": post["channel_id"], "message": "!"})
    await api(mailbox, "DELETE", f"posts/{other['id']}")
    reaction = {"user_id": "me", "post_id": post["id"], "emoji_name": "eyes"}
    await api(mailbox, "POST", "reactions", reaction)
    (answer,) = await mailbox.answers_to(said, wait_s=0.1)
    assert (answer.person, answer.text) == ("Ada", "Hello, Ada")
    assert mailbox.messages[0].is_delivered
    assert [each.kind for each in mailbox.messages if each.author == "agent"] == [
        MessageKind.TYPING,
        MessageKind.MESSAGE,
        MessageKind.EDIT,
        MessageKind.MESSAGE,
        MessageKind.DELETION,
        MessageKind.REACTION,
    ]
    assert mailbox.messages[-1].of == said.id


async def test_strangers_do_not_keep_the_agent_out(mailbox: Mailbox, connected: Connect) -> None:
    async with AsyncExitStack() as stack:
        strangers = [
            await stack.enter_async_context(connected()) for _ in range(2 * relay.MAX_SOCKETS)
        ]
        # The oldest of them gave way.
        with pytest.raises(ConnectionClosed):
            await strangers[0].recv()
        line = await stack.enter_async_context(connected())
        await authenticate(line, token(mailbox))
        assert json.loads(await line.recv())["status"] == "OK"
        await mailbox.add("person", person="Ada", text="Hello")
        assert (await next_post(line))["message"] == "Hello"


async def test_an_agent_has_so_many_websockets(mailbox: Mailbox, connected: Connect) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(relay.MAX_SOCKETS):
            line = await stack.enter_async_context(connected())
            await authenticate(line, token(mailbox))
            await line.recv()
        more = await stack.enter_async_context(connected())
        await authenticate(more, token(mailbox))
        with pytest.raises(ConnectionClosed):
            await more.recv()


async def test_who_does_not_sign_in_has_to_leave(
    connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SIGN_IN_S", 0.01)
    # It may have to before it is accepted.
    with pytest.raises((ConnectionClosed, InvalidStatus)):
        async with connected() as line:
            await line.recv()


async def test_an_answer_is_whole_once_no_model_call_is_in_progress(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "ANSWER_QUIET_S", 0.01)
    said = await mailbox.add("person", person="Ada", text="Hello")
    draft = await mailbox.add("agent", person="Ada", text="He")
    looks: list[bool] = []

    def progress() -> AnswerProgress:
        looks.append(mailbox.messages[-1].id == draft.id)
        return AnswerProgress(looks[-1])

    async with owned_tasks() as tasks:
        answers = tasks.create_task(mailbox.answers_to(said, 60, progress))
        await eventually(lambda: len(looks) == 3, "the answer is waited for")
        await mailbox.add("agent", kind=MessageKind.EDIT, person="Ada", text="Hello", of=draft.id)
        assert [each.text for each in await answers] == ["Hello"]


async def test_an_answer_ends_as_soon_as_all_that_the_model_said_is_there(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "ANSWER_QUIET_S", 0.01)
    progress = AnswerProgress(text="**One**, two and three")
    said = await mailbox.add("person", person="Ada", text="Count")
    async with owned_tasks() as tasks:
        await mailbox.add("agent", person="Ada", text="One, two")
        answers = tasks.create_task(mailbox.answers_to(said, 60, lambda: progress))
        await asyncio.wait([answers], timeout=0.1)
        assert not answers.done(), "the rest is waited for"
        await mailbox.add("agent", person="Ada", text="and three")
        assert [each.text for each in await answers] == ["One, two", "and three"]


async def test_an_answer_does_not_end_while_its_draft_is_there(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "ANSWER_QUIET_S", 0.01)
    progress = AnswerProgress(text="One, two and three")
    said = await mailbox.add("person", person="Ada", text="Count")
    async with owned_tasks() as tasks:
        draft = await mailbox.add("agent", person="Ada", text="One, two")
        await mailbox.add("agent", person="Ada", text="One, two and three")
        answers = tasks.create_task(mailbox.answers_to(said, 60, lambda: progress))
        await asyncio.wait([answers], timeout=0.1)
        assert not answers.done(), "the draft will be deleted"
        await mailbox.add("agent", person="Ada", kind=MessageKind.DELETION, of=draft.id)
        assert [each.text for each in await answers] == ["One, two and three"]


async def test_an_answer_is_no_draft_that_is_as_long(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "ANSWER_QUIET_S", 0.01)
    said = await mailbox.add("person", person="Ada", text="Agreed?")
    async with owned_tasks() as tasks:
        draft = await mailbox.add("agent", person="Ada", text="<b>Working</b>")
        progress = AnswerProgress(text="Agreed.")
        answers = tasks.create_task(mailbox.answers_to(said, 60, lambda: progress))
        await asyncio.wait([answers], timeout=0.1)
        assert not answers.done(), "the draft will be edited"
        await mailbox.add("agent", kind=MessageKind.EDIT, person="Ada", text="Agreed.", of=draft.id)
        assert [each.text for each in await answers] == ["Agreed."]


async def test_the_agent_answers_in_a_groups_thread_and_reads_it(
    mailbox: Mailbox, line: ClientConnection
) -> None:
    await authenticate(line, token(mailbox))
    await line.recv()
    for thread, text in ((None, "First"), ("Plans", f"{MENTION} One"), ("Plans", "Two")):
        await mailbox.add("person", person="Ada", group="Team", thread=thread, text=text)
    first, one, two = [await next_post(line) for _ in range(3)]
    root = one["root_id"]
    assert (first["root_id"], two["root_id"], one["channel_type"]) == ("", root, "O")
    place = {"channel_id": one["channel_id"], "root_id": root}
    await api(mailbox, "POST", "posts", {**place, "message": "Done"})
    (answer,) = as_read(mailbox.messages)[3:]
    assert (answer.group, answer.thread, answer.person) == ("Team", "Plans", None)

    thread = await api(mailbox, "GET", f"posts/{root}/thread?fromPost={two['id']}")
    assert [thread["posts"][each]["message"] for each in thread["order"]] == [
        f"{MENTION} One",
        "Plans",
    ]
    page = await api(mailbox, "GET", f"channels/{one['channel_id']}/posts?per_page=2")
    assert [page["posts"][each]["message"] for each in page["order"]] == ["Done", "Two"]
    assert page["prev_post_id"] == one["id"]


async def test_the_agent_looks_up_people_and_groups(mailbox: Mailbox) -> None:
    for person, group in (("Ada", None), ("Ben", "Team")):
        await mailbox.add("person", person=person, group=group, text="Hello")
    assert (await api(mailbox, "GET", "users/username/agent_bot"))["id"] == BOT_ID
    assert (await api(mailbox, "GET", "users/username/Ada"))["id"] == ADA
    assert [each["id"] for each in await api(mailbox, "POST", "users/ids", [ADA])] == [ADA]
    found = await api(mailbox, "POST", "users/search", {"term": "ADA"})
    assert [each["id"] for each in found] == [ADA]
    (team,) = await api(mailbox, "GET", "users/me/teams")
    members = f"teams/{team['id']}/members?page="
    assert [each["user_id"] for each in await api(mailbox, "GET", f"{members}0")] == [
        ADA, MATTERMOST.sender("Ben")
    ]  # fmt: skip
    assert await api(mailbox, "GET", f"{members}1") == []
    (group,) = await api(mailbox, "GET", "users/me/channels")
    assert await api(mailbox, "GET", f"teams/{team['id']}/channels/name/Team") == group
    assert (await reply(mailbox, "GET", f"teams/{team['id']}/channels/name/Other")).status == 404
    assert (await api(mailbox, "GET", f"channels/{group['id']}"))["display_name"] == "Team"
    direct = await api(mailbox, "POST", "channels/direct", [BOT_ID, ADA])
    await api(mailbox, "POST", "posts", {"channel_id": direct["id"], "message": "Hello, Ada"})
    assert mailbox.messages[-1].person == "Ada"
    assert await api(mailbox, "GET", "commands") == []


async def test_the_agent_fetches_an_image(mailbox: Mailbox) -> None:
    said = await mailbox.add("person", PNG, person="Ada", text="Look", image_type="image/png")
    post = await api(mailbox, "GET", f"posts/p{said.id:025d}")
    (number,) = post["file_ids"]
    image = await reply(mailbox, "GET", f"files/{number}")
    assert (image.body, image.content_type) == (PNG, "image/png")
    assert (await api(mailbox, "GET", f"files/{number}/info"))["mime_type"] == "image/png"


async def test_a_socket_with_a_wrong_token_gets_nothing(
    mailbox: Mailbox, line: ClientConnection
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    await authenticate(line, "x" * 26)
    with pytest.raises(ConnectionClosed):
        await line.recv()
    assert not mailbox.messages[0].is_delivered


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "", None, 404),
        ("GET", "config/client", None, 404),
        ("GET", "users/u0", None, 404),
        ("GET", f"posts/p{'9' * 25}", None, 404),
        ("GET", f"posts/p{'²' * 25}", None, 404),
        ("GET", "files", None, 404),
        ("GET", f"files/f{'1' * 25}", None, 404),
        ("POST", "channels/direct", {"ids": 1}, 404),
        ("POST", "channels/direct", ["\ud800"], 404),
        ("POST", "users/ids", [ADA] * 201, 400),
        ("POST", "users/ids", [ADA] * 1_000, 413),
        ("POST", "posts", {"channel_id": [], "message": "Hi"}, 404),
        ("POST", "posts", {"message": "x" * 2_000_000}, 413),
        ("PUT", "posts/p1", {"message": {}}, 404),
    ],
)
async def test_a_bad_call_is_refused_in_mattermosts_form(
    mailbox: Mailbox, method: str, path: str, content: Any, status: int
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    refused = await reply(mailbox, method, path, content)
    assert refused.status == status
    assert json.loads(refused.body)["status_code"] == status


async def test_of_what_an_agent_sends_a_limited_part_is_kept(mailbox: Mailbox) -> None:
    upload = UploadFile(io.BytesIO(PNG), filename="a.png")
    sent = await mailbox.add("agent", person="Ada", text="x" * 200_000, payload={"photo": upload})
    assert len(sent.text or "") == MAX_TEXT_CHARS
    assert "a.png" in sent.payload["photo"]
    sent = await mailbox.add("agent", person="Ada", text="Hi", payload={"props": "x" * 300_000})
    assert (sent.text, sent.payload) == ("Hi", {})


async def test_a_post_has_mattermosts_limit(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    channel = await api(mailbox, "POST", "channels/direct", [BOT_ID, ADA])
    long = {"channel_id": channel["id"], "message": "x" * 16_384}
    assert (await reply(mailbox, "POST", "posts", long)).status == 400


async def test_a_call_without_the_token_is_refused(mailbox: Mailbox) -> None:
    for headers in ({}, {"authorization": "Bearer \ud800"}, {"authorization": "Bearer x"}):
        call = Call("GET", "api/v4/users/me", {}, headers, {})
        assert (await MATTERMOST.reply(call, mailbox)).status == 401
