"""Audited calls: a log line at the default level with caller, target and result."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import Permission
from chowder_local.core.secrets import digest
from tests.api.dashboard.conftest import Visitor
from tests.api.test_access import scoped

if TYPE_CHECKING:
    import pytest

    from tests.api.conftest import Api

SECRET = "sk-ant-a-secret"


async def test_each_audited_call_is_logged_with_caller_target_and_result(
    http: Api, caplog: pytest.LogCaptureFixture
) -> None:
    world = http.world
    agent, other = await world.created(), await world.created()
    reader = await scoped(http, agent.id, Permission.READ)
    snapshot = (await http.post(f"/local/instances/{agent.id}/snapshots", json={})).json()["id"]
    visitor = Visitor(http)
    await visitor.sign_in()
    caplog.set_level(logging.INFO, "chowder_local.http.middleware")
    caplog.clear()
    result: list[str] = []

    async def lines(answer: Any, *words: str) -> None:
        (record,) = [
            each for each in caplog.records if each.name == "chowder_local.http.middleware"
        ]
        caplog.clear()
        line = record.getMessage()
        assert [
            each for each in (str(answer.status_code), " by ", *words) if each not in line
        ] == []
        assert world.organization_id in line or "nobody" in line
        result.append(line)

    async def call(method: str, path: str, *words: str, **request: Any) -> Any:
        answer = await http.call(method, path, **request)
        await lines(answer, *words)
        return answer

    known = await world.key_queries.by_digest(digest(world.key))
    owner = f"organization key {known.id if known else None}"
    here = f"/local/instances/{agent.id}"
    await call("PATCH", here, agent.id, "egress default", owner, json={"egress": None})
    await call("POST", f"{here}/restore", f"snapshot {snapshot}", json={"snapshot_id": snapshot})
    forged = {"snapshot_id": "x\nERROR forged"}
    await call("POST", f"{here}/restore", "snapshot x%0AERROR%20forged", json=forged)
    await call("DELETE", f"/local/snapshots/{snapshot}", snapshot)
    await call("DELETE", f"/local/snapshots/{snapshot}", "404")
    body = {"name": SECRET, "instance_ids": [agent.id], "permissions": ["read"]}
    new = (await call("POST", "/v1/keys", owner, json=body)).json()
    await call("DELETE", f"/v1/keys/{new['id']}", new["id"], owner)
    await call("DELETE", f"/v1/instances/{agent.id}", "403", f"by key {reader}", key=reader)
    await call("DELETE", f"/v1/instances/{agent.id}", "401 ", "nobody", key=None)
    keys = {"model_api_keys": {"anthropic": SECRET}}
    await call("PATCH", "/v1/organization", "model_keys anthropic", json=keys)
    await lines(await visitor.post(f"/instances/{other.id}/delete"), other.id, owner)
    form = {"provider": "openai", "key": SECRET}
    await lines(await visitor.post("/organization/model-keys", form), "model_keys openai", owner)
    await call("POST", "/local/reset", owner)
    assert [each for each in (new["raw_key"], SECRET) if each in "".join(result)] == []
