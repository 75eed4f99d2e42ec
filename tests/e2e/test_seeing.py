"""What a real server shows of itself and its agents: events, metrics, and ids in its log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.api import CLAUDE
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    import httpx

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

DEADLINE_S = 120.0


def events_of(answer: httpx.Response, instance_id: str) -> Iterator[dict[str, Any]]:
    """What a stream of events tells of an instance."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            content: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if content.get("instance_id") == instance_id:
                yield content


def test_who_follows_sees_an_agent_stop_start_and_die_and_the_servers_end(
    quick_server: ServerProcess, quick_api: Api, quick_ids: list[str], engine: docker.DockerClient
) -> None:
    agent, _ = quick_ids
    url = f"{quick_server.base_url.removesuffix('/v1')}/local/events"
    with quick_api.stream("GET", url, timeout=DEADLINE_S) as answer:
        told = events_of(answer, agent)
        quick_api.stop(agent)
        assert next(told)["status"] == "stopped"
        quick_api.start(agent)
        assert next(told)["type"] == "sandbox.resumed"
        assert next(told)["status"] == "running"
        engine.containers.get(quick_api.get(f"instances/{agent}").json()["sandbox_id"]).kill()
        seen = [next(told)]
        while (seen[-1].get("status"), seen[-1].get("before")) != ("running", "provisioning"):
            seen.append(next(told))
        assert {"sandbox.reconciled", "boot.queued", "boot.begun", "boot.ended"} <= {
            each["type"] for each in seen
        }
        quick_server.down()
        # In good order: a stream that is cut off would raise.
        assert list(told) == []


def test_a_message_is_found_by_its_id_in_log_and_by_its_route_in_metrics(
    quick_server: ServerProcess, quick_api: Api, quick_ids: list[str]
) -> None:
    agent, _ = quick_ids
    body = {"model": CLAUDE, "input": "ask your model: Hi"}
    headers = {"X-Request-Id": "seen-in-the-log"}
    answer = quick_api.post(f"instances/{agent}/responses", json=body, headers=headers)
    assert answer.headers["X-Request-Id"] == "seen-in-the-log"

    # A client may have the whole answer before its request is over.
    def logged() -> bool:
        found = [each for each in quick_server.log().splitlines() if "seen-in-the-log" in each]
        return any(f"/v1/instances/{agent}/responses 200" in each for each in found)

    eventually(logged, "the request is logged", DEADLINE_S)

    # An agent need not wait for the end of the model's stream, which is when a call is counted.
    def counted() -> str | None:
        told: str = quick_api.get(f"{quick_server.base_url.removesuffix('/v1')}/local/metrics").text
        line = 'chowder_model_calls_total{outcome="offline",provider="anthropic"}'
        return told if line in told else None

    metrics = eventually(counted, "the model call is counted", DEADLINE_S)
    route = "/v1/instances/{instance_id}/responses"
    assert f'chowder_requests_total{{method="POST",route="{route}",status="2xx"}}' in metrics
    assert quick_server.key not in metrics
