"""Parsing the engine's resource readings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from docker.errors import NotFound

from chowder_local.core.domain import SandboxId, SandboxUsage
from chowder_local.engine.engine_facts import parse_usage, read_usage

if TYPE_CHECKING:
    import docker

    from chowder_local.engine.containers import OwnedResources

READING: dict[str, Any] = {
    "memory_stats": {"usage": 700, "limit": 2_000, "stats": {"inactive_file": 100}},
    "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
}


def test_cached_files_do_not_count_as_memory() -> None:
    assert parse_usage(READING, 7.0) == SandboxUsage(600, 2_000, 1.5, 7.0)
    older = READING | {"memory_stats": {"usage": 50, "stats": {"total_inactive_file": 60}}}
    assert parse_usage(older, 7.0).memory_bytes == 0


def test_a_sandbox_that_has_just_ended_uses_nothing() -> None:
    readings: list[dict[str, Any]] = [
        {}, {"memory_stats": {}, "cpu_stats": {}}, {"memory_stats": None},
    ]  # fmt: skip
    for empty in readings:
        assert parse_usage(empty, 1.0) == SandboxUsage(0, 0, 0.0, 1.0)


def test_missing_sandboxes_are_left_out() -> None:
    def stats(container_id: str, **options: bool) -> dict[str, Any]:
        assert options == {"stream": False, "one_shot": True}
        if container_id == "going":
            raise NotFound("gone")
        return READING

    def find(sandbox_id: SandboxId) -> object:
        return None if sandbox_id == "gone" else SimpleNamespace(id=sandbox_id)

    client = cast("docker.DockerClient", SimpleNamespace(api=SimpleNamespace(stats=stats)))
    own = cast("OwnedResources", SimpleNamespace(find=find))
    ids = [SandboxId(each) for each in ("gone", "going", "there")]
    assert list(read_usage(client, own, ids)) == ["there"]
