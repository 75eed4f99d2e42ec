"""What stands in for Telegram's Bot API, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.messengers import mailbox as mailboxes
from chowder_local.messengers.mailbox import MessageKind, as_read
from chowder_local.messengers.stand_in import Call
from chowder_local.messengers.telegram import Telegram, bot_token

if TYPE_CHECKING:
    from chowder_local.messengers.mailbox import Mailbox
    from tests.scripted.world import World

TELEGRAM = Telegram()
ADA = int(TELEGRAM.sender("Ada"))
PNG = b"\x89PNG\r\n"


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.messengers.mailbox(await world.placed(InstanceStatus.RUNNING), "telegram")


async def call(mailbox: Mailbox, method: str, **form: Any) -> Any:
    path = f"bot{bot_token(mailbox.secret)}/{method}"
    reply = await TELEGRAM.reply(Call("POST", path, {}, {}, form), mailbox)
    answer = json.loads(reply.body)
    assert answer["ok"] is (reply.status == 200)
    return answer.get("result", answer)


async def updates(mailbox: Mailbox, offset: int = 0) -> list[dict[str, Any]]:
    return [each["message"] for each in await call(mailbox, "getUpdates", offset=offset)]


async def test_a_message_goes_to_the_agent_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    first = await mailbox.add("person", person="Ada", text="Hello")
    (update,) = await updates(mailbox)
    assert (update["from"]["id"], update["chat"]["type"], update["text"]) == (
        ADA,
        "private",
        "Hello",
    )
    # The next offset is the receipt.
    assert await updates(mailbox, first.id + 1) == []
    assert mailbox.messages[0].is_delivered

    await call(mailbox, "sendChatAction", chat_id=ADA, action="typing")
    await call(mailbox, "sendChatAction", chat_id=ADA, action="typing")
    sent = await call(mailbox, "sendMessage", chat_id=ADA, text="H")
    await call(mailbox, "editMessageText", chat_id=ADA, message_id=sent["message_id"], text="Hi")
    await call(mailbox, "sendMessage", chat_id=ADA, text="a mistake")
    mistake = mailbox.messages[-1].id
    await call(mailbox, "deleteMessage", chat_id=ADA, message_id=mistake)
    reaction = [{"type": "emoji", "emoji": "👍"}]
    await call(mailbox, "setMessageReaction", chat_id=ADA, message_id=first.id, reaction=reaction)
    after = mailbox.after(first.id)
    kinds = [each.kind.value for each in after]
    assert kinds == ["typing", "message", "edit", "message", "deletion", "reaction"]
    assert [each.text for each in as_read(after)] == ["Hi"]
    assert (after[-1].text, after[-1].of) == ("👍", first.id)


async def test_a_message_that_the_agent_has_not_acknowledged_comes_again(mailbox: Mailbox) -> None:
    for text in ("One", "Two"):
        await mailbox.add("person", person="Ada", text=text)
    assert [each["text"] for each in await updates(mailbox)] == ["One", "Two"]
    first = mailbox.messages[0].id
    assert [each["text"] for each in await updates(mailbox, first + 1)] == ["Two"]


async def test_a_group_has_its_members_topics_and_mentions(mailbox: Mailbox) -> None:
    text = "🐟 @agent_bot Hello"
    await mailbox.add("person", person="Ada", group="Team", thread="Plans", text=text)
    (update,) = await updates(mailbox)
    chat = update["chat"]
    assert (chat["type"], chat["title"], chat["is_forum"]) == ("supergroup", "Team", True)
    assert update["entities"] == [{"type": "mention", "offset": 3, "length": 10}]
    place = {"chat_id": chat["id"], "message_thread_id": update["message_thread_id"]}
    await call(mailbox, "sendMessage", text="Hi", **place)
    answer = mailbox.messages[-1]
    assert (answer.group, answer.thread, answer.person) == ("Team", "Plans", None)


async def test_a_picture_is_fetched_by_the_agent_only(mailbox: Mailbox) -> None:
    await mailbox.add("person", PNG, person="Ada", text="Look", image_type="image/png")
    (update,) = await updates(mailbox)
    assert update["caption"] == "Look"
    file = await call(mailbox, "getFile", file_id=update["photo"][0]["file_id"])
    path = f"file/bot{bot_token(mailbox.secret)}/{file['file_path']}"
    reply = await TELEGRAM.reply(Call("GET", path, {}, {}, {}), mailbox)
    assert (reply.status, reply.body, reply.content_type) == (200, PNG, "image/png")
    stranger = await TELEGRAM.reply(
        Call("GET", f"file/bot1:x/{file['file_path']}", {}, {}, {}), mailbox
    )
    assert stranger.status == 401


@pytest.mark.parametrize(
    ("method", "form", "status"),
    [
        ("sendMessage", {"chat_id": 1, "text": "to a stranger"}, 400),
        ("sendMessage", {"text": "to nobody"}, 400),
        ("sendMessage", {"chat_id": "9" * 5000, "text": "x"}, 400),
        ("getUpdates", {"offset": {"a": 1}}, 400),
        ("getFile", {"file_id": [[]]}, 400),
        ("editMessageText", {"chat_id": ADA, "message_id": "NaN"}, 400),
    ],
)
async def test_what_does_not_fit_is_refused_as_telegram_does(
    mailbox: Mailbox, method: str, form: dict[str, Any], status: int
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    answer = await call(mailbox, method, **form)
    assert (answer["error_code"], answer["ok"]) == (status, False)


async def test_what_an_agent_sends_is_bounded(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MESSAGES", 3)
    monkeypatch.setattr(mailboxes, "MORE_MESSAGES", 1)
    await mailbox.add("person", person="Ada", text="Hello")
    await call(mailbox, "sendMessage", chat_id=ADA, text="x" * 1_000_000)
    assert len(mailbox.messages[-1].text or "") == mailboxes.MAX_TEXT_CHARS
    assert mailbox.messages[-1].payload == {}
    for _ in range(8):
        await call(mailbox, "sendMessage", chat_id=ADA, text="again")
    assert len(mailbox.messages) <= 4
    kept = [each.id for each in mailbox.messages]
    await mailbox.load()
    assert [each.id for each in mailbox.messages] == kept


async def test_all_that_an_agent_sends_together_is_bounded(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_CHARS", 10_000)
    await mailbox.add("person", person="Ada", text="Hello")
    for _ in range(20):
        await call(mailbox, "sendMessage", chat_id=ADA, text="x" * 1000)
        if mailbox.messages[0].author == "agent":
            # Nobody is known any more to whom it could write.
            break
    assert sum(each.chars for each in mailbox.messages) <= 10_000
    kept = [each.id for each in mailbox.messages]
    await mailbox.load()
    assert [each.id for each in mailbox.messages] == kept


async def test_numbers_grow_after_all_messages_were_removed(mailbox: Mailbox) -> None:
    last = await mailbox.add("person", person="Ada", text="Hello")
    await mailbox.clear()
    await mailbox.load()
    assert not mailbox.messages
    assert (await mailbox.add("person", person="Ada", text="Hello")).id > last.id
    assert mailbox.messages[-1].kind is MessageKind.MESSAGE
