"""The client: the calls with a shape of their own, over the plain ones."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import httpx

from chowder_local.client.plain_calls import PlainCalls
from chowder_local.client.transport import Json, given, optional, segment
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.errors.sandboxes import BootFailed, BootTimedOut
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

__tracebackhide__ = True

Input = str | Sequence[Mapping[str, Any]]

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
PAUSE_GROWTH = 1.5


class Client(PlainCalls):
    """Calls a chowder-local server; use it as a context manager, or `close()` it.

    `base_url` is the value that `chowder-local env` prints, with or without `/v1`. `key` is an
    organization key; `health()`, `is_ready()` and `signup()` need none. `timeout_s` limits an
    ordinary call, `turn_timeout_s` a whole turn of an agent, which may use tools for minutes, and
    a call that changes an agent, which waits for its turn.

    Methods return the JSON of the API: a dict with the contract's field names.

    Each method may raise ServerNotRunning if no server listens there, ServerSilent if the answer
    does not come in time or breaks off, and ApiRefused if the server answers with an error; it has
    the `status`, the server's message and its `code`, such as `budget_exceeded`. All are subclasses
    of ChowderError.
    """

    def is_ready(self) -> bool:
        """Whether a server takes calls; False also if none listens."""
        try:
            return bool(self._call("GET", "/local/ready").get("ready"))
        except (ServerNotRunning, ServerSilent, ApiRefused):
            return False

    def events(self, instance_id: str | None = None) -> Generator[Json]:
        """The events of the organization's instances, or of one, as they come.

        The reference lists them.
        """
        path = f"/local{optional('/instances/', instance_id)}/events"
        with self._stream("GET", path, timeout=self._endless) as response:
            yield from _events(response)

    def send_hook(self, instance_id: str, hook: str, body: Any) -> Json:
        """Sends a webhook to an agent: `wake`, `agent`, or a mapping's name. The body is JSON."""
        path = f"/local/instances/{segment(instance_id)}/hooks/{segment(hook)}"
        return self._call("POST", path, json=body)

    def organization(self) -> Json:
        """The organization that the key belongs to.

        `offline_providers` are those of its `model_providers` whose key is `offline`.
        """
        view, headers = self._answer("GET", "/v1/organization")
        offline = headers.get("X-Offline-Providers", "")
        return {**view, "offline_providers": offline.split(",") if offline else []}

    def rename_organization(self, name: str) -> Json:
        """Gives the organization another name."""
        return self._call("PATCH", "/v1/organization", json={"name": name})

    def set_model_keys(self, model_api_keys: Mapping[str, str]) -> Json:
        """Sets model keys by provider and returns the organization; other providers' keys stay.

        The key `offline` selects the offline model, and an empty key removes the key.
        """
        body = {"model_api_keys": dict(model_api_keys)}
        return self._call("PATCH", "/v1/organization", json=body)

    def set_tier(self, tier: str) -> Json:
        """Moves the organization to a tier, as its portal does; returns the subscription."""
        try:
            link = httpx.URL(self.create_portal()["url"]).copy_add_param("tier", tier)
        except (KeyError, TypeError, httpx.InvalidURL) as invalid:
            message = f"The server at {self._root} gives no link to its portal: {invalid}"
            raise ServerSilent(message) from None
        self._value("POST", link.raw_path.decode(), follow_redirects=True)
        return self.subscription()

    def wait_until_running(
        self,
        instance_id: str,
        timeout_s: float = 300.0,
        on_status: Callable[[str], None] | None = None,
    ) -> Json:
        """Polls until the instance is `running`, and gives it.

        `on_status` is called at each poll with the status and the place in the boot queue. Raises
        BootFailed with the instance's `error_message` if its status becomes `error` or `stopped`,
        and BootTimedOut, a subclass, if it is still booting after `timeout_s` seconds; it goes on
        booting then.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        while True:
            path = f"/v1/instances/{segment(instance_id)}/status"
            view, headers = self._answer("GET", path)
            status, position = str(view["status"]), headers.get("X-Queue-Position")
            if on_status is not None:
                on_status(
                    status if position is None else f"{status}, number {position} in the boot queue"
                )
            if status == "running":
                return self.instance(instance_id)
            if status != "provisioning":
                message = self.instance(instance_id).get("error_message")
                raise BootFailed(message or f"The instance is {status}.")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BootTimedOut(f"The instance is still {status} after {timeout_s:g} s.")
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * PAUSE_GROWTH, LONGEST_PAUSE_S)

    def respond(
        self,
        instance_id: str,
        input: Input,  # noqa: A002 - the contract's word
        model: str,
        session: str | None = None,
        **members: Any,
    ) -> Json:
        """Sends a message and returns the answer, an OpenAI Responses resource.

        `session` may be any name; by default, the message goes to the main session. `members` are
        further ones of the Responses API, such as `instructions`.
        """
        path = _responses_path(instance_id, session)
        body = {**members, "model": model, "input": input}
        return self._call("POST", path, json=body, timeout=self._turn_timeout)

    def stream(
        self,
        instance_id: str,
        input: Input,  # noqa: A002 - the contract's word
        model: str,
        session: str | None = None,
    ) -> Generator[Json]:
        """Sends a message and yields the Responses events of the answer as they come.

        Closing the iterator early ends the agent's turn. Raises StreamBroken if the answer breaks
        off before its end; an answer that fails ends with an event of type `response.failed`.
        """
        body = {"model": model, "input": input, "stream": True}
        path = _responses_path(instance_id, session)
        has_begun = False
        try:
            with self._stream("POST", path, json=body, timeout=self._turn_timeout) as response:
                has_begun = True
                if (yield from _events(response)):
                    return
        except ServerSilent as silent:
            if not has_begun:
                raise
            raise StreamBroken(f"The answer broke off before its end. {silent}") from silent
        raise StreamBroken("The answer broke off before its end.")

    def stream_text(
        self,
        instance_id: str,
        input: Input,  # noqa: A002 - the contract's word
        model: str,
        session: str | None = None,
    ) -> Generator[str]:
        """Like `stream`, but yields only the pieces of the answer's text.

        Raises StreamBroken with the server's message and code if the answer ends in an error.
        """
        with closing(self.stream(instance_id, input, model, session)) as events:
            for event in events:
                if event.get("type") == "response.output_text.delta":
                    yield event["delta"]
                elif event.get("type") in {"response.failed", "error"}:
                    raise _failure(event)

    def models(self, instance_id: str) -> list[str]:
        """Ids of models that messages to the agent can name."""
        listed = self._call("GET", f"/v1/instances/{segment(instance_id)}/models")
        return [each["id"] for each in listed["data"]]

    def files(self, instance_id: str, path: str = ".") -> list[Json]:
        """The entries of a folder; paths are relative to the agent's OpenClaw home."""
        url = f"/v1/instances/{segment(instance_id)}/files"
        return list(self._call("GET", url, params={"path": path})["entries"])

    def read_file(self, instance_id: str, path: str) -> str:
        """The content of a text file."""
        url = f"/v1/instances/{segment(instance_id)}/files/content"
        return str(self._call("GET", url, params={"path": path})["content"])

    def upload(self, instance_id: str, path: str, file: BinaryIO) -> None:
        """Creates or replaces a file with the content of `file`, which is streamed.

        If `path` is a folder or ends with "/", the file in it gets the name of `file`.
        """
        if not file.seekable():
            # httpx would take the length of a pipe, which is 0, for the length of its content.
            file = cast("BinaryIO", SimpleNamespace(read=file.read, name=file.name))
        url = f"/v1/instances/{segment(instance_id)}/files/upload"
        form, files = {"path": path}, {"file": file}
        self._call("POST", url, data=form, files=files, timeout=self._turn_timeout)

    def download(self, instance_id: str, path: str) -> Generator[bytes]:
        """Yields the bytes of a file. Raises ServerSilent if they break off."""
        url = f"/v1/instances/{segment(instance_id)}/files/download"
        with self._stream("GET", url, params={"path": path}) as response:
            yield from response.iter_bytes()

    def export(self, instance_id: str) -> Generator[bytes]:
        """The bytes of an export for `import_instance`, without credentials.

        Raises ServerSilent if they break off.
        """
        path = f"/local/instances/{segment(instance_id)}/export"
        with self._stream("GET", path, timeout=self._turn_timeout) as response:
            yield from response.iter_bytes()

    def import_instance(
        self, file: BinaryIO, name: str | None = None, jobs: str | None = None
    ) -> Json:
        """Creates an instance from an export, which is `provisioning` at first.

        Its scheduled jobs are off unless `jobs` is "on".
        """
        return self._call(
            "POST",
            "/local/instances/import",
            params=given(name=name, jobs=jobs),
            content=iter(lambda: file.read(256 * 1024), b""),
            headers={"Content-Type": "application/x-tar"},
            timeout=self._turn_timeout,
        )

    def change_skill(self, instance_id: str, name: str, **change: Any) -> None:
        """Merges `enabled`, `apiKey`, `env` or `config` with a skill's settings."""
        path = f"/v1/instances/{segment(instance_id)}/skills/{segment(name)}"
        self._call("PATCH", path, json=change, timeout=self._turn_timeout)

    def set_egress(self, instance_id: str, egress: str | None) -> Json:
        """Chooses whether the sandbox reaches other networks; None means the server's setting.

        If that changes the egress of a running instance, the instance is `provisioning` at first;
        see `wait_until_running`.
        """
        return self._set(instance_id, egress=egress)

    def set_hibernation(self, instance_id: str, is_allowed: bool) -> Json:
        """Chooses whether an agent may leave memory while nobody uses it.

        Returns the same as `instance_settings`, with `hibernate` and `is_hibernated`.
        """
        return self._set(instance_id, hibernate=is_allowed)

    def _set(self, instance_id: str, **settings: Any) -> Json:
        path = f"/local/instances/{segment(instance_id)}"
        return self._call("PATCH", path, json=settings, timeout=self._turn_timeout)

    def logs(
        self,
        instance_id: str,
        tail: int = 200,
        *,
        follow: bool = False,
        since: datetime | None = None,
    ) -> Generator[str]:
        """The last lines of an instance's log; with `follow`, later lines as they come.

        With `since`, a time with its zone, older lines are left out.
        """
        path = f"/local/instances/{segment(instance_id)}/logs"
        params = given(tail=tail, follow=follow, since=since)
        with self._stream("GET", path, params=params, timeout=self._endless) as response:
            yield from response.iter_lines()

    def sessions(self, instance_id: str) -> list[Json]:
        """The sessions of an agent, running or stopped: the main one, then the last used ones.

        Each has `name` (None for the main one and for OpenClaw's own), `key`, `is_main`, `channel`,
        `created_at`, `last_used_at` and the number of its `messages`.
        """
        path = f"/local/instances/{segment(instance_id)}/sessions"
        return list(self._call("GET", path)["sessions"])

    def transcript(
        self,
        instance_id: str,
        session: str | None = None,
        *,
        key: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Json:
        """The transcript of a session: `turns`, oldest first, of its last `limit` messages.

        The session is the main one by default, or the one with OpenClaw's `key`. A turn has `role`
        (user, assistant, tool_call or tool_result), `text`, `name`, `arguments`, `usage` and more;
        members that do not apply are None. If there are older messages, `before` of the answer is
        the parameter to request them with, else None.
        """
        path, params = f"/local/instances/{segment(instance_id)}", given(limit=limit, before=before)
        if session is not None:
            path += f"/sessions/{segment(session)}"
        elif key is not None:
            params["key"] = key
        return self._call("GET", f"{path}/transcript", params=params)

    def set_replies(self, script: Mapping[str, Any], instance_id: str | None = None) -> Json:
        """Replaces the reply script of the offline model; returns the same as `replies`.

        `script` has the members of a file for `up --replies`: `replies` and `unmatched`.
        """
        owner = optional("/instances/", instance_id)
        return self._call("PUT", f"/local{owner}/replies", json=dict(script))

    def egress(self, instance_id: str) -> Json:
        """The former name of `instance_settings`, until 0.3."""
        _warn("egress", "instance_settings")
        return self.instance_settings(instance_id)

    def exchanges(self, instance_id: str, limit: int = 100) -> list[Json]:
        """The former name of `model_calls`, until 0.3."""
        _warn("exchanges", "model_calls")
        return self.model_calls(instance_id, limit)

    def exchange(self, model_call_id: str) -> Json:
        """The former name of `model_call`, until 0.3."""
        _warn("exchange", "model_call")
        return self.model_call(model_call_id)

    def move(self, tier: str) -> Json:
        """The former name of `set_tier`, until 0.3."""
        _warn("move", "set_tier")
        return self.set_tier(tier)


def _responses_path(instance_id: str, session: str | None) -> str:
    return f"/v1/instances/{segment(instance_id)}{optional('/session/', session)}/responses"


def _events(response: httpx.Response) -> Generator[Json, None, bool]:
    """The events of a stream; returns whether it came to its end mark, which some have."""
    reader = EventReader()
    for chunk in response.iter_bytes():
        for event in reader.feed(chunk):
            if event.data == "[DONE]":
                return True
            if event.data is not None:
                yield json.loads(event.data)
    return False


def _failure(event: Json) -> StreamBroken:
    error = event.get("response", event).get("error") or event
    broken = StreamBroken(str(error.get("message") or "The answer failed."))
    broken.code = error.get("code") or broken.code
    return broken


def _warn(former: str, name: str) -> None:
    warnings.warn(
        f"Client.{former}() goes with 0.3: call {name}().", DeprecationWarning, stacklevel=3
    )
