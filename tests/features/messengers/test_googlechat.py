"""What stands in for Google Chat, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.googlechat import ISSUER, PROJECT, GoogleChat
from chowder_local.features.messengers.mailbox import MessageKind, as_read
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call, parse_object

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import ChannelMessage, Mailbox
    from chowder_local.features.messengers.stand_in import Reply
    from tests.scripted.world import World

CHAT = GoogleChat()
PNG = b"\x89PNG\r\n"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
CERTIFICATES = f"www.googleapis.com/service_accounts/v1/metadata/x509/{ISSUER}"


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "googlechat"
    )


async def get(mailbox: Mailbox, path: str) -> Any:
    return json.loads((await CHAT.reply(Call("GET", path, {}, {}, {}), mailbox)).body)


async def login(mailbox: Mailbox, assertion: str) -> Reply:
    form = {"assertion": assertion}
    return await CHAT.reply(Call("POST", "oauth2.googleapis.com/token", {}, {}, form), mailbox)


def assertion(mailbox: Mailbox) -> str:
    """What the plugin signs, which says that it was signed by another kind of key."""
    account = json.loads(CHAT.fields(mailbox.url, mailbox.secret)["service_account"])
    key = load_pem_private_key(account["private_key"].encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    signature = key.sign(b"e30.e30", ECDSA(SHA256()))
    return f"e30.e30.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def reply(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Reply:
    token = json.loads((await login(mailbox, assertion(mailbox))).body)["access_token"]
    body = b"" if content is None else json.dumps(content).encode()
    headers = {"authorization": f"Bearer {token}"}
    where = f"chat.googleapis.com/v1/{path}"
    return await CHAT.reply(Call(method, where, {}, headers, parse_object(body), body), mailbox)


async def api(mailbox: Mailbox, method: str, path: str, content: Any = None) -> Any:
    answered = await reply(mailbox, method, path, content)
    assert answered.status == 200, answered.body
    return json.loads(answered.body)


async def event(mailbox: Mailbox, message: ChannelMessage) -> dict[str, Any]:
    """What the agent is sent about a message, with Google's signature at the agent's time."""
    webhook = await CHAT.webhook(message, mailbox, NOW)
    token = webhook.headers["Authorization"].removeprefix("Bearer ")
    (certificate,) = (await get(mailbox, CERTIFICATES)).values()
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, certificate, ["ES256"], options, audience=PROJECT, issuer=ISSUER)
    assert claims["iat"] == NOW.timestamp() < claims["exp"] < (NOW + timedelta(days=1)).timestamp()
    found: dict[str, Any] = json.loads(webhook.body)
    return found


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    question = await mailbox.add("person", person="Ada", text="Hello")
    found = await event(mailbox, question)
    assert (found["message"]["text"], found["user"]["name"]) == ("Hello", CHAT.sender("Ada"))
    assert found["space"]["type"] == "DM"

    space = found["space"]["name"]
    notice = await api(mailbox, "POST", f"{space}/messages", {"text": "_Bot is typing..._"})
    for text in ("H", "Hi"):
        edited = await api(mailbox, "PATCH", notice["name"], {"text": text})
        assert edited["name"] == notice["name"]
    other = await api(mailbox, "POST", f"{space}/messages", {"text": "_Bot is typing..._"})
    await api(mailbox, "DELETE", other["name"])
    mistake = await api(mailbox, "POST", f"{space}/messages", {"text": "a mistake"})
    await api(mailbox, "DELETE", mistake["name"])
    reaction = {"emoji": {"unicode": "👍"}}
    await api(mailbox, "POST", f"{found['message']['name']}/reactions", reaction)
    said = mailbox.after(question.id)
    assert [(each.text, each.person) for each in as_read(said)] == [("Hi", "Ada")]
    assert [each.kind for each in said[:3]] == [
        MessageKind.TYPING,
        MessageKind.MESSAGE,
        MessageKind.EDIT,
    ]
    assert (said[-1].kind, said[-1].text, said[-1].of) == (
        MessageKind.REACTION,
        "👍",
        question.id,
    )


async def test_an_answer_finds_its_space_and_its_thread(mailbox: Mailbox) -> None:
    text = "@agent_bot Hi"
    message = await mailbox.add("person", person="Ben", group="Team", thread="Plans", text=text)
    found = await event(mailbox, message)
    (annotation,) = found["message"]["annotations"]
    assert annotation["userMention"]["user"]["name"] == "users/app"
    assert found["message"]["argumentText"] == " Hi"
    content = {"text": "Hello", "thread": found["message"]["thread"]}
    await api(mailbox, "POST", f"{found['space']['name']}/messages", content)
    answer = mailbox.messages[-1]
    assert (answer.person, answer.group, answer.thread) == (None, "Team", "Plans")
    shown = await api(mailbox, "GET", found["space"]["name"])
    assert (shown["displayName"], shown["spaceType"]) == ("Team", "SPACE")


async def test_a_picture_is_an_attachment(mailbox: Mailbox) -> None:
    message = await mailbox.add("person", PNG, person="Ada", text="Look", image_type="image/png")
    (attachment,) = (await event(mailbox, message))["message"]["attachment"]
    resource = attachment["attachmentDataRef"]["resourceName"]
    content = await reply(mailbox, "GET", f"media/{resource}")
    assert (content.body, content.content_type) == (PNG, "image/png")


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "spaces/D0/messages", {"text": "a"}, 404),
        ("POST", "{space}/messages", {}, 400),
        ("POST", "{space}/messages", {"text": ["a"], "cardsV2": 1}, 400),
        ("POST", "{space}/messages", {"text": "€" * 11_000}, 400),
        ("PATCH", "{space}/messages/²", {"text": "a"}, 404),
        ("DELETE", "{space}/messages/" + "9" * 5000, None, 404),
        ("GET", "media/12", None, 404),
        ("GET", "nonsense", None, 404),
    ],
)
async def test_what_google_would_refuse_is_refused(
    mailbox: Mailbox, method: str, path: str, content: Any, status: int
) -> None:
    found = await event(mailbox, await mailbox.add("person", person="Ada", text="Hello"))
    where = path.format(space=found["space"]["name"])
    answered = await reply(mailbox, method, where, content)
    assert answered.status == status
    assert json.loads(answered.body)["error"]["code"] == status
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize("given", ["", "é.a.é", "e30.e30.", "W1tb" * 50_000, "e30.e30.AAAA"])
async def test_who_has_not_the_account_gets_no_token(mailbox: Mailbox, given: str) -> None:
    assert (await login(mailbox, given)).status == 400
    call = Call("GET", "chat.googleapis.com/v1/spaces", {}, {"authorization": "Bearer é"}, {})
    assert (await CHAT.reply(call, mailbox)).status == 401
