"""A real server with a real agent answers as its OpenAPI document says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MAX_EXAMPLES = 1
"""An operation: against the scripted engine, each is tried at all its boundaries."""
LEFT_OUT = [
    # They change what the shared agent says to others.
    "PUT /local/replies",
    "PUT /local/instances/{instance_id}/replies",
    "PUT /local/instances/{instance_id}/recording",
    # It has no end.
    "GET /local/events",
    # They end or make agents, which others need and which cost seconds each.
    "POST /v1/instances",
    "DELETE /v1/instances/{instance_id}",
    "POST /v1/instances/{instance_id}/stop",
    "POST /v1/instances/{instance_id}/start",
    "POST /local/instances/{instance_id}/fork",
    "POST /local/instances/{instance_id}/restore",
    "POST /local/snapshots/{snapshot_id}/fork",
    "POST /local/instances/import",
    # They change what others rely on: model keys, the shared agent's name, settings and skills.
    "PATCH /v1/organization",
    "PATCH /v1/instances/{instance_id}",
    "PATCH /local/instances/{instance_id}",
    "PATCH /v1/instances/{instance_id}/skills/{skill_name}",
    # They befall, or remove, what others need.
    "POST /local/faults",
    "POST /local/reset",
    # They ask for the Internet, or take seconds.
    "POST /v1/instances/{instance_id}/skills/install",
    "POST /v1/instances/{instance_id}/channels/{channel}/connect",
    "POST /v1/instances/{instance_id}/channels/{channel}/pair",
]


# Some of what it asks goes through OpenClaw's own plugins and configuration.
def test_no_operation_answers_otherwise_than_the_document_says(
    server: ServerProcess,
    instance: str,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    from tests.fuzz import fuzz

    operations: list[dict[str, Any]] = [
        {"include-path-regex": r"\{instance_id\}", "parameters": {"path.instance_id": instance}},
    ]
    findings = fuzz(
        server.base_url.removesuffix("/v1"),
        server.key,
        instance_id=instance,
        max_examples=MAX_EXAMPLES,
        phases=("examples", "fuzzing"),
        operations=operations,
        excluded=LEFT_OUT,
        is_learning=False,
    )
    record_testsuite_property("findings with a real agent", str(findings))
    assert not findings.failures, f"{findings}\n\n{findings.told()}"
