"""The calls for an agent's channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.client.transport import Json, Transport, instance_path, local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

__tracebackhide__ = True

CONNECT_TIMEOUT_S = 300.0
"""For a channel with which the agent must restart, or which asks for a QR code."""


class ChannelCalls(Transport):
    """The calls for channels, which connect an agent to messengers."""

    def channels(self, instance_id: str) -> list[Json]:
        """All channels, each with its `connection_type` and whether it is `enabled`."""
        return self._list(instance_path(instance_id, "channels"))

    def channel(self, instance_id: str, channel: str) -> Json:
        """A channel's `required_fields`: the description of each."""
        return self._call("GET", instance_path(instance_id, "channels", channel))

    def connect_channel(self, instance_id: str, channel: str, config: Mapping[str, Any]) -> Json:
        """Connects a channel with its fields; a QR code to scan, if any, is in `qr_data`."""
        path = instance_path(instance_id, "channels", channel, "connect")
        return self._call("POST", path, json={"config": dict(config)}, timeout=CONNECT_TIMEOUT_S)

    def channel_status(self, instance_id: str, channel: str) -> Json:
        """Whether a channel is `connected`, and in `details` the `reason` if it is not."""
        return self._call("GET", instance_path(instance_id, "channels", channel, "status"))

    def channel_pairings(self, instance_id: str, channel: str) -> list[Json]:
        """The people who wait for an approval: `code`, `sender`, `created_at` and more of each."""
        return self._list(local_path(instance_id, "channels", channel, "pairings"))

    def pair_channel(self, instance_id: str, channel: str, code: str) -> Json:
        """Approves the unknown sender who got this pairing code from the agent."""
        path = instance_path(instance_id, "channels", channel, "pair")
        return self._call("POST", path, json={"code": code}, timeout=CONNECT_TIMEOUT_S)

    def disconnect_channel(self, instance_id: str, channel: str) -> None:
        """Disconnects a channel."""
        path = instance_path(instance_id, "channels", channel, "disconnect")
        self._call("POST", path, timeout=CONNECT_TIMEOUT_S)
