"""The calls that only the local server has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.client.transport import Json, Transport, local_path, url_path
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from datetime import datetime

__tracebackhide__ = True


class LocalCalls(Transport):
    """The calls under `/local`."""

    def is_ready(self) -> bool:
        """Whether a server takes calls; False also if none listens."""
        try:
            return bool(self._call("GET", "/local/ready").get("ready"))
        except (ServerNotRunning, ServerSilent, ApiRefused):
            return False

    def health(self) -> Json:
        """The server's health report: `status` (ok or degraded), versions, addresses and paths.

        `engine` says whether the container engine answers; `instances` has counts by status.
        """
        return self._call("GET", "/local/health")

    def events(self) -> Generator[Json]:
        """The events of the organization's instances, as they come; the reference lists them."""
        with self._stream("GET", "/local/events", timeout=self._endless) as response:
            reader = EventReader()
            for chunk in response.iter_bytes():
                for event in reader.feed(chunk):
                    if event.data is not None:
                        yield json.loads(event.data)

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
        path = local_path(instance_id, "logs")
        params = {"tail": str(tail), "follow": "true" if follow else "false"}
        if since is not None:
            params["since"] = since.isoformat()
        with self._stream("GET", path, params=params, timeout=self._endless) as response:
            yield from response.iter_lines()

    def sessions(self, instance_id: str) -> list[Json]:
        """The sessions of an agent, running or stopped: the main one, then the last used ones.

        Each has `name` (None for the main one and for OpenClaw's own), `key`, `is_main`, `channel`,
        `created_at`, `last_used_at` and the number of its `messages`.
        """
        return list(self._call("GET", local_path(instance_id, "sessions"))["sessions"])

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
        params: Json = {"limit": limit}
        if before is not None:
            params["before"] = before
        path = local_path(instance_id, "transcript")
        if session is not None:
            path = local_path(instance_id, "sessions", session, "transcript")
        elif key is not None:
            params["key"] = key
        return self._call("GET", path, params=params)

    def usage(self, instance_id: str | None = None, *, limit: int = 1000) -> Json:
        """The cost of model calls, of one instance or of the whole organization.

        `totals` and each of `rows` (by day, session and model, the latest first) have `calls`,
        tokens, and `cost_usd` at list price or that of the server's setting `CHOWDER_PRICES`, which
        is None if a price is not known.
        """
        path = "/local/usage" if instance_id is None else local_path(instance_id, "usage")
        return self._call("GET", path, params={"limit": limit})

    def gateway(self, instance_id: str) -> Json:
        """The `gateway_url` of the agent's own gateway for this machine, and its `token`."""
        return self._call("GET", local_path(instance_id, "gateway"))

    def egress(self, instance_id: str) -> Json:
        """`egress` (on, off, or None for the server's own setting) and `egress_in_force`.

        Also `hibernate`, whether the agent may leave memory, `is_hibernated`, and the `node` that
        has its files, if the server runs on several machines.
        """
        return self._call("GET", local_path(instance_id))

    def set_egress(self, instance_id: str, egress: str | None) -> Json:
        """Chooses whether the sandbox reaches other networks; None means the server's setting.

        If that changes the egress of a running instance, the instance is `provisioning` at first;
        see `wait_until_running`.
        """
        body = {"egress": egress}
        return self._call("PATCH", local_path(instance_id), json=body, timeout=self._turn_timeout)

    def set_hibernation(self, instance_id: str, is_allowed: bool) -> Json:
        """Chooses whether an agent may leave memory while nobody uses it.

        Returns the same as `egress`, with `hibernate` and `is_hibernated`.
        """
        body = {"hibernate": is_allowed}
        return self._call("PATCH", local_path(instance_id), json=body, timeout=self._turn_timeout)

    def replies(self, instance_id: str | None = None) -> Json:
        """The reply script of an instance or of the organization as `own`, and the `server`'s.

        Each is None, or has the `script`, `used` with the number of uses of each rule, and
        `unmatched` with the messages that no rule matched.
        """
        return self._call("GET", _replies_path(instance_id))

    def set_replies(self, script: Mapping[str, Any], instance_id: str | None = None) -> Json:
        """Replaces the reply script of the offline model; returns the same as `replies`.

        `script` has the members of a file for `up --replies`: `replies` and `unmatched`.
        """
        return self._call("PUT", _replies_path(instance_id), json=dict(script))

    def clear_replies(self, instance_id: str | None = None) -> None:
        """Removes the reply script, if there is one."""
        self._call("DELETE", _replies_path(instance_id))

    def recording(self, instance_id: str, after: str | None = None) -> Json:
        """The instance's latest model calls as `entries` by file name, for a later `replay`.

        `after` is the id of a model call; only later calls are recorded then.
        """
        params = {} if after is None else {"after": after}
        return self._call("GET", local_path(instance_id, "recording"), params=params)

    def replay(self, instance_id: str, entries: Mapping[str, Any]) -> Json:
        """Answers the instance's model calls from a recording, without any provider."""
        body = {"entries": dict(entries)}
        return self._call("PUT", local_path(instance_id, "recording"), json=body)

    def end_replay(self, instance_id: str) -> None:
        """Ends the replay, so that the instance's models answer again."""
        self._call("DELETE", local_path(instance_id, "recording"))

    def traces(self, instance_id: str, limit: int = 100) -> list[Json]:
        """The latest turns, latest first: each with `id`, `took_s`, `status` and `error`.

        `id` is that of the request (`X-Request-Id`), and `response_id` that of the answer, if any.
        """
        return self._list(local_path(instance_id, "traces"), limit=limit)

    def trace(self, instance_id: str, response_id: str) -> Json:
        """The turn with this id or answer; its `steps` are the model calls and the tools."""
        return self._call("GET", local_path(instance_id, "traces", response_id))

    def exchanges(self, instance_id: str, limit: int = 100) -> list[Json]:
        """The instance's latest model calls without requests and answers, the last first."""
        return self._list(local_path(instance_id, "exchanges"), limit=limit)

    def exchange(self, exchange_id: str) -> Json:
        """One model call with its `request`, and the `chunks` of the answer with their times."""
        return self._call("GET", url_path("local", "exchanges", exchange_id))


def _replies_path(instance_id: str | None) -> str:
    return "/local/replies" if instance_id is None else local_path(instance_id, "replies")
