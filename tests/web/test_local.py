"""What only the local server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import InstanceStatus
from chowder_local.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from tests.web.conftest import Api


async def test_health_is_told_to_anyone(http: Api) -> None:
    await http.world.placed(InstanceStatus.RUNNING)
    answer = await http.get("/local/health", key=None)
    assert answer.status_code == 200
    report = answer.json()
    assert report["status"] == "ok"
    assert report["engine"] == {"reachable": True, "version": "Scripted 1.0", "error": None}
    assert report["instances"]["running"] == 1


async def test_health_answers_while_the_engine_does_not(http: Api) -> None:
    http.world.engine.failing["version"] = EngineUnavailable("The engine is on holiday.")
    answer = await http.get("/local/health", key=None)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_a_server_that_answers_is_ready(http: Api) -> None:
    answer = await http.get("/local/ready", key=None)
    assert (answer.status_code, answer.json()) == (200, {"ready": True})


async def test_a_log_is_plain_text_of_so_many_lines(http: Api) -> None:
    instance = await http.world.created()
    http.world.engine.log = "".join(f"line {number}\n" for number in range(300))
    path = f"/local/instances/{instance.id}/logs"
    usual, short = await http.get(path), await http.get(f"{path}?tail=2")
    assert usual.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(usual.text.splitlines()) == 200
    assert short.text == "line 298\nline 299"


@pytest.mark.parametrize("follow", ["1", "true", "YES"])
async def test_a_log_can_be_followed(http: Api, follow: str) -> None:
    instance = await http.world.created()
    http.world.engine.log = "one\ntwo\n"
    answer = await http.get(f"/local/instances/{instance.id}/logs?tail=1&follow={follow}")
    assert answer.text == "two\n"
    assert http.world.engine.made("follow_log") == 1


@pytest.mark.parametrize("follow", ["0", "false", "no"])
async def test_a_log_is_not_followed_unless_asked(http: Api, follow: str) -> None:
    instance = await http.world.created()
    await http.get(f"/local/instances/{instance.id}/logs?follow={follow}")
    assert http.world.engine.made("follow_log") == 0


@pytest.mark.parametrize("tail", ["0", "-1", "1.5", "all", "", "100001", "٣x", "9" * 5000])
async def test_a_number_of_lines_that_makes_no_sense_is_a_422(http: Api, tail: str) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/local/instances/{instance.id}/logs", params={"tail": tail})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["query", "tail"]
    assert set(problem) == {"loc", "msg", "type"}


@pytest.mark.parametrize("follow", ["", "maybe", "2"])
async def test_a_follow_that_is_neither_true_nor_false_is_a_422(http: Api, follow: str) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/local/instances/{instance.id}/logs", params={"follow": follow})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert (problem["loc"], problem["type"]) == (["query", "follow"], "bool_parsing")


async def test_the_owner_learns_how_to_reach_the_gateway(http: Api) -> None:
    instance = await http.world.created()
    answer = await http.get(f"/local/instances/{instance.id}/gateway")
    assert answer.json() == {
        "gateway_url": http.world.engine.gateway_url,
        "token": http.world.vault.gateway_token(instance.sandbox_id),
    }
