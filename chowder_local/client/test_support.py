"""The calls that set up tests: organizations, faults, and reset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from chowder_local.client.transport import Json, Transport, instance_path, url_path

if TYPE_CHECKING:
    from collections.abc import Mapping

__tracebackhide__ = True

CHANGE_TIMEOUT_S = 300.0
"""For a configuration with which the agent must restart."""
RESET_TIMEOUT_S = 600.0
"""For many instances; each takes a second or two."""


class SupportCalls(Transport):
    """The calls that set up tests."""

    def signup(self, name: str) -> Json:
        """Signs up an `organization` of tier shrimp; only this answer has its `api_key`."""
        return self._call("POST", "/v1/organization/signup", json={"name": name})

    def set_model_keys(self, model_api_keys: Mapping[str, str]) -> Json:
        """Sets model keys by provider and returns the organization; other providers' keys stay.

        The key `offline` selects the offline model, and an empty key removes the key.
        """
        body = {"model_api_keys": dict(model_api_keys)}
        return self._call("PATCH", "/v1/organization", json=body)

    def move(self, tier: str) -> Json:
        """Moves the organization to a tier, as its portal does; returns the subscription."""
        link = urlsplit(str(self._call("POST", "/v1/subscription/portal")["url"]))
        path = f"{link.path}?{link.query}&tier={quote(tier, safe='')}"
        self._value("POST", path, follow_redirects=True)
        return self._call("GET", "/v1/subscription")

    def configure(
        self,
        instance_id: str,
        openclaw_config: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Json:
        """Changes the OpenClaw configuration or the name of an instance; returns the instance.

        Overrides are merged with the present ones; None removes one.
        """
        change = {"openclaw_config": openclaw_config, "name": name}
        body = {member: value for member, value in change.items() if value is not None}
        path = instance_path(instance_id)
        return self._call("PATCH", path, json=body, timeout=CHANGE_TIMEOUT_S)

    def add_fault(
        self,
        kind: str,
        *,
        times: int = 1,
        instance_id: str | None = None,
        status: int | None = None,
        detail: str | None = None,
        retry_after_s: int | None = None,
        delay_s: float = 0.0,
        after_events: int | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> Json:
        """Makes the organization's next `times` calls of a kind fail, wait, or break off.

        Kinds are `provisioning`, `create`, `start`, `stop`, `message`, `stream` (breaks off after
        so many events), and `call` with the `path` and `method` of any call, as /openapi.json has
        them. Without a `status`, it is the usual one of the kind. With a `delay_s` alone, calls
        are late but succeed. The fault has an `id`, and `left`: into how many calls it will still
        be injected.
        """
        fault = {
            "kind": kind,
            "times": times,
            "instance_id": instance_id,
            "status": status,
            "detail": detail,
            "retry_after_s": retry_after_s,
            "delay_s": delay_s,
            "after_events": after_events,
            "method": method,
            "path": path,
        }
        body = {name: value for name, value in fault.items() if value is not None}
        return self._call("POST", "/local/faults", json=body)

    def faults(self) -> list[Json]:
        """The organization's faults that are not used up, in the order in which they were set."""
        return self._list("/local/faults")

    def clear_faults(self, fault_id: str | None = None) -> None:
        """Removes one fault, or without an id all faults of the organization."""
        path = "/local/faults" if fault_id is None else url_path("local", "faults", fault_id)
        self._call("DELETE", path)

    def reset(self) -> Json:
        """Removes the organization's instances, snapshots, scoped keys, faults and reply scripts.

        Returns the numbers of `instances`, `snapshots`, `keys` and `faults` once they are removed.
        The organization, its own key, its model keys and its tier stay.
        """
        return self._call("POST", "/local/reset", timeout=RESET_TIMEOUT_S)
