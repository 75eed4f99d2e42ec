"""The organization and the instances of a test."""

from __future__ import annotations

import time
import warnings
from base64 import b64encode
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from threading import Event
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from chowder_local.client import Client
from chowder_local.core.domain import MAIN_SESSION, OFFLINE_KEY, ModelProvider, Tier
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.wording import MOMENT_S, progress_lines
from chowder_local.openclaw.models import DEFAULT_MODELS
from chowder_local.relay.prompt_format import PREFIX as FAILURE_MARKER
from chowder_local.testing.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chowder_local.client.transport import Json

__tracebackhide__ = True

Result = TypeVar("Result")

DEFAULT_MODEL = DEFAULT_MODELS[ModelProvider.ANTHROPIC]
LOGGED_FAILURES = (FAILURE_MARKER, "provider rejected the request schema")
"""What OpenClaw's log has instead of the failure of a model call, which the report shows itself."""
WAIT_S = 60.0
LONGEST_WAIT_S = 25.0
"""Of one call, which may then be repeated."""
MAX_CALLS = 20
CHANNEL_WAIT_S = 60.0
"""For how long a person waits for an answer."""
POLL_S = 20.0
DECISION_POLL_S = 0.05
ALLOW = "allow_once"
MAX_LINES = 60
MAX_SESSIONS = 3
MAX_TURNS = 20
MOVED_S = 1.0


@dataclass(eq=False, repr=False)
class LiveOrganization:
    """An organization for tests, with the offline model for every provider.

    `base_url` and `key` are for an SDK, and `client` has all calls as methods. `replies` is the
    script for all instances of the organization. `instances` are those that it created and that
    `LiveInstance.delete` has not deleted.
    """

    client: Client
    key: str

    def __post_init__(self) -> None:
        self.base_url = self.client.base_url
        self.replies = Replies(self.client)
        self.instances: list[LiveInstance] = []
        self.say: Callable[[str], None] = lambda _: None
        """A function that is called with what takes longer than a moment, such as a boot."""
        self.on_instance: list[Callable[[LiveInstance], None]] = []
        """Functions that are called with each new instance, once it runs."""
        self.waits: list[tuple[str, float]] = []
        """What tests waited for (`create`, `fork`, `restore`, `start`), and the seconds."""

    @classmethod
    @contextmanager
    def sign_up(cls, base_url: str, name: str, env: Mapping[str, str]) -> Iterator[Self]:
        """Signs up an organization of tier whale, and resets it at the end.

        `env` may have its model keys, in the variables that `chowder-local up` reads.
        """
        with Client(base_url) as client:
            key = client.signup(name)["api_key"]
        with Client(base_url, key) as client:
            client.set_model_keys(
                {each: env.get(f"{each.upper()}_API_KEY") or OFFLINE_KEY for each in ModelProvider}
            )
            client.set_tier(Tier.WHALE)
            # One test's agent is another's business, so forks in a row need no boot each.
            client.set_organization_settings(reuses_sandboxes=True)
            try:
                yield cls(client, key)
            finally:
                client.reset()

    def create_instance(self, name: str = "test", **options: Any) -> LiveInstance:
        """Creates an instance and waits until it runs; `options` are those of
        `Client.create_instance`.

        Raises BootFailed if it fails, and BootTimedOut if it does not run in time.
        """
        with self.waiting("create"):
            return self._adopt(self.client.create_instance(name, **options))

    @contextmanager
    def waiting(self, kind: str) -> Iterator[None]:
        """Notes how long the block takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waits.append((kind, time.monotonic() - began))

    def adopt(self, instance_id: str) -> LiveInstance:
        """Adds an instance that was created by the API, once it runs.

        Raises BootFailed if it fails, and BootTimedOut if it does not run in time.
        """
        return self._adopt(self.client.instance(instance_id))

    def wait(self, instance_id: str, name: str) -> Json:
        """Waits until the instance runs, and says so after a moment. Raises as `adopt` does."""
        with progress_lines(self.say, f"{name} is provisioning", MOMENT_S) as update:
            return self.client.wait_until_running(
                instance_id, on_status=lambda status: update(f"{name} is {status}")
            )

    def _adopt(self, resource: Json) -> LiveInstance:
        resource = self.wait(resource["id"], resource["name"])
        instance = LiveInstance(self.client, resource, self.key, self)
        self.instances.append(instance)
        for call in self.on_instance:
            call(instance)
        return instance


@dataclass(frozen=True)
class LiveClock:
    """The clock of an instance: the machine's until it is set."""

    client: Client
    instance_id: str

    @property
    def now(self) -> datetime:
        """The agent's time."""
        return datetime.fromisoformat(self.client.clock(self.instance_id)["now"])

    def set(
        self,
        at: datetime | str | None = None,
        *,
        frozen: bool | None = None,
        seed: int | None = None,
    ) -> Json:
        """Sets the clock; what is left out stays. A text is a time with its zone, in ISO 8601."""
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        return self.client.set_clock(self.instance_id, at, frozen, seed)

    def reset(self) -> None:
        """Gives the agent the machine's time, and random ids."""
        self.client.reset_clock(self.instance_id)

    def advance(
        self,
        by: str | None = None,
        *,
        until: datetime | str | None = None,
        to: str | None = None,
        limit: int | None = None,
    ) -> list[Json]:
        """Moves the clock on by a duration such as `25h`, until a time, or to `next_job`.

        Each job that falls due runs at its time. Returns the runs; each has `job`, `due_at`,
        `began_at`, `outcome` and `answer`.
        """
        if isinstance(until, str):
            until = datetime.fromisoformat(until)
        limits = {} if limit is None else {"limit": limit}
        moved = self.client.advance_clock(self.instance_id, by=by, until=until, to=to, **limits)
        return list(moved["runs"])


@dataclass(frozen=True)
class ChannelAnswers:
    """What a person said in a channel, and what the agent had answered when the wait ended."""

    message: Json
    answers: list[Json]

    @property
    def answer(self) -> str:
        """The text of all answers."""
        return "\n".join(each["text"] or "" for each in self.answers)


@dataclass(frozen=True)
class LivePerson:
    """A person who writes to the agent in a channel, in private or in a group."""

    messenger: LiveMessenger
    name: str
    group: str | None = None
    is_approved: bool = False

    def say(
        self,
        text: str = "",
        *,
        thread: str | None = None,
        image: bytes | None = None,
        wait_s: float = CHANNEL_WAIT_S,
    ) -> ChannelAnswers:
        """Says something, and waits until the agent has answered, or for `wait_s`."""
        result = self.messenger.client.say_in_channel(
            self.messenger.instance_id,
            self.messenger.channel,
            self.name,
            text,
            self.group,
            thread,
            None if image is None else b64encode(image).decode(),
            approve=self.is_approved,
            wait_s=wait_s,
        )
        return ChannelAnswers(result["message"], result["answers"])

    def approve(self) -> Self:
        """The same person, approved, so that the agent answers instead of giving a code."""
        return replace(self, is_approved=True)


@dataclass(frozen=True)
class LiveMessenger:
    """A channel of an instance that is connected to the local messenger."""

    client: Client
    instance_id: str
    channel: str

    def person(self, name: str) -> LivePerson:
        """A person who writes to the agent in private; who need not exist before."""
        return LivePerson(self, name)

    def group(self, name: str, person: str = "Ada") -> LivePerson:
        """A person who writes in a group."""
        return LivePerson(self, person, name)

    def approve(self, code: str) -> None:
        """Approves the person who got the pairing code."""
        self.client.approve_pairing(self.instance_id, self.channel, code)

    def messages(self, after: int = 0) -> list[Json]:
        """What people and the agent have said, oldest first."""
        return self.client.channel_messages(self.instance_id, self.channel, after=after)

    def wait_for(self, text: str, after: int = 0, wait_s: float = CHANNEL_WAIT_S) -> Json:
        """The first message of the agent that contains a text. Raises TimeoutError."""
        ends_s = time.monotonic() + wait_s
        while (left_s := ends_s - time.monotonic()) > 0:
            for each in self.client.channel_messages(
                self.instance_id, self.channel, after=after, wait_s=min(left_s, POLL_S)
            ):
                after = each["id"]
                if each["author"] == "agent" and text in (each["text"] or ""):
                    return each
        raise TimeoutError(f"The agent said nothing with {text!r} in {self.channel}.")


@dataclass(frozen=True)
class LiveHeldCall:
    """A model call that is held; `request` is its body."""

    client: Client
    id: str
    request: Json

    def resume(self, request: Json | None = None) -> None:
        """Lets it go on, as it is or with another body."""
        self.client.resume_call(self.id, request)

    def answer(self, reply: str | Mapping[str, Any]) -> None:
        """Answers in the model's place: a text, or an action of a reply script."""
        self.client.resume_call(self.id, reply=reply)

    def fail(self, status: int = 500, message: str | None = None) -> None:
        """Answers with an error of the provider."""
        error = {"error": status} if message is None else {"error": status, "message": message}
        self.client.resume_call(self.id, reply=error)


class LiveHold:
    """The breakpoint of an instance, which holds its model calls."""

    def __init__(self, instance: LiveInstance) -> None:
        self._instance = instance
        self._threads = ThreadPoolExecutor(thread_name_prefix="held")

    def say(self, text: str, session: str | None = None, model: str = DEFAULT_MODEL) -> Future[str]:
        """Sends a message in a thread, as its calls may be held; `result()` is the answer."""
        return self._threads.submit(self._instance.say, text, session, model)

    def wait(self, timeout_s: float = WAIT_S) -> LiveHeldCall:
        """The instance's call that is held the longest. Raises TimeoutError if there is none."""
        client, until_s = self._instance.client, time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            held = client.held_calls(self._instance.id, min(left_s, LONGEST_WAIT_S))
            if held:
                call_id = held[0]["id"]
                return LiveHeldCall(client, call_id, client.model_call(call_id)["request"])
            if not left_s:
                raise TimeoutError(f"No model call was held within {timeout_s:g} s.")

    def end(self) -> None:
        """Removes the breakpoint, and lets go on what it holds."""
        client = self._instance.client
        if self._instance.is_there:
            client.remove_breakpoint(self._instance.id)
            for each in client.held_calls(self._instance.id):
                client.resume_call(each["id"])
        self._threads.shutdown()


class LiveApprovals:
    """Rules about the commands of an instance, which asks before each, from the first rule on.

    The first rule that matches decides, and a command that none matches runs. `decided` has each
    command with its decision, `allow_once` or `deny`.
    """

    def __init__(self, instance: LiveInstance) -> None:
        self._instance = instance
        self._rules: list[tuple[str, str]] = []
        self._others: list[LiveApprovals] = []
        self._former_ask: str | None = None
        self._is_over = Event()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="approvals")
        self.decided: list[tuple[str, str]] = []

    def allow(self, command: str = "*") -> None:
        """Lets commands run that match a pattern with wildcards such as `git *`."""
        self._add(command, ALLOW)

    def deny(self, command: str = "*") -> None:
        """Denies commands that match a pattern with wildcards such as `rm *`."""
        self._add(command, "deny")

    def for_instance(self, instance: LiveInstance) -> LiveApprovals:
        """Rules for another instance."""
        self._others.append(LiveApprovals(instance))
        return self._others[-1]

    def end(self) -> None:
        """Has the instance ask as before. Raises what has kept commands from being decided."""
        for each in self._others:
            each.end()
        if self._former_ask is None:
            return
        self._is_over.set()
        self._threads.shutdown()
        self._deciding.result()
        if self._instance.is_there:
            self._instance.client.set_approval_policy(self._instance.id, ask=self._former_ask)

    def _add(self, command: str, decision: str) -> None:
        self._rules.append((command, decision))
        if self._former_ask is None:
            client, instance_id = self._instance.client, self._instance.id
            self._former_ask = client.approval_policy(instance_id)["ask"]
            client.set_approval_policy(instance_id, ask="always")
            self._deciding = self._threads.submit(self._decide)

    def _decide(self) -> None:
        client, instance_id = self._instance.client, self._instance.id
        while not self._is_over.wait(DECISION_POLL_S) and self._instance.is_there:
            for each in client.approvals(instance_id):
                decision = next(
                    (
                        then
                        for pattern, then in self._rules
                        if fnmatchcase(each["command"], pattern)
                    ),
                    ALLOW,
                )
                # Before the agent goes on, or a test could look too early.
                self.decided.append((each["command"], decision))
                try:
                    client.decide_approval(instance_id, each["id"], decision)
                except ApiRefused as refused:
                    self.decided.pop()
                    # Its turn has ended meanwhile.
                    if refused.status != HTTPStatus.NOT_FOUND:
                        raise


class LiveMessages:
    """What an instance says without being asked; each has `text`, `kind`, `job` and `session`."""

    _member = "messages"

    def __init__(self, client: Client, instance_id: str) -> None:
        self.client = client
        self.instance_id = instance_id
        self._after = 0

    def _page(self, after: int, wait_s: float = 0.0) -> Json:
        return self.client.messages(self.instance_id, after=after, wait_s=wait_s)

    def list(self) -> list[Json]:
        """All that are kept, the oldest first."""
        return list(self._entries())

    def _entries(self) -> Iterator[Json]:
        after = 0
        while entries := (page := self._page(after))[self._member]:
            yield from entries
            after = page["after"]

    def wait(self, timeout_s: float = WAIT_S, **members: Any) -> Json:
        """The next one that no `wait` has returned, with these members, such as `kind="job"`.

        Raises TimeoutError, with what came instead.
        """
        until_s = time.monotonic() + timeout_s
        passed: list[Json] = []
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            found: list[Json] = self._page(self._after, min(left_s, LONGEST_WAIT_S))[self._member]
            for each in found:
                self._after = each["number"]
                if all(each[name] == value for name, value in members.items()):
                    return each
                passed.append(each)
            if not found and not left_s:
                raise TimeoutError(f"None came within {timeout_s:g} s. Others: {passed or 'none'}")


class LiveInbox(LiveMessages):
    """The webhooks that an instance sends; each has `method`, `path`, `headers` and `body`."""

    _member = "webhooks"

    def _page(self, after: int, wait_s: float = 0.0) -> Json:
        return self.client.inbox(self.instance_id, after=after, wait_s=wait_s)

    @property
    def url(self) -> str:
        """The address for the agent; anything may follow."""
        return str(self._page(0)["url"])

    def clear(self) -> None:
        """Removes the webhooks."""
        self.client.clear_inbox(self.instance_id)


class LiveInstance:
    """A running instance; `base_url` and `key` give an SDK its main session."""

    def __init__(
        self, client: Client, instance: Json, key: str, organization: LiveOrganization
    ) -> None:
        self.client = client
        self.id: str = instance["id"]
        self.name: str = instance["name"]
        self.key = key
        self.base_url = f"{client.base_url}/instances/{self.id}"
        self.replies = Replies(client, self.id)
        self.clock = LiveClock(client, self.id)
        self.messages = LiveMessages(client, self.id)
        self.inbox = LiveInbox(client, self.id)
        self.created_at = datetime.fromisoformat(instance["created_at"])
        self.ready_at = datetime.now(UTC)
        """When it was last ready; what its sandbox logged before, such as warm-up turns, is not its
        own."""
        self._organization = organization

    def messenger(self, channel: str) -> LiveMessenger:
        """Connects a channel to the local messenger."""
        self.client.connect_channel(self.id, channel, {"offline": True})
        return LiveMessenger(self.client, self.id, channel)

    def session_url(self, session: str) -> str:
        """The base URL for an SDK to use a named session, which may have any name."""
        return f"{self.base_url}/session/{quote(session, safe='')}"

    def respond(
        self,
        input: str | Sequence[Mapping[str, Any]],  # noqa: A002 - the contract's word
        session: str | None = None,
        model: str = DEFAULT_MODEL,
    ) -> Json:
        """Sends a message and returns the answer, an OpenAI Responses resource."""
        return self.client.respond(self.id, input, model, session)

    def say(self, text: str, session: str | None = None, model: str = DEFAULT_MODEL) -> str:
        """Sends a message and returns the text of the answer."""
        return "".join(
            part["text"]
            for item in self.respond(text, session, model)["output"]
            if item["type"] == "message"
            for part in item["content"]
            if part["type"] == "output_text"
        )

    async def arespond(
        self,
        input: str | Sequence[Mapping[str, Any]],  # noqa: A002 - the contract's word
        session: str | None = None,
        model: str = DEFAULT_MODEL,
    ) -> Json:
        """As `respond`, for a test with asyncio or Trio."""
        return await _in_thread(self.respond, input, session, model)

    async def asay(self, text: str, session: str | None = None, model: str = DEFAULT_MODEL) -> str:
        """As `say`, for a test with asyncio or Trio."""
        return await _in_thread(self.say, text, session, model)

    def send_hook(self, hook: str, body: Mapping[str, Any]) -> Json:
        """Sends a webhook: a `text` to `wake`, a `message` to `agent`, or a mapping's body."""
        return self.client.send_hook(self.id, hook, body)

    async def afork(self, name: str | None = None) -> LiveInstance:
        """As `fork`, for a test with asyncio or Trio."""
        return await _in_thread(self.fork, name)

    def activity(self) -> Json:
        """What the agent is doing: `status` is `idle` or `busy`, with `turns` and `tasks`."""
        return self.client.activity(self.id)

    def wait_idle(self, timeout_s: float = WAIT_S) -> None:
        """Waits until the agent is idle: no turn, no task, no report of a sub-agent still to come.

        Raises TimeoutError, with what it is doing.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            found = self.client.wait_until_idle(self.id, timeout_s=min(left_s, LONGEST_WAIT_S))
            if found["status"] == "idle":
                return
            if not left_s:
                raise TimeoutError(f"{self.name} is not idle after {timeout_s:g} s: {found}")

    def cancel(self, item_id: str | None = None) -> list[str]:
        """Ends all that the agent is doing, or one turn or task; their ids.

        A message that it is answering raises ApiRefused with status 409.
        """
        if item_id is None:
            return list(self.client.cancel_activity(self.id)["cancelled"])
        return list(self.client.cancel_activity_item(self.id, item_id)["cancelled"])

    def reset_session(self, session: str | None = None) -> None:
        """Makes the agent forget a session, by default the main one, without a message to it."""
        self.client.reset_session(self.id, session or MAIN_SESSION)

    def create_job(
        self, name: str, message: str, schedule: Mapping[str, Any] | None = None, **members: Any
    ) -> LiveJob:
        """Creates a scheduled job; without a schedule it is switched off, for `run` alone.

        `schedule` is that of the API, such as `{"kind": "every", "every_s": 60}`, and `members` are
        those that `Client.create_job` takes besides.
        """
        if schedule is None:
            schedule, members = {"kind": "every", "every_s": 3600}, {"is_enabled": False, **members}
        job = self.client.create_job(self.id, name, schedule, message, **members)
        return LiveJob(self, job["id"])

    def stop(self) -> None:
        """Stops the instance; files, sessions and memory are kept."""
        self.client.stop(self.id)

    def start(self) -> None:
        """Starts the instance again, and waits until it runs.

        Raises BootFailed if it fails, and BootTimedOut if it does not run in time.
        """
        with self._organization.waiting("start"):
            self.client.start(self.id)
            self._wait_until_ready()

    def files(self, path: str = "workspace") -> list[Json]:
        """The entries of a folder, by default of the one that the agent works in."""
        return self.client.files(self.id, path)

    def read_file(self, path: str) -> str:
        """The content of a text file; the path is relative to the agent's OpenClaw home."""
        return self.client.read_file(self.id, path)

    def write_file(self, path: str, content: str) -> None:
        """Creates or replaces a text file, with the folders above it."""
        self.client.write_file(self.id, path, content)

    def snapshot(self, name: str | None = None) -> Json:
        """Takes a snapshot of conversations, files and configuration, for `restore`."""
        return self.client.take_snapshot(self.id, name)

    def restore(self, snapshot: Json) -> None:
        """Takes the instance back to a snapshot, and waits until it runs.

        Raises BootFailed if it fails, and BootTimedOut if it does not run in time.
        """
        with self._organization.waiting("restore"):
            self.client.restore(self.id, snapshot["id"])
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        self._organization.wait(self.id, self.name)
        self.ready_at = datetime.now(UTC)

    def fork(self, name: str | None = None) -> LiveInstance:
        """Creates a copy with the same conversations, files and configuration, and waits for it.

        Raises BootFailed if it fails, and BootTimedOut if it does not run in time.
        """
        with self._organization.waiting("fork"):
            fork = self.client.fork(self.id, name or f"{self.name} (fork)")
            return self._organization.adopt(fork["id"])

    def transcript(self, session: str | None = None) -> list[Json]:
        """The last 100 messages of a session, the oldest first; each has `role` and `text`."""
        return list(self.client.transcript(self.id, session)["turns"])

    def model_calls(self) -> list[Json]:
        """The latest 100 model calls with requests and answers, the oldest first."""
        calls = self.client.model_calls(self.id)
        return [self.client.model_call(each["id"]) for each in reversed(calls)]

    def exchanges(self) -> list[Json]:
        """The former name of `model_calls`, until 0.3."""
        warnings.warn("exchanges() goes with 0.3: call model_calls().", DeprecationWarning, 2)
        return self.model_calls()

    def delete(self) -> None:
        """Deletes the instance with all its data."""
        self.client.delete(self.id)
        self._organization.instances.remove(self)

    @property
    def is_there(self) -> bool:
        """Whether `delete` has not been called."""
        return self in self._organization.instances

    def report(self, since: datetime) -> Iterator[tuple[str, str]]:
        """Titles and texts for the report of a failed test that started at `since`: transcripts,
        model calls, and the end of the log.

        There are none for an older instance without model calls since then.
        """
        latest = self.client.model_calls(self.id)
        calls = [each for each in latest if datetime.fromisoformat(each["at"]) >= since]
        if not calls and self.created_at < since:
            return
        keys = {each["session_key"]: each["session"] for each in calls if each["session_key"]}
        is_moved = abs(self.client.clock(self.id)["offset_s"]) > MOVED_S
        for key, session in list(keys.items())[:MAX_SESSIONS]:
            turns = self.client.transcript(self.id, key=key, limit=MAX_TURNS)["turns"]
            # The times of a moved clock do not tell.
            new = [_describe_turn(each) for each in turns if is_moved or _is_since(each, since)]
            if new:
                yield f"transcript of {self.name}, session {session or key}", "\n".join(new)
        described = [_describe_call(each) for each in reversed(calls[:MAX_CALLS])]
        yield f"model calls of {self.name}", "\n".join(described) or "none"
        logged = self.client.logs(self.id, MAX_LINES, since=max(since, self.ready_at))
        lines = [each for each in logged if not any(words in each for words in LOGGED_FAILURES)]
        yield f"log of {self.name}", "\n".join(lines) or "none"


async def _in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a call that blocks, without blocking a test's event loop."""
    from anyio import to_thread

    return await to_thread.run_sync(call, *arguments)


def _is_since(turn: Json, since: datetime) -> bool:
    return turn["at"] is None or datetime.fromisoformat(turn["at"]) >= since


def _describe_turn(turn: Json) -> str:
    text = turn["text"] if turn["name"] is None else f"{turn['name']} {turn['text'] or ''}"
    return f"{turn['role']}: {text}"


def _describe_call(call: Json) -> str:
    outcome = call["outcome"] or "in progress"
    error = f": {call['error']}" if call["error"] else ""
    session = call["session"] or call["session_key"] or "no session"
    return f"{call['id']} {call['at']} {session}: {call['source']}, {outcome}{error}"


RUN_TIMEOUT_S = 120.0
RUN_POLL_S = 0.3


@dataclass(frozen=True)
class LiveJob:
    """A scheduled job of an instance."""

    instance: LiveInstance
    id: str

    def run(self, timeout: float = RUN_TIMEOUT_S) -> Json:
        """Runs the job now, and returns the run once it has ended.

        A forced run passes OpenClaw's scheduler by. Raises TimeoutError.
        """
        known = len(self.runs())
        self.instance.client.run_job(self.instance.id, self.id)
        return self.wait_for_run(known, timeout)

    def wait_for_run(self, known: int = 0, timeout: float = RUN_TIMEOUT_S) -> Json:
        """The latest run, once there are more than `known`. Raises TimeoutError."""
        ends_s = time.monotonic() + timeout
        while len(runs := self.runs()) <= known:
            if time.monotonic() > ends_s:
                raise TimeoutError(f"no run of the job {self.id} has ended within {timeout:g} s")
            # As for a boot: a run's end is read from OpenClaw, which tells nobody.
            time.sleep(RUN_POLL_S)
        return runs[0]

    def runs(self) -> list[Json]:
        """The latest runs that have ended, latest first."""
        return self.instance.client.job_runs(self.instance.id, self.id, 200)

    def show(self) -> Json:
        """The job as it is now."""
        return self.instance.client.job(self.instance.id, self.id)

    def delete(self) -> None:
        self.instance.client.delete_job(self.instance.id, self.id)
