"""The calls that only the local server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.client.transport import Json, Transport, local_path, url_path
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class LocalCalls(Transport):
    """The calls under `/local`."""

    def is_ready(self) -> bool:
        """Whether a server listens and takes calls; raises nothing when none does."""
        try:
            return bool(self._call("GET", "/local/ready").get("ready"))
        except (ServerNotRunning, ServerSilent, ApiRefused):
            return False

    def health(self) -> Json:
        """What the server says of itself: `status` (ok or degraded), counts, places.

        `engine` tells whether the container engine answers, `instances` has counts by status.
        """
        return self._call("GET", "/local/health")

    def logs(self, instance_id: str, tail: int = 200, *, follow: bool = False) -> Generator[str]:
        """The last lines that the instance's sandbox printed; with `follow`, all later ones."""
        path = local_path(instance_id, "logs")
        params = {"tail": str(tail), "follow": "true" if follow else "false"}
        with self._stream("GET", path, params=params, timeout=self._endless) as response:
            yield from response.iter_lines()

    def sessions(self, instance_id: str) -> list[Json]:
        """An agent's conversations, running or stopped: the main one, then the last used ones.

        Each has `name` (None for the main one and for OpenClaw's own), `key`, `is_main`, `channel`,
        `created_at`, `last_used_at` and `messages`, the number of them.
        """
        found = self._call("GET", local_path(instance_id, "sessions"))
        return list(found["sessions"])

    def transcript(
        self,
        instance_id: str,
        session: str | None = None,
        *,
        key: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Json:
        """What was said in a conversation: `turns`, oldest first, of its last `limit` messages.

        Without `session` that is the main one, or the one that OpenClaw knows by `key`. A turn has
        `role` (user, assistant, tool_call or tool_result), `text`, `name`, `arguments`, `usage` and
        more; where it does not apply, a member is None. If there are older ones, `before` is what
        to ask for them with, or else None.
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
        """What model calls have cost, of one instance or of the whole organization.

        `totals` and each of `rows` (by day, conversation and model, the latest first) have `calls`,
        tokens, and `cost_usd` at list price, which is None where a price is not known.
        """
        path = "/local/usage" if instance_id is None else local_path(instance_id, "usage")
        return self._call("GET", path, params={"limit": limit})

    def gateway(self, instance_id: str) -> Json:
        """`gateway_url` and `token`, with which this machine reaches the agent's own gateway."""
        return self._call("GET", local_path(instance_id, "gateway"))

    def egress(self, instance_id: str) -> Json:
        """`egress` (on, off, or None for the server's own setting) and `egress_in_force`."""
        return self._call("GET", local_path(instance_id))

    def set_egress(self, instance_id: str, egress: str | None) -> Json:
        """Chooses whether the sandbox reaches the outside; None leaves that to the server.

        A running instance whose way out changes is `provisioning` then; see `wait_until_running`.
        """
        body = {"egress": egress}
        return self._call("PATCH", local_path(instance_id), json=body, timeout=self._turn_timeout)

    def replies(self, instance_id: str | None = None) -> Json:
        """The script of an instance, or of the organization, as `own`, and the `server`'s.

        Each is None, or has `script` as it was given, `used` with how often each of its rules has
        counted, and `unmatched` with what no rule was about.
        """
        return self._call("GET", _replies_path(instance_id))

    def set_replies(self, script: Mapping[str, Any], instance_id: str | None = None) -> Json:
        """Scripts what the offline model says, in place of an earlier script; as `replies`.

        `script` is what a file for `up --replies` has: `replies` and `unmatched`.
        """
        return self._call("PUT", _replies_path(instance_id), json=dict(script))

    def clear_replies(self, instance_id: str | None = None) -> None:
        """Removes the script, if there is one."""
        self._call("DELETE", _replies_path(instance_id))

    def recording(self, instance_id: str, after: str | None = None) -> Json:
        """The instance's latest model calls as `entries` by file name, for a later `replay`.

        With the id of an exchange, those after it only.
        """
        params = {} if after is None else {"after": after}
        return self._call("GET", local_path(instance_id, "recording"), params=params)

    def replay(self, instance_id: str, entries: Mapping[str, Any]) -> Json:
        """Has the instance's model calls answered from a recording, without any provider."""
        body = {"entries": dict(entries)}
        return self._call("PUT", local_path(instance_id, "recording"), json=body)

    def end_replay(self, instance_id: str) -> None:
        """Has the model calls answered by the instance's models again."""
        self._call("DELETE", local_path(instance_id, "recording"))

    def exchanges(self, instance_id: str, limit: int = 100) -> list[Json]:
        """The instance's latest model calls in short, the last first."""
        return self._list(local_path(instance_id, "exchanges"), limit=limit)

    def exchange(self, exchange_id: str) -> Json:
        """One model call: `request`, and `chunks` of the answer with their times."""
        return self._call("GET", url_path("local", "exchanges", exchange_id))


def _replies_path(instance_id: str | None) -> str:
    return "/local/replies" if instance_id is None else local_path(instance_id, "replies")
