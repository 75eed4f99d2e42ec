"""`conformance`, against a real server's routes behind a proxy that makes them drift."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from chowder_local.cli import conformance as command
from chowder_local.cli.main import run
from chowder_local.conformance import run as suite_run
from chowder_local.conformance.run import Run
from tests.api.conftest import app_of
from tests.scripted.serving import loopback_client, serve
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest
    from starlette.requests import Request

    from chowder_local.conformance.service import Service

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
READING = {"GET", "OPTIONS"}
HOP_BY_HOP = {"content-length", "date", "server"}


@dataclass
class DriftingProxy:
    """Forwards to a server; the subscription lacks a member, and an unknown key is gone."""

    upstream: httpx.AsyncClient
    changes: list[str] = field(default_factory=list)
    """Successful calls that are not for reading."""

    async def forward(self, request: Request) -> Response:
        answer = await self.upstream.request(
            request.method,
            request.url.path,
            params=request.query_params,
            headers={name: value for name, value in request.headers.items() if name != "host"},
            content=await request.body(),
        )
        call = f"{request.method} {request.url.path}"
        if request.method not in READING and answer.is_success:
            self.changes.append(call)
        status, content = answer.status_code, answer.content
        if call == "GET /v1/subscription" and answer.is_success:
            content = content.replace(b"stripe_customer_id", b"customer_id")
        if call.startswith("GET /v1/keys/0") and status == httpx.codes.NOT_FOUND:
            status = httpx.codes.GONE
        headers = {k: v for k, v in answer.headers.items() if k not in HOP_BY_HOP}
        return Response(content, status, headers)


@asynccontextmanager
async def drifting(url: str) -> AsyncIterator[tuple[DriftingProxy, str]]:
    async with loopback_client(base_url=url, timeout=None) as upstream:
        proxy = DriftingProxy(upstream)
        app = Starlette(routes=[Route("/{path:path}", proxy.forward, methods=METHODS)])
        async with serve(app) as address:
            yield proxy, address


async def test_the_report_names_exactly_what_drifts_and_reading_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reports = [tmp_path / "drift.json", tmp_path / "drift.md"]
    async with (
        open_world(tmp_path) as world,
        serve(app_of(world)) as url,
        drifting(url) as (proxy, address),
    ):
        arguments = ["conformance", f"{address}/v1", "--read-only", "--as", "hosted"]
        for file in reports:
            arguments += ["--report", str(file)]
        env = {**os.environ, "CONFORMANCE_KEY": world.key}
        assert await asyncio.to_thread(run, arguments, env) == 1

    content: dict[str, Any] = json.loads(reports[0].read_text())
    unexplained = {
        (each["operation"], each["expected"], each["observed"])
        for each in content["drifts"]
        if each["entry"] is None
    }
    assert unexplained == {
        (
            "getSubscription",
            "Subscription as published",
            '"stripe_customer_id" is a required property',
        ),
        ("getKey", "404", '410 {"detail":"Key not found."}'),
    }
    # The server behind it is ours.
    known = {each["entry"] for each in content["drifts"]} - {None}
    assert known == {"cors", "descriptions", "more-routes"}
    assert content["passed"] > 10
    assert proxy.changes == []
    for text in (*(file.read_text() for file in reports), *capfd.readouterr()):
        assert world.key not in text


def test_a_url_and_pytest_are_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["conformance", "api.example/v1"], {"CONFORMANCE_KEY": "k"}) == 2
    assert "https://api.example/v1" in capsys.readouterr().err
    monkeypatch.setattr(suite_run, "find_spec", lambda _: None)
    assert run(["conformance", "https://api.example/v1"], {"CONFORMANCE_KEY": "k"}) == 2
    assert "chowder-local[conformance]" in capsys.readouterr().err


def test_the_key_is_asked_for_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "chd_org_secret"

    def judge(service: Service, *_: object, **__: object) -> Run:
        assert service.key == "chd_org_secret"
        return Run(0, (), (), ())

    monkeypatch.setattr(click.termui, "hidden_prompt_func", answer)
    monkeypatch.setattr(command, "run", judge)
    assert run(["conformance", "https://api.example/v1", "--read-only"], {}) == 0
    assert len(asked) == 1
    assert "chd_org_secret" not in "".join(capsys.readouterr())
