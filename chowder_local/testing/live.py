"""What a test holds in its hand: an organization, its instances, and what their model says."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from chowder_local.client import Client
from chowder_local.domain import OFFLINE_KEY, ModelProvider, Tier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from chowder_local.calls.transport import Json

DEFAULT_MODEL = "claude-sonnet-4-20250514"
SHOWN_CALLS = 20
SHOWN_LINES = 60
SHOWN_SESSIONS = 3
SHOWN_TURNS = 20


class LiveOrganization:
    """An organization for tests, with the offline model for every provider.

    `base_url` and `key` are for an SDK of your own choice, `client` has the calls as methods.
    """

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key
        self.base_url = client.base_url

    @classmethod
    @contextmanager
    def signed_up(cls, base_url: str, name: str, env: Mapping[str, str]) -> Iterator[Self]:
        """A new one with any number of instances, of which none is left at the end.

        Its model keys are those of the environment, as for `chowder-local up`.
        """
        with Client(base_url) as anyone:
            key = anyone.signup(name)["api_key"]
        with Client(base_url, key) as client:
            client.set_model_keys(
                {each: env.get(f"{each.upper()}_API_KEY") or OFFLINE_KEY for each in ModelProvider}
            )
            client.move(Tier.WHALE)
            try:
                yield cls(client, key)
            finally:
                client.reset()

    def create_instance(self, name: str = "test", **options: Any) -> LiveInstance:
        """A new instance, running; `options` are those of `Client.create_instance`.

        Raises BootFailed.
        """
        made = self.client.create_instance(name, **options)
        return LiveInstance(self.client, self.client.wait_until_running(made["id"]), self.key)


class LiveInstance:
    """A running instance; `base_url` leads an SDK to its main session, with `key`."""

    def __init__(self, client: Client, instance: Json, key: str) -> None:
        self.client = client
        self.id: str = instance["id"]
        self.name: str = instance["name"]
        self.key = key
        self.base_url = f"{client.base_url}/instances/{self.id}"
        self.replies = Replies(client, self.id)

    def session_url(self, session: str) -> str:
        """What leads an SDK to a session of any name."""
        return f"{self.base_url}/session/{quote(session, safe='')}"

    def respond(
        self,
        input: str | Sequence[Mapping[str, Any]],  # noqa: A002 - the contract's word
        session: str | None = None,
        model: str = DEFAULT_MODEL,
    ) -> Json:
        """Sends a message and gives the whole answer, an OpenAI Responses resource."""
        return self.client.respond(self.id, input, model, session)

    def say(self, text: str, session: str | None = None, model: str = DEFAULT_MODEL) -> str:
        """Sends a message and gives the answer's text."""
        return "".join(
            part["text"]
            for item in self.respond(text, session, model)["output"]
            if item["type"] == "message"
            for part in item["content"]
            if part["type"] == "output_text"
        )

    def fork(self, name: str | None = None) -> LiveInstance:
        """A new instance that is as this one is now: conversations, files, configuration.

        Raises BootFailed.
        """
        made = self.client.fork(self.id, name or f"{self.name} (fork)")
        return LiveInstance(self.client, self.client.wait_until_running(made["id"]), self.key)

    def transcript(self, session: str | None = None) -> list[Json]:
        """The last hundred messages of a session; each turn has `role` and `text`."""
        return list(self.client.transcript(self.id, session)["turns"])

    def exchanges(self) -> list[Json]:
        """What its models were asked and said, whole, the first of them first."""
        listed = self.client.exchanges(self.id)
        return [self.client.exchange(each["id"]) for each in reversed(listed)]

    def delete(self) -> None:
        """Destroys it, with all its data."""
        self.client.delete(self.id)

    def report(self) -> Iterator[tuple[str, str]]:
        """What goes with the report of a test that has failed: what was said last and where, the
        model calls, and the log's end.
        """
        calls = [_told(each) for each in self.client.exchanges(self.id, SHOWN_CALLS)]
        for session in self.client.sessions(self.id)[:SHOWN_SESSIONS]:
            said = self.client.transcript(self.id, key=session["key"], limit=SHOWN_TURNS)["turns"]
            if said:
                where = session["name"] or session["key"]
                yield f"said to {self.name} in {where}", "\n".join(map(_said, said))
        yield f"model calls of {self.name}", "\n".join(reversed(calls)) or "none"
        yield f"log of {self.name}", "\n".join(self.client.logs(self.id, SHOWN_LINES))


class Replies:
    """What the offline model says to one instance; what no rule is about is an error."""

    def __init__(self, client: Client, instance_id: str) -> None:
        self._client = client
        self._instance_id = instance_id
        self._rules: list[Mapping[str, Any]] = []

    def add(self, reply: Any, *, times: int | None = None, **match: Any) -> None:
        """Adds a rule, which counts after those before it: `add("Sunny.", text="weather")`.

        `reply` is words, an answer, or a list of them; README has all that they and `match` may
        say.
        """
        rule = {"match": match, "reply": reply} | ({} if times is None else {"times": times})
        self.set([*self._rules, rule])

    def set(self, rules: Sequence[Mapping[str, Any]], unmatched: str = "fail") -> None:
        """Puts these rules in place of all earlier ones, and counts anew."""
        self._rules = list(rules)
        script = {"unmatched": unmatched, "replies": self._rules}
        self._client.set_replies(script, self._instance_id)

    def load(self, path: Path) -> None:
        """The same with the rules of a file, and with what it says of all else."""
        from chowder_local.relay.replies.files import read

        script = read(path).model_dump(mode="json", exclude_unset=True)
        self.set(script.get("replies", []), script.get("unmatched", "offline"))

    def clear(self) -> None:
        """Leaves all to the offline model again."""
        self._rules = []
        self._client.clear_replies(self._instance_id)

    @property
    def used(self) -> list[int]:
        """How often each rule has counted."""
        return list(self._own()["used"])

    @property
    def unmatched(self) -> list[Json]:
        """What no rule was about, the first of it first."""
        return list(self._own()["unmatched"])

    @property
    def misses(self) -> list[str]:
        """The same in words, if it is an error."""
        found = self._own()
        if found["script"].get("unmatched") != "fail":
            return []
        return [json.dumps(each, ensure_ascii=False) for each in found["unmatched"]]

    def _own(self) -> Json:
        found: Json | None = self._client.replies(self._instance_id)["own"]
        return found or {"script": {}, "used": [], "unmatched": []}


def _said(turn: Json) -> str:
    words = turn["text"] if turn["name"] is None else f"{turn['name']} {turn['text'] or ''}"
    return f"{turn['role']}: {words}"


def _told(call: Json) -> str:
    outcome = call["outcome"] or "goes on"
    words = f": {call['error']}" if call["error"] else ""
    where = call["session"] or call["session_key"] or "no session"
    return f"{call['id']} {call['at']} {where}: {call['source']}, {outcome}{words}"
