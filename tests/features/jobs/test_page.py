"""An instance's scheduled jobs and their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.dashboard.conftest import Elements
from tests.features.jobs.test_api import answer_with, ms, params, raw
from tests.scripted.gateway import ok

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'


@pytest.fixture
async def path(visitor: Visitor) -> str:
    world = visitor.http.world
    instance = await world.created()
    job = raw(ms(world, 3_600), name=HOSTILE)
    session = "agent:main:cron:j-1:run:8c75"
    run = {"ts": 2_000, "runAtMs": 1_000, "jobId": "j-1", "status": "ok", "summary": HOSTILE}
    answer_with(world, job, runs=[{**run, "sessionKey": session}])
    world.gateway.rpc_answers |= {"cron.get": ok(job), "cron.update": ok(job)}
    return f"/instances/{instance.id}/schedule"


async def test_jobs_and_their_runs_are_listed(visitor: Visitor, path: str) -> None:
    assert f"{path}/list" in (await visitor.get(path)).text
    html = (await visitor.get(f"{path}/list")).text
    assert "every 60.0 s" in html
    assert "2026-05-04 04:02:01" in html
    assert "1970-01-01 00:00:01" in html
    elements = Elements(html)
    assert not elements.all("script")
    assert not [each for _, each in elements.tags if "onerror" in each]
    links = [each["href"] or "" for each in elements.all("a")]
    assert [each for each in links if each.endswith("?key=agent%3Amain%3Acron%3Aj-1")]


async def test_a_job_is_run_and_switched_off(visitor: Visitor, path: str) -> None:
    world = visitor.http.world
    answer = await visitor.post(f"{path}/j-1/run")
    assert "The run has begun" in answer.text
    assert world.programs.called("cron.run") == [{"id": "j-1", "mode": "force"}]
    await visitor.post(f"{path}/j-1/switch", {"is_enabled": "false"})
    assert params(world, "cron.update") == [{"id": "j-1", "patch": {"enabled": False}}]
