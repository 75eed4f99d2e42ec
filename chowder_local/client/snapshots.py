"""The calls that copy agents: snapshots, forks, and files for other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from chowder_local.client.transport import Json, Transport, local_path, url_path

if TYPE_CHECKING:
    from collections.abc import Generator


class SnapshotCalls(Transport):
    """The calls about snapshots, forks and exports."""

    def snapshots(self, instance_id: str | None = None) -> list[Json]:
        """An instance's snapshots, or all of the organization's; oldest first."""
        if instance_id is None:
            return self._list("/local/snapshots")
        return self._list(local_path(instance_id, "snapshots"))

    def snapshot(self, snapshot_id: str) -> Json:
        return self._call("GET", _path(snapshot_id))

    def take_snapshot(self, instance_id: str, name: str | None = None) -> Json:
        """Keeps an instance as it is now; a turn that runs is let end first."""
        path = local_path(instance_id, "snapshots")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Removes a snapshot; instances that were made of it stay."""
        self._call("DELETE", _path(snapshot_id), timeout=self._turn_timeout)

    def restore(self, instance_id: str, snapshot_id: str) -> Json:
        """Makes an instance what it was; it is `provisioning` then, see `wait_until_running`."""
        path, body = local_path(instance_id, "restore"), {"snapshot_id": snapshot_id}
        return self._call("POST", path, json=body, timeout=self._turn_timeout)

    def fork(self, instance_id: str, name: str) -> Json:
        """A new instance that is as this one is now, still `provisioning`."""
        path = local_path(instance_id, "fork")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def fork_snapshot(self, snapshot_id: str, name: str) -> Json:
        """A new instance that is as the snapshot is, still `provisioning`."""
        path = _path(snapshot_id, "fork")
        return self._call("POST", path, json={"name": name}, timeout=self._turn_timeout)

    def export(self, instance_id: str) -> Generator[bytes]:
        """An instance as a file for `import_instance`, as it comes; without any credentials.

        Raises ServerSilent when it breaks off.
        """
        path = local_path(instance_id, "export")
        with self._stream("GET", path, timeout=self._turn_timeout) as response:
            yield from response.iter_bytes()

    def import_instance(self, file: BinaryIO, name: str | None = None) -> Json:
        """A new instance of such a file, still `provisioning`."""
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
