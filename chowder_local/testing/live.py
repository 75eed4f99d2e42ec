"""The organization and the instances that a test works with."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from chowder_local.client import Client
from chowder_local.core.domain import OFFLINE_KEY, ModelProvider, Tier
from chowder_local.openclaw.models import DEFAULT_MODELS
from chowder_local.testing.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chowder_local.client.transport import Json

DEFAULT_MODEL = DEFAULT_MODELS[ModelProvider.ANTHROPIC]
SHOWN_CALLS = 20
SHOWN_LINES = 60
SHOWN_SESSIONS = 3
SHOWN_TURNS = 20


class LiveOrganization:
    """An organization for tests, with the offline model for every provider.

    `base_url` and `key` are for an SDK of your own choice, `client` has the calls as methods.
    `replies` is what the model says to all of its instances, and `instances` are those that were
    made by it and not deleted.
    """

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key
        self.base_url = client.base_url
        self.replies = Replies(client)
        self.instances: list[LiveInstance] = []
        self.on_instance: Callable[[LiveInstance], None] | None = None
        """Called with each new instance, once it runs."""

    @classmethod
    @contextmanager
    def signed_up(cls, base_url: str, name: str, env: Mapping[str, str]) -> Iterator[Self]:
        """A new one with any number of instances, of which none is left at the end.

        Its model keys are those of the environment, as for `chowder-local up`.
        """
        with Client(base_url) as client:
            key = client.signup(name)["api_key"]
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
        return self.adopt(self.client.create_instance(name, **options)["id"])

    def adopt(self, instance_id: str) -> LiveInstance:
        """An instance that the API has made, once it runs. Raises BootFailed."""
        resource = self.client.wait_until_running(instance_id)
        instance = LiveInstance(self.client, resource, self.key, self)
        self.instances.append(instance)
        if self.on_instance is not None:
            self.on_instance(instance)
        return instance


class LiveInstance:
    """A running instance; `base_url` leads an SDK to its main session, with `key`."""

    def __init__(
        self, client: Client, instance: Json, key: str, organization: LiveOrganization
    ) -> None:
        self.client = client
        self.id: str = instance["id"]
        self.name: str = instance["name"]
        self.key = key
        self.base_url = f"{client.base_url}/instances/{self.id}"
        self.replies = Replies(client, self.id)
        self.created_at = datetime.fromisoformat(instance["created_at"])
        self._organization = organization

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
        return self._organization.adopt(made["id"])

    def transcript(self, session: str | None = None) -> list[Json]:
        """The last hundred messages of a session; each turn has `role` and `text`."""
        return list(self.client.transcript(self.id, session)["turns"])

    def exchanges(self) -> list[Json]:
        """Its model calls with requests and answers, the first of them first."""
        listed = self.client.exchanges(self.id)
        return [self.client.exchange(each["id"]) for each in reversed(listed)]

    def delete(self) -> None:
        self.client.delete(self.id)
        self._organization.instances.remove(self)

    @property
    def is_there(self) -> bool:
        """Whether it was not deleted by `delete`."""
        return self in self._organization.instances

    def report(self, since: datetime) -> Iterator[tuple[str, str]]:
        """What goes with the report of a test that began then and has failed: what was said
        meanwhile and where, the model calls, and the log's end.

        Nothing of an instance that is older and had no model call meanwhile.
        """
        listed = self.client.exchanges(self.id)
        calls = [each for each in listed if datetime.fromisoformat(each["at"]) >= since]
        if not calls and self.created_at < since:
            return
        keys = {each["session_key"]: each["session"] for each in calls if each["session_key"]}
        for key, session in list(keys.items())[:SHOWN_SESSIONS]:
            turns = self.client.transcript(self.id, key=key, limit=SHOWN_TURNS)["turns"]
            new = [_describe_turn(each) for each in turns if _is_since(each, since)]
            if new:
                yield f"said to {self.name} in {session or key}", "\n".join(new)
        described = [_describe_call(each) for each in reversed(calls[:SHOWN_CALLS])]
        yield f"model calls of {self.name}", "\n".join(described) or "none"
        yield f"log of {self.name}", "\n".join(self.client.logs(self.id, SHOWN_LINES))


def _is_since(turn: Json, since: datetime) -> bool:
    return turn["at"] is None or datetime.fromisoformat(turn["at"]) >= since


def _describe_turn(turn: Json) -> str:
    text = turn["text"] if turn["name"] is None else f"{turn['name']} {turn['text'] or ''}"
    return f"{turn['role']}: {text}"


def _describe_call(call: Json) -> str:
    outcome = call["outcome"] or "goes on"
    error = f": {call['error']}" if call["error"] else ""
    session = call["session"] or call["session_key"] or "no session"
    return f"{call['id']} {call['at']} {session}: {call['source']}, {outcome}{error}"
