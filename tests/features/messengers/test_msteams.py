"""What stands in for Microsoft Teams, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers import msteams
from chowder_local.features.messengers.mailbox import AnswerProgress, MessageKind, as_read
from chowder_local.features.messengers.msteams import (
    APP_ID,
    ISSUER,
    SERVICE_URL,
    TENANT_ID,
    MsTeams,
)
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call, parse_object
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

TEAMS = MsTeams()
PNG = b"\x89PNG\r\n"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LOGIN = "login.microsoftonline.com"


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "msteams"
    )


async def login(mailbox: Mailbox, secret: str) -> Reply:
    where = f"{LOGIN}/{TENANT_ID}/oauth2/v2.0/token"
    return await TEAMS.reply(Call("POST", where, {}, {}, {"client_secret": secret}), mailbox)


async def reply(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Reply:
    password = TEAMS.fields(mailbox.url, mailbox.secret)["app_password"]
    token = json.loads((await login(mailbox, password)).body)["access_token"]
    body = b"" if content is None else json.dumps(content).encode()
    headers = {"authorization": f"Bearer {token}"}
    where = f"smba.trafficmanager.net/teams/v3/{path}"
    return await TEAMS.reply(Call(method, where, {}, headers, parse_object(body), body), mailbox)


async def api(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Any:
    answered = await reply(mailbox, method, path, content)
    assert answered.status == 200, answered.body
    return json.loads(answered.body)


async def activity(mailbox: Mailbox, message: ChannelMessage) -> dict[str, Any]:
    """What the agent is sent about a message, with Microsoft's signature at the agent's time."""
    webhook = await TEAMS.webhook(message, mailbox, NOW)
    token = webhook.headers["Authorization"].removeprefix("Bearer ")
    where = "login.botframework.com/v1/.well-known/keys"
    answered = await TEAMS.reply(Call("GET", where, {}, {}, {}), mailbox)
    (key,) = jwt.PyJWKSet.from_json(answered.body.decode()).keys
    options: Any = {"verify_exp": False, "verify_nbf": False}
    claims = jwt.decode(token, key, ["RS256"], options, audience=APP_ID, issuer=ISSUER)
    assert jwt.get_unverified_header(token)["kid"] == key.key_id
    assert (claims["nbf"], claims["serviceurl"]) == (NOW.timestamp(), SERVICE_URL)
    found: dict[str, Any] = json.loads(webhook.body)
    return found


def activities(found: dict[str, Any]) -> str:
    return f"conversations/{found['conversation']['id']}/activities"


async def test_those_who_need_the_key_at_once_get_the_same() -> None:
    msteams._made_key.cache_clear()
    keys = await asyncio.gather(*(asyncio.to_thread(msteams._key) for _ in range(4)))
    assert len({id(each) for each in keys}) == 1


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    question = await mailbox.add("person", person="Ada", text="Hello")
    found = await activity(mailbox, question)
    assert (found["text"], found["from"]["aadObjectId"]) == ("Hello", TEAMS.sender("Ada"))
    assert found["conversation"]["conversationType"] == "personal"

    await api(mailbox, "POST", activities(found), {"type": "typing"})
    sent = await api(mailbox, "POST", activities(found), {"type": "message", "text": "H"})
    edit = {"type": "message", "text": "Hi", "id": sent["id"]}
    await api(mailbox, "PUT", f"{activities(found)}/{sent['id']}", edit)
    mistake = await api(mailbox, "POST", activities(found), {"type": "message", "text": "a"})
    await api(mailbox, "DELETE", f"{activities(found)}/{mistake['id']}")
    await api(mailbox, "PUT", f"{activities(found)}/{found['id']}/reactions/like")
    said = mailbox.after(question.id)
    assert [(each.text, each.person) for each in as_read(said)] == [("Hi", "Ada")]
    assert [each.kind for each in said if each.kind not in {"message", "edit", "deletion"}] == [
        MessageKind.TYPING,
        MessageKind.REACTION,
    ]


async def test_a_message_that_is_sent_in_parts_is_one_with_edits(mailbox: Mailbox) -> None:
    question = await mailbox.add("person", person="Ada", text="Hello")
    found = await activity(mailbox, question)

    async def send(text: str, part: str, number: str = "", kind: str = "typing") -> str:
        entities = [{"type": "streaminfo", "streamType": part}]
        content = {"type": kind, "text": text, "entities": entities, "id": number or None}
        answer = await api(mailbox, "POST", activities(found), content)
        return str(answer["id"])

    number = await send("Thinking", "informative")
    assert await send("Hi", "streaming", number) == number
    assert await send("Hi there", "streaming", number) == number

    # All that the model has said is there, but the agent has not said that it is the end.
    def progress() -> AnswerProgress:
        return AnswerProgress(text="Hi there")

    asking = asyncio.create_task(mailbox.answers_to(question, 30, progress))
    await eventually(lambda: mailbox.changes.has_viewers, "somebody waits")
    assert await send("Hi there", "final", number, "message") == number
    assert [each.text for each in await asking] == ["Hi there"]
    said = mailbox.after(question.id)
    assert [each.kind for each in said] == [
        MessageKind.TYPING,
        MessageKind.MESSAGE,
        MessageKind.EDIT,
        MessageKind.EDIT,
    ]
    assert [each.text for each in as_read(said)] == ["Hi there"]
    await api(mailbox, "DELETE", f"{activities(found)}/{number}")
    assert as_read(mailbox.after(question.id)) == []


@pytest.mark.parametrize("thread", [None, "Plans"])
async def test_an_answer_finds_its_channel_and_its_thread(
    mailbox: Mailbox, thread: str | None
) -> None:
    text = "@agent_bot Hi"
    message = await mailbox.add("person", person="Ben", group="Team", thread=thread, text=text)
    found = await activity(mailbox, message)
    assert found["text"] == "<at>agent_bot</at> Hi"
    assert found["entities"][0]["mentioned"] == found["recipient"]
    text = f'<quoted messageId="{message.id}"/> <at>agent_bot</at> Hello'
    content = {"type": "message", "text": text}
    await api(mailbox, "POST", activities(found), content)
    answer = mailbox.messages[-1]
    assert (answer.person, answer.group, answer.thread) == (None, "Team", thread)
    assert answer.text == "@agent_bot Hello"
    members = await api(mailbox, "GET", f"conversations/{found['conversation']['id']}/members")
    assert [each["name"] for each in members] == ["Ben"]
    private = {"members": [members[0]]}
    number = (await api(mailbox, "POST", "conversations", private))["id"]
    await api(mailbox, "POST", f"conversations/{number}/activities", content)
    assert (mailbox.messages[-1].person, mailbox.messages[-1].group) == ("Ben", None)


async def test_a_picture_is_an_attachment(mailbox: Mailbox) -> None:
    message = await mailbox.add("person", PNG, person="Ada", text="Look", image_type="image/png")
    (attachment,) = (await activity(mailbox, message))["attachments"]
    path = attachment["contentUrl"].removeprefix(f"{SERVICE_URL}/v3/")
    content = await reply(mailbox, "GET", path)
    assert (content.body, content.content_type) == (PNG, "image/png")


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "conversations/a:0/activities", {"type": "message", "text": "a"}, 404),
        ("POST", "conversations", {"members": [{"id": ["a"]}]}, 404),
        ("POST", "conversations", {"members": []}, 404),
        ("POST", "{activities}", {"type": "message", "text": "€" * 40_000}, 413),
        ("PUT", "{activities}/²", {"text": "a"}, 404),
        ("DELETE", "{activities}/" + "9" * 5000, None, 404),
        ("GET", "attachments", None, 404),
        ("GET", "attachments/1/views/original", None, 404),
        ("GET", "nonsense", None, 404),
    ],
)
async def test_what_teams_would_refuse_is_refused(
    mailbox: Mailbox, method: str, path: str, content: Any, status: int
) -> None:
    found = await activity(mailbox, await mailbox.add("person", person="Ada", text="Hello"))
    where = path.format(activities=activities(found))
    answered = await reply(mailbox, method, where, content)
    assert answered.status == status
    assert json.loads(answered.body)["error"]["code"]
    assert len(mailbox.messages) == 1


async def test_who_has_not_the_password_gets_no_token(mailbox: Mailbox) -> None:
    assert (await login(mailbox, "é")).status == 401
    where = "smba.trafficmanager.net/teams/v3/conversations"
    call = Call("POST", where, {}, {"authorization": "Bearer é"}, {})
    assert (await TEAMS.reply(call, mailbox)).status == 401
    nowhere = await TEAMS.reply(Call("GET", "graph.microsoft.com/v1.0/me", {}, {}, {}), mailbox)
    assert nowhere.status == 404
