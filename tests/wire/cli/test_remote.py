"""`pull`, `push` and `drift` against a server of which only `/v1` is reached, over a bad line."""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import yaml
from anyio import sleep
from anyio.from_thread import start_blocking_portal

from chowder_local.app.server import State, api
from chowder_local.cli.main import run
from chowder_local.client import Client
from chowder_local.client import remote as remote_client
from chowder_local.core.domain import Tier
from chowder_local.http.listener import with_state
from tests.scripted.programs import done
from tests.scripted.serving import serve as served
from tests.scripted.world import open_world
from tests.wire.cli.test_seed import Place, open_place, place_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.domain import Instance
    from tests.scripted.world import World
    from tests.wire.cli.conftest import Output

FILES = {
    "workspace/SOUL.md": b"Be brief.\n",
    "workspace/data/prices.bin": bytes(range(256)) * 2000,
    "workspace/skills/pager/SKILL.md": b"---\nname: pager\n---\nPage.\n",
    "workspace/.git/config": b"[core]\n\tfsmonitor = touch /tmp/planted\n",
    "agents/main/agent/openclaw-agent.sqlite": b"conversations",
}
CONFIG = {
    "agents": {"defaults": {"thinkingDefault": "low"}},
    "channels": {"telegram": {"botToken": "12:planted", "enabled": True}},
    "skills": {"entries": {"pager": {"apiKey": "sk-planted", "enabled": True}}},
}


@dataclass
class Line:
    """What stands before the other server: it has no `/local`, and fails as a test says."""

    app: ASGIApp
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Calls (`METHOD path`, a pattern) and what becomes of each, once: a status, cut or late."""
    calls: list[str] = field(default_factory=list)
    delay_s: float = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = f"{scope['method']} {scope['path']}"
        self.calls.append(call)
        await sleep(self.delay_s)
        fault = next((each for each in self.faults if re.search(each[0], call)), None)
        if fault is not None:
            self.faults.remove(fault)
        if not scope["path"].startswith("/v1/"):
            await _answer(send, 404)
        elif fault is not None and fault[1].isdigit():
            await _answer(send, int(fault[1]))
        elif fault is not None and fault[1] == "cut":
            # Done, but its answer is lost.
            await self.app(scope, receive, _swallow)
            await _begin(send, 200, b"100")
            await send({"type": "http.response.body", "body": b"{", "more_body": False})
        else:
            await self.app(scope, receive, send)


async def _swallow(_: Message) -> None:
    pass


async def _answer(send: Send, status: int) -> None:
    await _begin(send, status, b"17")
    await send({"type": "http.response.body", "body": b'{"detail": "No."}'})


async def _begin(send: Send, status: int, length: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


@dataclass
class Sites:
    """A local server, and another one behind a line, with the agent `support`."""

    local: Place
    world: World
    line: Line
    url: str
    agent: Instance
    folder: Path
    key: str = ""
    """The key of the commands; without one, the organization's."""

    def home(self, instance: Instance | None = None) -> Path:
        return self.world.state_of(instance or self.agent)

    def run(self, *arguments: str) -> int:
        key = {"CHOWDER_REMOTE_KEY": self.key or self.world.key}
        return run(list(arguments), self.local.env | key)

    def use_scoped_key(self, *permissions: str) -> None:
        with self.client() as client:
            self.key = client.create_key("pull", [self.agent.id], permissions)["raw_key"]

    def client(self) -> Client:
        return Client(self.url, self.world.key)

    def pull(self, *options: str) -> int:
        return self.run("pull", self.url, "support", "--to", str(self.folder), *options)

    @property
    def seed(self) -> str:
        return str(self.folder / "seed.yaml")


@asynccontextmanager
async def _open_other(folder: Path) -> AsyncIterator[tuple[World, Line, str, Instance]]:
    folder.mkdir()
    async with open_world(folder) as world:

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[State]:
            yield world.state

        line = Line(with_state(api([], lifespan, world.metrics), world.state))
        await world.organizations.move(world.organization_id, Tier.CRAB, is_paid_for=False)
        skills = [{"name": name, "source": "openclaw-managed"} for name in ("tides", "pager")]
        world.programs.answers["skills.status"] = done(skills=skills)
        agent = await world.created(name="support", openclaw_config=CONFIG)
        async with served(line) as url:
            yield world, line, f"{url}/v1", agent


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sites]:
    monkeypatch.setattr(remote_client, "PAUSES_S", (0.01, 0.01, 0.01))
    (tmp_path / "here").mkdir()
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_place(tmp_path / "here")) as (here, here_url),
        portal.wrap_async_context_manager(_open_other(tmp_path / "there")) as other,
    ):
        local = place_in(tmp_path / "here", portal, here, here_url)
        world, line, url, agent = other
        sites = Sites(local, world, line, url, agent, tmp_path / "support")
        for path, content in FILES.items():
            file = sites.home() / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        yield sites


def copied(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_pulled_agent_is_here_and_in_a_folder_without_secrets(
    sites: Sites, capsys: Output
) -> None:
    sites.use_scoped_key("read", "files")
    assert sites.pull("--as", "copy") == 0
    out, err = capsys.readouterr()
    wanted = {path: FILES[path] for path in list(FILES)[:3]}
    home = copied(sites.folder / "home")
    assert {path: home.get(path) for path in wanted} == wanted
    assert not [path for path in home if ".git" in path or path.startswith("agents")]
    (declared,) = yaml.safe_load((sites.folder / "seed.yaml").read_text())["organizations"]
    assert declared["instances"][0]["openclaw_config"] == {
        "agents": {"defaults": {"thinkingDefault": "low"}},
        "skills": {"entries": {"pager": {"enabled": True}}},
    }
    with sites.local.client() as client:
        (copy,) = client.instances()
    assert (copy["name"], copy["status"]) == ("copy", "running")
    assert (sites.local.state / "workspace/SOUL.md").read_bytes() == FILES["workspace/SOUL.md"]
    everything = out + err + str(copied(sites.folder)) + str(copied(sites.local.folder / "data"))
    assert "planted" not in everything
    assert sites.key not in everything
    for each in (
        "skills: the key lacks the permission `configure`",
        "channels: the key lacks the permission `channels`",
        "setting skills.entries.pager.apiKey: it may be a secret",
        "conversations: no call shows them",
        "scheduled jobs: no call shows them; declare them",
    ):
        assert each in err
    assert not [each for each in sites.line.calls if "/local" in each]


def test_a_second_pull_reads_no_file_again_and_a_change_there_comes_here(sites: Sites) -> None:
    assert sites.pull() == 0
    first = copied(sites.folder)
    # As old as files are that were not written just now.
    for path in sites.home().rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert sites.pull() == 0
    sites.line.calls.clear()
    assert sites.pull() == 0
    assert not [each for each in sites.line.calls if each.endswith("download")]
    assert copied(sites.folder) == first
    (sites.home() / "workspace/SOUL.md").write_bytes(b"Be long.\n")
    (sites.home() / "workspace/data/prices.bin").unlink()
    assert sites.pull() == 0
    changed = copied(sites.folder / "home")
    assert changed["workspace/SOUL.md"] == b"Be long.\n"
    assert "workspace/data/prices.bin" not in changed
