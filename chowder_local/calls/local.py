"""The calls that only the local server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from chowder_local.calls.transport import Json, Transport, local_path
from chowder_local.errors.process import ApiRefused, ServerNotRunning, ServerSilent

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

    def change_tier(self, tier: str) -> None:
        """Moves the organization to a tier, which costs nothing here."""
        portal = urlsplit(self._call("POST", "/v1/subscription/portal")["url"])
        with self._stream(
            "POST", f"{portal.path}?{portal.query}&tier={tier}", follow_redirects=True
        ):
            pass

    def logs(self, instance_id: str, tail: int = 200, *, follow: bool = False) -> Generator[str]:
        """The last lines that the instance's sandbox printed; with `follow`, all later ones."""
        path = f"{local_path(instance_id)}/logs"
        params = {"tail": str(tail), "follow": "true" if follow else "false"}
        with self._stream("GET", path, params=params, timeout=self._endless) as response:
            yield from response.iter_lines()

    def gateway(self, instance_id: str) -> Json:
        """`gateway_url` and `token`, with which this machine reaches the agent's own gateway."""
        return self._call("GET", f"{local_path(instance_id)}/gateway")

    def egress(self, instance_id: str) -> Json:
        """`egress` (on, off, or None for the server's own setting) and `egress_in_force`."""
        return self._call("GET", f"{local_path(instance_id)}")

    def set_egress(self, instance_id: str, egress: str | None) -> Json:
        """Chooses whether the sandbox reaches the outside; None leaves that to the server.

        A running instance whose way out changes is `provisioning` then; see `wait_until_running`.
        """
        return self._call(
            "PATCH",
            f"{local_path(instance_id)}",
            json={"egress": egress},
            timeout=self._turn_timeout,
        )

    def replies(self, instance_id: str | None = None) -> Json:
        """The script of an instance, or of the organization, as `own`, and the `server`'s.

        Each is None, or has `script` as it was given, `used` with how often each of its rules has
        counted, and `unmatched` with what no rule was about.
        """
        return self._call("GET", _replies_path(instance_id))

    def set_replies(self, script: Mapping[str, Any], instance_id: str | None = None) -> Json:
        """Tells the offline model what to say, in place of an earlier script; as `replies`.

        `script` is what a file for `up --replies` has: `replies` and `unmatched`.
        """
        return self._call("PUT", _replies_path(instance_id), json=dict(script))

    def clear_replies(self, instance_id: str | None = None) -> None:
        """Removes the script, if there is one."""
        self._call("DELETE", _replies_path(instance_id))

    def exchanges(self, instance_id: str, limit: int = 100) -> list[Json]:
        """The instance's latest model calls in short, the last first."""
        path = f"{local_path(instance_id)}/exchanges"
        return list(self._value("GET", path, params={"limit": str(limit)}) or [])

    def exchange(self, exchange_id: str) -> Json:
        """One model call: `request`, and `chunks` of the answer with their times."""
        return self._call("GET", f"/local/exchanges/{quote(exchange_id, safe='')}")


def _replies_path(instance_id: str | None) -> str:
    return f"{'/local' if instance_id is None else local_path(instance_id)}/replies"
