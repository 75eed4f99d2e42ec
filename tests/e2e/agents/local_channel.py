"""A channel of an agent in the local messenger, and the people who write in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import httpx

    from tests.e2e.api import Api

ANSWER_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 180.0
"""For a machine that does much else."""
CODE = re.compile(r"\b[A-HJ-NP-Z2-9]{8}\b")
LONG = " ".join(f"word{number:04d}" for number in range(1200))
"""More than any messenger takes in one message."""
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElF"
    "TkSuQmCC"
)


@dataclass(frozen=True)
class LocalChannel:
    api: Api
    instance_id: str
    name: str

    @property
    def path(self) -> str:
        return f"../local/instances/{self.instance_id}/channels/{self.name}"

    def connect(self, **config: Any) -> httpx.Response:
        path = f"instances/{self.instance_id}/channels/{self.name}/connect"
        return self.api.post(path, json={"config": config}, timeout=CONNECT_TIMEOUT_S)

    def connect_offline(self) -> None:
        answer = self.connect(offline=True)
        assert answer.status_code == 200, answer.text
        # WhatsApp's code scans itself; what is said meanwhile waits.
        assert answer.json()["status"] in {"connected", "awaiting_scan"}

    def write(self, person: str, text: str) -> int:
        """Says something without waiting for the answer; returns the message's number."""
        result = self.api.post(f"{self.path}/messages", json={"from": person, "text": text})
        assert result.status_code == 201, result.text
        number: int = result.json()["message"]["id"]
        return number

    def answers(self, person: str, text: str, **more: Any) -> list[str]:
        """The texts that the agent answers a person, where that person has written."""
        body = {"from": person, "text": text, "wait_s": ANSWER_TIMEOUT_S, **more}
        result = self.api.post(f"{self.path}/messages", json=body, timeout=2 * ANSWER_TIMEOUT_S)
        assert result.status_code == 201, result.text
        found = result.json()["answers"]
        assert found, result.text
        place = {"group": more.get("group"), "thread": more.get("thread")}
        assert all(place == {name: each[name] for name in place} for each in found), found
        return [each["text"] for each in found]

    def say(self, person: str, text: str, **more: Any) -> str:
        return "\n".join(self.answers(person, text, **more))

    def say_late(self, person: str) -> None:
        """Says two things, of which the first is answered after the second was said."""
        self.script(
            {"match": {"equals": "How many?"}, "reply": {"text": "Three.", "delay_s": 4}},
            {"match": {"equals": "Which?"}, "reply": {"text": "Blue."}},
        )
        said = self.api.post(
            f"{self.path}/messages", json={"from": person, "text": "How many?", "wait_s": 2}
        )
        assert said.json()["answers"] == []
        assert self.say(person, "Which?") == "Blue."
        assert [each["text"] for each in self.messages() if each["text"] == "Three."]

    def code_for(self, person: str, *, is_sent: bool = True) -> str:
        """The pairing code that a stranger gets, which is the only one that waits."""
        if not is_sent:
            self.write(person, "Is anybody there?")
            return eventually(self._first_code, "somebody waits")
        given = CODE.search(self.say(person, "Is anybody there?"))
        assert given
        assert self._first_code() == given[0]
        return given[0]

    def _first_code(self) -> str | None:
        waiting = self.api.get(f"{self.path}/pairings").json()
        assert len(waiting) <= 1
        return waiting[0]["code"] if waiting else None

    def script(self, *rules: dict[str, Any]) -> None:
        """Sets the agent's scripted replies; without any, none are left."""
        path = f"../local/instances/{self.instance_id}/replies"
        assert self.api.put(path, json={"replies": rules}).status_code == 200

    def messages(self, **query: str | int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"{self.path}/messages", params=query).json()
        return found

    def disconnect(self) -> None:
        path = f"instances/{self.instance_id}/channels/{self.name}/disconnect"
        assert self.api.post(path).status_code == 204
        refused = self.api.post(f"{self.path}/messages", json={"from": "Ada", "text": "Hi"})
        assert refused.status_code == 409
