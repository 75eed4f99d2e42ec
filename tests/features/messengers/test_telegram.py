"""What stands in for Telegram's Bot API, as OpenClaw's plugin and a hostile agent call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers import mailbox as mailboxes
from chowder_local.features.messengers.mailbox import AnswerProgress, MessageKind, as_read
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import Call
from chowder_local.features.messengers.telegram import Telegram, bot_token

if TYPE_CHECKING:
    from chowder_local.features.messengers.mailbox import Mailbox
    from tests.scripted.world import World

TELEGRAM = Telegram()
ADA = int(TELEGRAM.sender("Ada"))
PNG = b"\x89PNG\r\n"


@pytest.fixture
async def mailbox(world: World) -> Mailbox:
    return await world.feature(Messengers).mailbox(
        await world.placed(InstanceStatus.RUNNING), "telegram"
    )


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
        ("sendMediaGroup", {"chat_id": ADA, "media": "[{"}, 400),
        ("sendMediaGroup", {"chat_id": ADA, "media": [{"type": "photo"}] * 11}, 400),
        ("sendEverything", {"chat_id": ADA, "text": "x"}, 404),
    ],
)
async def test_what_does_not_fit_is_refused_as_telegram_does(
    mailbox: Mailbox, method: str, form: dict[str, Any], status: int
) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    answer = await call(mailbox, method, **form)
    assert len(mailbox.messages) == 1
    assert (answer["error_code"], answer["ok"]) == (status, False)


@pytest.mark.parametrize(
    ("method", "form", "description"),
    [
        ("sendMessage", {"text": ""}, "message text is empty"),
        ("sendMessage", {}, "message text is empty"),
        ("sendMessage", {"text": "<b> </b>", "parse_mode": "HTML"}, "text must be non-empty"),
        ("sendMessage", {"text": "x" * 4097}, "message is too long"),
        ("sendMessage", {"text": "x" * 32_769}, "text is too long"),
        ("sendPhoto", {"photo": "1", "caption": "x" * 1025}, "message caption is too long"),
        ("sendMessage", {"text": "x", "parse_mode": "rtf"}, "unsupported parse_mode"),
        ("editMessageText", {"message_id": 999, "text": "x"}, "message to edit not found"),
        ("editMessageText", {"message_id": 1, "text": "x"}, "message can't be edited"),
        ("deleteMessage", {"message_id": 999}, "message to delete not found"),
        ("setMessageReaction", {"message_id": 999}, "message to react not found"),
        ("createForumTopic", {"name": "Plans"}, "not enough rights to create a topic"),
    ],
)
async def test_the_plugin_gets_telegrams_own_errors(
    mailbox: Mailbox, method: str, form: dict[str, Any], description: str
) -> None:
    first = await mailbox.add("person", person="Ada", text="Hello")
    assert first.id == 1
    answer = await call(mailbox, method, chat_id=ADA, **form)
    assert answer["description"] == f"Bad Request: {description}"
    assert [each.id for each in mailbox.messages] == [first.id]


async def test_a_message_is_as_long_as_what_people_read(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    await call(mailbox, "sendMessage", chat_id=ADA, text="&lt;" * 4096, parse_mode="HTML")
    assert mailbox.messages[-1].text == "<" * 4096


async def test_an_edit_changes_something_that_is_there(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    await mailbox.add("person", person="Bob", text="Hello")
    sent = await call(mailbox, "sendMessage", chat_id=ADA, text="Hi")

    async def edit(**form: Any) -> str:
        form = {"chat_id": ADA, "message_id": sent["message_id"], **form}
        answer = await call(mailbox, "editMessageText", **form)
        return str(answer.get("description", ""))

    bold = {"text": "<b>Hi</b>", "parse_mode": "HTML"}
    assert "message is not modified: " in await edit(text="Hi", parse_mode="HTML")
    assert await edit(**bold) == ""
    assert "message is not modified: " in await edit(**bold)
    assert await edit(**bold, reply_markup={"inline_keyboard": []}) == ""
    other_chat = int(TELEGRAM.sender("Bob"))
    assert "message to edit not found" in await edit(text="Hm", chat_id=other_chat)
    caption = {"chat_id": ADA, "message_id": sent["message_id"], "caption": "Hm"}
    answer = await call(mailbox, "editMessageCaption", **caption)
    assert "there is no caption in the message to edit" in answer["description"]
    poll = await call(mailbox, "sendPoll", chat_id=ADA, question="Which?")
    assert "there is no text in the message to edit" in await edit(
        text="Hm", message_id=poll["message_id"]
    )
    await call(mailbox, "deleteMessage", chat_id=ADA, message_id=sent["message_id"])
    assert "message to edit not found" in await edit(text="Hm")


async def test_a_topic_that_nobody_has_opened_is_not_found(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", group="Team", thread="Plans", text="Hello")
    (update,) = await updates(mailbox)
    place = {"chat_id": update["chat"]["id"], "message_thread_id": 7}
    answer = await call(mailbox, "sendMessage", text="Hi", **place)
    assert answer["description"] == "Bad Request: message thread not found"


async def test_people_read_an_answer_without_its_marks(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    source = 'Tom &amp; <b>Jerry</b> &nbsp; <a href="https://a.b/?x>1">here</a>'
    source += "<pre><code class='language-sh'>a &lt; b &#38;\n</code></pre>"
    sent = await call(mailbox, "sendMessage", chat_id=ADA, text=source, parse_mode="HTML")
    answer = mailbox.messages[-1]
    assert sent["text"] == answer.text == "Tom & Jerry &nbsp; herea < b &"
    assert answer.payload["text"] == source
    await call(mailbox, "sendMessage", chat_id=ADA, text=source)
    assert mailbox.messages[-1].text == source


async def test_an_answer_is_whole_without_what_its_messenger_hides(mailbox: Mailbox) -> None:
    progress = AnswerProgress(text="See [this](https://a.example/long):\n```python\nrun\n```")
    part = await mailbox.add("agent", person="Ada", text="See this")
    assert not progress.is_whole([part])
    assert progress.is_whole([part, await mailbox.add("agent", person="Ada", text="run")])


async def test_people_read_the_text_of_a_rich_message(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    blocks = [
        {"type": "heading", "text": ["To ", {"type": "bold", "text": "do"}]},
        {"type": "list", "items": [{"blocks": [{"type": "paragraph", "text": "Rest"}]}]},
    ]
    await call(mailbox, "sendRichMessage", chat_id=ADA, rich_message={"blocks": blocks})
    assert mailbox.messages[-1].text == "To do\nRest"


async def test_an_album_is_a_message_for_each_picture(mailbox: Mailbox) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    first = {"type": "photo", "media": "attach://0", "caption": "A &amp; B", "parse_mode": "HTML"}
    media = json.dumps([first, {"type": "photo", "media": "attach://1"}])
    sent = await call(mailbox, "sendMediaGroup", chat_id=ADA, media=media)
    pictures = list(mailbox.messages)[1:]
    assert [each.id for each in pictures] == [each["message_id"] for each in sent]
    assert [(each.text, each.image_type) for each in pictures] == [
        ("A & B", "photo"),
        (None, "photo"),
    ]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("é < b", 'Unsupported start tag "" at byte offset 3'),
        ("<br>", 'Unsupported start tag "br" at byte offset 0'),
        ("<!-- x -->", 'Unsupported start tag "!--" at byte offset 0'),
        ("a<b", "Unclosed start tag at byte offset 1"),
        ('<a href="x>y</a>', "Unclosed start tag at byte offset 0"),
        ("<i>x", 'Can\'t find end tag corresponding to start tag "i"'),
        ("</i>", "Unexpected end tag at byte offset 0"),
        ("<i>a</i ", "Unclosed end tag at byte offset 4"),
        ("<i>a</b>", 'Unmatched end tag at byte offset 4, expected "</i>", found "</b>"'),
    ],
)
async def test_broken_html_is_refused(mailbox: Mailbox, source: str, error: str) -> None:
    await mailbox.add("person", person="Ada", text="Hello")
    form = {"chat_id": ADA, "text": source, "parse_mode": "HTML"}
    answer = await call(mailbox, "sendMessage", **form)
    assert answer["description"] == f"Bad Request: can't parse entities: {error}"
    assert len(mailbox.messages) == 1


async def test_what_an_agent_sends_is_bounded(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MESSAGES", 3)
    monkeypatch.setattr(mailboxes, "MORE_MESSAGES", 1)
    await mailbox.add("person", person="Ada", text="Hello")
    long = "x" * 1_000_000
    await mailbox.add("agent", person="Ada", text=long, payload={"text": long})
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
