"""The calls that copy agents: snapshots, forks and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from chowder_local.client.transport import Json, Transport, local_path, url_path

if TYPE_CHECKING:
    from collections.abc import Generator

__tracebackhide__ = True


class SnapshotCalls(Transport):
    """The calls about snapshots, forks and exports."""

    def snapshots(self, instance_id: str | None = None) -> list[Json]:
        """The snapshots of an instance, or of the whole organization, the oldest first."""
        if instance_id is None:
            return self._list("/local/snapshots")
        return self._list(local_path(instance_id, "snapshots"))

    def snapshot(self, snapshot_id: str) -> Json:
        """One snapshot."""
        return self._call("GET", _path(snapshot_id))

    def take_snapshot(self, instance_id: str, name: str | None = None) -> Json:
        """Takes a snapshot of an instance, after the running turn has ended."""
        path = local_path(instance_id, "snapshots")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Removes a snapshot; instances that were made of it stay."""
        self._call("DELETE", _path(snapshot_id), timeout=self._turn_timeout)

    def restore(self, instance_id: str, snapshot_id: str) -> Json:
        """Restores an instance to a snapshot; the instance is `provisioning` at first."""
        path, body = local_path(instance_id, "restore"), {"snapshot_id": snapshot_id}
        return self._call("POST", path, json=body, timeout=self._turn_timeout)

    def upgrade(self, instance_id: str, to: str, *, dry_run: bool = False) -> Json:
        """Moves a running instance to a newer OpenClaw release; `provisioning` at first.

        `snapshot_id` is the snapshot to `restore` to go back. With `dry_run`, only `findings`: what
        that release's own checks say about a copy, and `can_upgrade`.
        """
        path, body = local_path(instance_id, "upgrade"), {"to": to, "dry_run": dry_run}
        return self._call("POST", path, json=body, timeout=self._turn_timeout)

    def fork(self, instance_id: str, name: str) -> Json:
        """Creates a copy of an instance, which is `provisioning` at first."""
        path = local_path(instance_id, "fork")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def fork_snapshot(self, snapshot_id: str, name: str) -> Json:
        """Creates an instance from a snapshot, which is `provisioning` at first."""
        path = _path(snapshot_id, "fork")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def export(self, instance_id: str) -> Generator[bytes]:
        """The bytes of an export for `import_instance`, without credentials.

        Raises ServerSilent if they break off.
        """
        path = local_path(instance_id, "export")
        with self._stream("GET", path, timeout=self._turn_timeout) as response:
            yield from response.iter_bytes()

    def import_instance(self, file: BinaryIO, name: str | None = None) -> Json:
        """Creates an instance from an export, which is `provisioning` at first."""
        return self._call(
            "POST",
            "/local/instances/import",
            params={} if name is None else {"name": name},
            content=iter(lambda: file.read(256 * 1024), b""),
            headers={"Content-Type": "application/x-tar"},
            timeout=self._turn_timeout,
        )


def _path(snapshot_id: str, *segments: str) -> str:
    return url_path("local", "snapshots", snapshot_id, *segments)
