"""A stand-in for Telegram's Bot API, on a socket that sandboxes reach."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.on_host import Asked, OnHost

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "123456:planted-bot-token-9e17c4"
LONGEST_POLL_S = 1.0
BOT: dict[str, Any] = {"id": 123456, "is_bot": True, "first_name": "Bot", "username": "the_bot"}


@dataclass(frozen=True)
class Call:
    """A call of a method that the bot made."""

    method: str
    params: dict[str, Any]


class BotApi(OnHost):
    """Has one bot, and people who write to it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._updates: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._is_closing = False

    def closing(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def write(self, person: int, text: str, group: int = 0) -> None:
        """A private message to the bot, or one in a group that begins with a mention of it."""
        with self._changed:
            number = len(self._updates) + 1
            message = {
                "message_id": number,
                "date": int(time.time()),
                "chat": {"id": person, "type": "private", "first_name": "Ada"},
                "from": {"id": person, "is_bot": False, "first_name": "Ada"},
                "text": text,
            }
            if group:
                mention = {"type": "mention", "offset": 0, "length": 1 + len(BOT["username"])}
                message["chat"] = {"id": group, "type": "supergroup", "title": "Team"}
                message["entities"] = [mention]
            self._updates.append({"update_id": number, "message": message})
            self._changed.notify_all()

    def texts(self, chat: int) -> list[str]:
        """What the bot has written to a person or in a group."""
        return [
            str(call.params["text"])
            for call in self.calls
            if str(call.params.get("chat_id")) == str(chat) and "text" in call.params
        ]

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        _, bot, method = asked.path.split("/", 2)
        is_json = "json" in asked.content_type
        params = json.loads(asked.body) if asked.body and is_json else {}
        status, result = self._done(bot.removeprefix("bot"), method, params)
        said = {"ok": True, "result": result}
        if status != 200:
            said = {"ok": False, "error_code": status, "description": result}
        return status, json.dumps(said).encode()

    def _done(self, token: str, method: str, params: dict[str, Any]) -> tuple[int, Any]:
        if token != TOKEN:
            return 401, "Unauthorized"
        if method == "getMe":
            return 200, BOT
        if method == "getUpdates":
            return 200, self._poll(int(params.get("offset") or 0))
        self.calls.append(Call(method, params))
        if method.startswith(("send", "edit")) and "chat_id" in params:
            chat = {"id": int(params["chat_id"]), "type": "private"}
            number = 1000 + len(self.calls)
            return 200, {"message_id": number, "date": int(time.time()), "chat": chat}
        return 200, True

    def _poll(self, offset: int) -> list[dict[str, Any]]:
        def unseen() -> Iterator[dict[str, Any]]:
            return (each for each in self._updates if each["update_id"] >= offset)

        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or any(unseen()), LONGEST_POLL_S)
            return list(unseen())
