"""The calls of the contract, which the hosted service has as well."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from chowder_local.client.transport import Json, Transport, instance_path, url_path
from chowder_local.core.errors.process import ServerSilent
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


class V1Calls(Transport):
    """The calls under `/v1`."""

    def organization(self) -> Json:
        """The organization that the key belongs to.

        `offline_providers` are those of its `model_providers` whose key is `offline`.
        """
        with self._stream("GET", "/v1/organization") as response:
            view = json.loads(response.read())
            offline = response.headers.get("X-Offline-Providers", "")
        return {**view, "offline_providers": offline.split(",") if offline else []}

    def rename_organization(self, name: str) -> Json:
        """Gives the organization another name."""
        return self._call("PATCH", "/v1/organization", json={"name": name})

    def subscription(self) -> Json:
        """The organization's `tier`, and how many of its instances are in use."""
        return self._call("GET", "/v1/subscription")

    def instances(self) -> list[Json]:
        """The organization's instances, without terminated ones."""
        return self._list("/v1/instances")

    def create_instance(
        self,
        name: str,
        model_provider: str = "anthropic",
        openclaw_config: Mapping[str, Any] | None = None,
        *,
        openclaw_version: str | None = None,
    ) -> Json:
        """Creates an instance, which is `provisioning` at first; see `wait_until_running`.

        `openclaw_version` is a release whose image is built; None: the server's own.
        """
        body: Json = {"name": name, "model_provider": model_provider}
        if openclaw_config is not None:
            body["openclaw_config"] = dict(openclaw_config)
        if openclaw_version is not None:
            body["openclaw_version"] = openclaw_version
        return self._call("POST", "/v1/instances", json=body)

    def instance(self, instance_id: str) -> Json:
        """One instance."""
        return self._call("GET", instance_path(instance_id))

    def status(self, instance_id: str) -> Json:
        """The `id`, `status` and `gateway_url` of one instance, for polling."""
        return self._call("GET", instance_path(instance_id, "status"))

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
            with self._stream("GET", instance_path(instance_id, "status")) as response:
                status = str(json.loads(response.read())["status"])
                position = response.headers.get("X-Queue-Position")
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

    def stop(self, instance_id: str) -> Json:
        """Stops a running instance; files, sessions and memory are kept."""
        return self._call("POST", instance_path(instance_id, "stop"), timeout=self._turn_timeout)

    def start(self, instance_id: str) -> Json:
        """Starts a stopped instance."""
        return self._call("POST", instance_path(instance_id, "start"), timeout=self._turn_timeout)

    def delete(self, instance_id: str) -> None:
        """Deletes an instance and all its data."""
        self._call("DELETE", instance_path(instance_id), timeout=self._turn_timeout)

    def respond(
        self,
        instance_id: str,
        input: Input,  # noqa: A002 - the contract's word
        model: str,
        session: str | None = None,
    ) -> Json:
        """Sends a message and returns the answer, an OpenAI Responses resource.

        `session` may be any name; by default, the message goes to the main session.
        """
        return self._call(
            "POST",
            _responses_path(instance_id, session),
            json={"model": model, "input": input},
            timeout=self._turn_timeout,
        )

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
                has_begun, reader = True, EventReader()
                for chunk in response.iter_bytes():
                    for event in reader.feed(chunk):
                        if event.data == "[DONE]":
                            return
                        if event.data is not None:
                            yield json.loads(event.data)
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

        Raises StreamBroken with the server's message if the answer ends in an error.
        """
        with closing(self.stream(instance_id, input, model, session)) as events:
            for event in events:
                if event.get("type") == "response.output_text.delta":
                    yield event["delta"]
                elif event.get("type") in {"response.failed", "error"}:
                    raise StreamBroken(_error_message(event))

    def files(self, instance_id: str, path: str = ".") -> list[Json]:
        """The entries of a folder; paths are relative to the agent's OpenClaw home."""
        folder = self._call("GET", instance_path(instance_id, "files"), params={"path": path})
        return list(folder["entries"])

    def read_file(self, instance_id: str, path: str) -> str:
        """The content of a text file."""
        url = instance_path(instance_id, "files", "content")
        return str(self._call("GET", url, params={"path": path})["content"])

    def write_file(self, instance_id: str, path: str, content: str) -> None:
        """Creates or replaces a text file."""
        body = {"path": path, "content": content}
        self._call("PUT", instance_path(instance_id, "files", "content"), json=body)

    def upload(self, instance_id: str, path: str, file: BinaryIO) -> None:
        """Creates or replaces a file with the content of `file`, which is streamed.

        If `path` is a folder or ends with "/", the file in it gets the name of `file`.
        """
        if not file.seekable():
            # httpx would take the length of a pipe for that of its content, which is not known.
            file = cast("BinaryIO", SimpleNamespace(read=file.read, name=file.name))
        self._call(
            "POST",
            instance_path(instance_id, "files", "upload"),
            data={"path": path},
            files={"file": file},
            timeout=self._turn_timeout,
        )

    def download(self, instance_id: str, path: str) -> Generator[bytes]:
        """Yields the bytes of a file. Raises ServerSilent if they break off."""
        url = instance_path(instance_id, "files", "download")
        with self._stream("GET", url, params={"path": path}) as response:
            yield from response.iter_bytes()

    def keys(self) -> list[Json]:
        """The organization's scoped keys, including revoked and expired ones."""
        return self._list("/v1/keys")

    def key(self, key_id: str) -> Json:
        """One scoped key, with its permissions by instance in `instances`."""
        return self._call("GET", url_path("v1", "keys", key_id))

    def create_key(
        self,
        name: str,
        instance_ids: Sequence[str],
        permissions: Sequence[str],
        expires_at: datetime | None = None,
    ) -> Json:
        """Creates a scoped key; only this answer has its `raw_key`.

        It gets each of the permissions (read, interact, configure, files, channels) for each of
        the instances. A time without a zone is in UTC.
        """
        body: Json = {"name": name, "instance_ids": [*instance_ids], "permissions": [*permissions]}
        if expires_at is not None:
            body["expires_at"] = expires_at.isoformat()
        return self._call("POST", "/v1/keys", json=body)

    def models(self, instance_id: str) -> list[str]:
        """Ids of models that messages to the agent can name."""
        listed = self._call("GET", instance_path(instance_id, "models"))
        return [each["id"] for each in listed["data"]]

    def revoke_key(self, key_id: str) -> None:
        """Revokes a scoped key: the next request with it is refused."""
        self._call("DELETE", url_path("v1", "keys", key_id))


def _responses_path(instance_id: str, session: str | None) -> str:
    if session is None:
        return instance_path(instance_id, "responses")
    return instance_path(instance_id, "session", session, "responses")


def _error_message(event: Json) -> str:
    error = event.get("response", event).get("error") or event
    return str(error.get("message") or "The answer failed.")
