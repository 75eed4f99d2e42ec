"""`pull`, `push` and `diff` against a server of which only `/v1` is reached, over a bad line."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
import yaml
from anyio import sleep
from anyio.from_thread import start_blocking_portal

from chowder_local.app.application import State, api
from chowder_local.cli.main import run
from chowder_local.client import Client
from chowder_local.client import remote as remote_client
from chowder_local.client.remote import SHAPES
from chowder_local.conformance import published
from chowder_local.core.domain import Tier
from chowder_local.http.listener import with_state
from tests.scripted.gateway import ok
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

PUBLISHED = published.read()
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
    queries: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    unpublished: list[str] = field(default_factory=list)
    """Calls that the published pages do not have."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        call = f"{scope['method']} {scope['path']}"
        self.calls.append(call)
        self.queries.append(query)
        operation = PUBLISHED.operation(scope["method"], scope["path"].removeprefix("/v1/"))
        known = PUBLISHED.calls.get(operation)
        names = {name for name, _ in parse_qsl(query)}
        if known is None or not names <= {each.rstrip("?") for each in known.query}:
            self.unpublished.append(f"{call} {names}")
        await sleep(self.delay_s)
        fault = next((each for each in self.faults if re.search(each[0], f"{call}?{query}")), None)
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
    body = b'{"detail": "\\u001b[2JNo."}'
    await _begin(send, status, str(len(body)).encode())
    await send({"type": "http.response.body", "body": body})


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
        sources = {
            "tides": "openclaw-managed",
            "pager": "openclaw-managed",
            "weather": "openclaw-x",
        }
        skills = [{"name": name, "source": source} for name, source in sources.items()]
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
        assert line.unpublished == []


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
        "skills: they could not be listed (the key lacks the permission `configure`)",
        "channels: they could not be listed (the key lacks the permission `channels`)",
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


PLANTED = {
    # A repository without `.git`, and the same for a file system that ignores case.
    "workspace/HEAD": b"ref: refs/heads/main\n",
    "workspace/config": b"[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\n"
    b'fsmonitor = "touch MARKER; false"\n',
    "workspace/objects/info/packs": b"\n",
    "workspace/refs/notes/info": b"\n",
    "workspace/deep/repo/head": b"ref: refs/heads/main\n",
    "workspace/.envrc": b"touch planted\n",
    "workspace/.vscode/tasks.json": b"{}",
    "workspace/.gitmodules": b"[submodule]\n",
    "workspace/data/mise.toml": b"[hooks]\n",
}


def git_status(folder: Path) -> None:
    """Runs `git status` as somebody does who enters the folder, in a repository of their own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "status"], cwd=folder, env=env, check=False, capture_output=True)


def test_nothing_that_a_program_obeys_comes_unless_it_is_named(
    sites: Sites, capsys: Output, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    for path, content in PLANTED.items():
        file = sites.home() / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.replace(b"MARKER", bytes(marker)))
    (sites.home() / "workspace/empty").mkdir()
    # Git does obey what the agent has made.
    git_status(sites.home() / "workspace/data")
    assert marker.exists()
    marker.unlink()
    assert sites.pull() == 0
    err = capsys.readouterr().err
    workspace = sites.folder / "home/workspace"
    for folder in (workspace, workspace / "refs/notes", sites.folder):
        git_status(folder)
    assert not marker.exists()
    left = {"HEAD", "deep/repo/head", ".envrc", ".vscode", ".gitmodules", "data/mise.toml"}
    for path in left:
        assert f"- workspace/{path}: git, an editor or a shell may obey it" in err
        assert f"Copy it nevertheless with: --take 'workspace/{path}'" in err
        assert not (workspace / path).exists()
    assert "- workspace/.git: git runs commands that are written there. It is never copied." in err
    assert "--take 'workspace/.git'" not in err
    assert "empty folders (1): git keeps none. They are workspace/empty." in err
    assert (workspace / "config").exists()
    # Not even its listing is asked for.
    assert not [each for each in sites.line.queries if ".git" in each or "vscode" in each]
    take = ("--take", "workspace/.vscode/tasks.json", "--take", "workspace/.envrc")
    assert sites.pull(*take) == 0
    assert (workspace / ".envrc").read_bytes() == PLANTED["workspace/.envrc"]
    assert (workspace / ".vscode/tasks.json").exists()
    assert sites.pull("--take", "workspace/.git/config") == 2
    assert "is never copied" in capsys.readouterr().err


PUSHED = """
organizations:
  - name: default
    tier: crab
    instances:
      - name: %s
        openclaw_config: {agents.defaults.thinkingDefault: high}
        files: {workspace/SOUL.md: "Be bold.\\n", workspace/new.md: new}
        sessions: [{messages: [Hi]}]
    keys: [{name: page, instances: [%s], permissions: [read]}]
"""


def write_seed(sites: Sites, text: str = PUSHED, name: str = "support") -> str:
    file = sites.folder.with_name("seed.yaml")
    file.write_text(text.replace("%s", name))
    return str(file)


def test_a_push_shows_its_plan_and_changes_what_differs_and_again_nothing(
    sites: Sites, capsys: Output
) -> None:
    seed = write_seed(sites)
    sites.line.calls.clear()
    assert sites.run("push", seed, sites.url, "--dry-run") == 0
    conflicts = [
        "conflict: configure support: agents.defaults.thinkingDefault (it differs there, and was "
        "never seen)",
        "conflict: write workspace/SOUL.md of support (it differs there, and was never seen)",
    ]
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == conflicts
    assert "write workspace/new.md of support" in out
    assert "Not pushed: sessions of support" in err
    assert {each.split()[0] for each in sites.line.calls} == {"GET"}
    sites.world.gateway.messages.clear()
    assert sites.run("push", seed, sites.url, "--yes") == 2
    assert not (sites.home() / "workspace/new.md").exists()
    assert sites.run("push", seed, sites.url, "--yes", "--ours") == 0
    assert "Pushed in 4 steps." in capsys.readouterr().out
    home = sites.home() / "workspace"
    assert (home / "SOUL.md").read_bytes() == b"Be bold.\n"
    assert (home / "new.md").read_bytes() == b"new"
    assert sites.world.gateway.messages == []
    with sites.client() as client:
        (agent,) = client.instances()
        assert agent["openclaw_config"]["agents"]["defaults"] == {"thinkingDefault": "high"}
        # What the file does not name stays.
        assert agent["openclaw_config"]["channels"] == CONFIG["channels"]
        (page,) = client.keys()
    assert page["name"] == "page"
    # A second machine has no memory of the first push.
    for file in (sites.local.folder / "data").glob("seed-*"):
        file.unlink()
    assert sites.run("push", seed, sites.url, "--yes") == 0
    assert "nothing is to be changed" in capsys.readouterr().out


def test_an_agent_is_created_once_although_the_answers_are_cut_and_late(
    sites: Sites, capsys: Output
) -> None:
    seed = write_seed(sites, name="fresh")
    sites.line.delay_s = 0.02
    sites.line.faults += [
        (r"GET /v1/instances\?", "429"),
        (r"POST /v1/instances\?", "cut"),
        ("GET .*/status", "502"),
        ("POST .*/files/upload", "503"),
        ("POST .*/files/upload", "cut"),
        ("POST /v1/keys", "cut"),
    ]
    assert sites.run("push", seed, sites.url, "--yes") == 0, capsys.readouterr().err
    assert sites.line.faults == []
    with sites.client() as client:
        named = [each for each in client.instances() if each["name"] == "fresh"]
        listed = client.keys()
    active = [each["name"] for each in listed if each["is_active"]]
    assert [each["status"] for each in named] == ["running"]
    # The key of the attempt that was cut off is nobody's.
    assert active == ["page"]


def test_only_delete_removes_settings_and_replaced_keys(sites: Sites, capsys: Output) -> None:
    seed = write_seed(sites)
    with sites.client() as client:
        client.configure(sites.agent.id, {"logging": {"level": "debug"}})
    assert sites.run("push", seed, sites.url, "--yes", "--ours") == 0
    sites.world.clock.advance(1)
    write_seed(sites, PUSHED.replace("[read]", "[read, interact]"))
    assert sites.run("push", seed, sites.url, "--yes") == 0
    with sites.client() as client:
        listed = client.keys()
        assert [each["is_active"] for each in listed] == [True, True]
        assert client.instance(sites.agent.id)["openclaw_config"]["logging"]
    capsys.readouterr()
    sites.world.clock.advance(1)
    write_seed(sites, PUSHED.replace("[read]", "[files]"))
    assert sites.run("push", seed, sites.url, "--yes", "--delete") == 2
    out, _ = capsys.readouterr()
    for name in ("skills.entries.pager.enabled", "logging.level"):
        assert f"conflict: remove {name} from the configuration of support (it differs" in out
    assert sites.run("push", seed, sites.url, "--yes", "--delete", "--ours") == 0
    with sites.client() as client:
        config = client.instance(sites.agent.id)["openclaw_config"]
        listed = client.keys()
    assert [each["is_active"] for each in listed] == [True, False, True]
    assert config["logging"] == {}
    # What a seed file cannot have is not removed either.
    assert config["channels"] == CONFIG["channels"]
    assert config["skills"]["entries"]["pager"] == {"apiKey": "sk-planted"}


def test_a_push_that_may_delete_names_the_files_that_no_call_removes(
    sites: Sites, capsys: Output
) -> None:
    assert sites.pull("--yes") == 0
    (sites.home() / "workspace/extra.md").write_bytes(b"Not declared.\n")
    seed = str(sites.folder / "seed.yaml")
    assert sites.run("push", seed, sites.url, "--yes") == 0
    assert "extra.md" not in capsys.readouterr().err
    assert sites.run("push", seed, sites.url, "--yes", "--delete") == 0
    out, err = capsys.readouterr()
    assert "Stays: workspace/extra.md of support" in err
    assert "What the seed file does not have stays (1 file), also with --delete" in err
    assert "is as declared" not in out
    assert (sites.home() / "workspace/extra.md").exists()


def test_a_push_warns_if_something_has_changed_since_the_plan(
    sites: Sites, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_meanwhile(question: str, *, yes: bool) -> None:
        (sites.home() / "workspace/SOUL.md").write_bytes(b"Be somebody else's.\n")

    monkeypatch.setattr("chowder_local.cli.remote.confirm", change_meanwhile)
    assert sites.run("push", write_seed(sites), sites.url, "--ours") == 0
    assert "has changed since the plan" in capsys.readouterr().err


def test_settings_and_files_that_differ_are_shown(sites: Sites, capsys: Output) -> None:
    assert sites.pull() == 0
    command = ("diff", sites.seed, sites.url, "support", "--exit-code")
    assert sites.run(*command) == 0
    here = sites.folder / "home/workspace"
    (here / "SOUL.md").write_text("Be long.\n")
    (here / "mine.md").write_text("mine")
    (sites.home() / "workspace/theirs.md").write_text("theirs")
    with sites.client() as client:
        client.configure(sites.agent.id, {"agents.defaults.thinkingDefault": "high"})
    capsys.readouterr()
    assert sites.run(*command) == 1
    leaves = "push leaves it"
    wanted = [
        '~ openclaw_config agents.defaults.thinkingDefault: "low" here, "high" there; changed '
        f"there, {leaves}",
        "~ file workspace/SOUL.md: differs; changed here, push writes it",
        "- file workspace/mine.md: only here; changed here, push writes it",
        f"+ file workspace/theirs.md: only there; {leaves}",
    ]
    assert capsys.readouterr().out.splitlines() == wanted
    (sites.home() / "workspace/SOUL.md").write_text("Be cold.\n")
    (sites.home() / "workspace/data/prices.bin").unlink()
    (here / "skills/pager/SKILL.md").unlink()
    (here / "MEMORY.md").write_text("mine")
    assert sites.run(*command) == 1
    files = [each for each in capsys.readouterr().out.splitlines() if " file " in each]
    assert files == [
        "- file workspace/MEMORY.md: only here; push leaves it without --memory",
        "~ file workspace/SOUL.md: differs; changed here and there, push asks about it",
        f"- file workspace/data/prices.bin: deleted there; changed there, {leaves}",
        wanted[2],
        f"+ file workspace/skills/pager/SKILL.md: deleted here; {leaves}",
        wanted[3],
    ]
    # With the agent here in the seed file's place, only what has changed there since.
    assert sites.run("diff", "support", sites.url, "support", "--exit-code") == 1
    assert "theirs.md" in capsys.readouterr().out


def test_a_push_leaves_what_changed_only_there_and_says_so(sites: Sites, capsys: Output) -> None:
    assert sites.pull() == 0
    home, here = sites.home() / "workspace", sites.folder / "home/workspace"
    (home / "SOUL.md").write_text("Be kind.\n")
    (home / "data/prices.bin").unlink()
    (here / "skills/pager/SKILL.md").write_text("New.\n")
    document = yaml.safe_load((sites.folder / "seed.yaml").read_text())
    config = document["organizations"][0]["instances"][0]["openclaw_config"]
    config["logging"] = {"level": "debug"}
    (sites.folder / "seed.yaml").write_text(yaml.safe_dump(document))
    with sites.client() as client:
        client.configure(sites.agent.id, {"agents": {"defaults": {"thinkingDefault": "high"}}})
    capsys.readouterr()
    assert sites.run("push", sites.seed, sites.url, "--yes") == 0
    out, err = capsys.readouterr()
    plan = ["configure support: logging.level", "write workspace/skills/pager/SKILL.md of support"]
    assert [each for each in out.splitlines() if " support" in each] == plan
    assert "Stays: workspace/SOUL.md of support: changed there" in err
    assert "Stays: workspace/data/prices.bin of support: deleted there" in err
    assert "Stays: setting agents.defaults.thinkingDefault of support: changed there" in err
    assert (home / "SOUL.md").read_text() == "Be kind.\n"
    assert not (home / "data/prices.bin").exists()
    assert (home / "skills/pager/SKILL.md").read_text() == "New.\n"
    with sites.client() as client:
        config = client.instance(sites.agent.id)["openclaw_config"]
    assert config["agents"]["defaults"] == {"thinkingDefault": "high"}
    assert config["logging"] == {"level": "debug"}
    # A pull brings what changed there, and keeps the rest.
    assert sites.pull() == 0
    assert (here / "SOUL.md").read_text() == "Be kind.\n"
    assert not (here / "data/prices.bin").exists()
    assert sites.run("diff", sites.seed, sites.url, "support", "--exit-code") == 0


def test_what_changed_on_both_sides_is_pushed_only_if_somebody_says_so(
    sites: Sites, capsys: Output
) -> None:
    assert sites.pull() == 0
    ours, theirs = (each / "workspace" for each in (sites.folder / "home", sites.home()))
    for folder, text in ((ours, "Mine.\n"), (theirs, "Theirs.\n")):
        (folder / "SOUL.md").write_text(text)
    (ours / "data/prices.bin").write_bytes(b"new")
    (theirs / "data/prices.bin").unlink()
    (ours / "new.md").write_text("new")
    push = ("push", sites.seed, sites.url, "--yes")
    assert sites.run(*push) == 2
    out, err = capsys.readouterr()
    assert "conflict: write workspace/SOUL.md of support (changed there, too)" in out
    assert "conflict: write workspace/data/prices.bin of support (deleted there, too)" in out
    assert "Nothing was changed. Add --ours" in err
    assert not (theirs / "new.md").exists()
    # Without a terminal, nobody answers the question.
    assert sites.run(*push[:-1]) == 1
    assert "Take ours, theirs, or neither and stop?" in capsys.readouterr().err
    for _ in range(2):
        # What was left is still a conflict.
        assert sites.run(*push, "--theirs") == 0
        assert (theirs / "new.md").exists()
        assert (theirs / "SOUL.md").read_text() == "Theirs.\n"
    assert sites.run(*push) == 2
    assert sites.run(*push, "--ours") == 0
    assert (theirs / "SOUL.md").read_text() == "Mine.\n"
    assert (theirs / "data/prices.bin").read_bytes() == b"new"
    # A push notes what it wrote.
    (ours / "SOUL.md").write_text("Mine again.\n")
    assert sites.run(*push) == 0
    assert (theirs / "SOUL.md").read_text() == "Mine again.\n"


def test_a_push_that_nothing_was_seen_for_takes_each_difference_for_a_conflict(
    sites: Sites, capsys: Output
) -> None:
    assert sites.pull() == 0
    (sites.folder / "seen.json").unlink()
    (sites.home() / "workspace/SOUL.md").write_text("Theirs.\n")
    capsys.readouterr()
    assert sites.run("push", sites.seed, sites.url, "--yes") == 2
    assert "SOUL.md of support (it differs there, and was never seen)" in capsys.readouterr().out
    (sites.folder / "seen.json").write_text('{"x": 1}')
    assert sites.run("push", sites.seed, sites.url, "--yes") == 2
    assert "or remove it: then everything that differs is a conflict" in capsys.readouterr().err


def test_memory_is_pushed_only_if_it_is_asked_for(sites: Sites, capsys: Output) -> None:
    assert sites.pull() == 0
    for folder in (sites.folder / "home/workspace", sites.home() / "workspace"):
        (folder / "memory").mkdir()
    here, there = sites.folder / "home/workspace", sites.home() / "workspace"
    for path in ("MEMORY.md", "memory/2026-01-01.md"):
        (here / path).write_text("here")
    push = ("push", sites.seed, sites.url, "--yes")
    assert sites.run(*push) == 0
    out, err = capsys.readouterr()
    assert "Not pushed without --memory: workspace/MEMORY.md of support" in err
    assert "Pushed" not in out
    text = PUSHED.replace("workspace/new.md: new", "workspace/MEMORY.md: by name")
    assert sites.run("push", write_seed(sites, text), sites.url, "--yes", "--ours") == 0
    assert (there / "MEMORY.md").read_text() == "by name"
    assert sites.run(*push, "--memory", "--ours") == 0
    assert (there / "MEMORY.md").read_text() == "here"
    assert (there / "memory/2026-01-01.md").read_text() == "here"


def test_a_push_names_modes_and_folders_that_no_call_carries(sites: Sites, capsys: Output) -> None:
    script, other = (sites.home() / f"workspace/{name}.sh" for name in ("run", "stop"))
    for each in (script, other):
        each.write_text("true")
        each.chmod(0o755)
    assert sites.pull() == 0
    here = sites.folder / "home/workspace"
    assert os.access(here / "run.sh", os.X_OK)
    (here / "SOUL.md").chmod(0o755)
    (here / "stop.sh").chmod(0o644)
    (here / "empty").mkdir()
    (here / ".git").mkdir()
    capsys.readouterr()
    assert sites.run("push", sites.seed, sites.url, "--dry-run") == 0
    assert [each for each in capsys.readouterr().err.splitlines() if "Not pushed" in each] == [
        "Not pushed: workspace/SOUL.md of support: no call makes it executable. Have the agent run "
        "chmod +x.",
        "Not pushed: workspace/stop.sh of support: no call makes it not executable. Have the agent "
        "run chmod -x.",
        "Not pushed: workspace/.git of support: it is git's own.",
        "Not pushed: workspace/empty of support: no call makes an empty folder. Put a file into "
        "it.",
    ]
    # What changed there alone comes here, and what changed here alone stays.
    script.chmod(0o644)
    assert sites.pull() == 0
    assert not os.access(here / "run.sh", os.X_OK)
    assert os.access(here / "SOUL.md", os.X_OK)


def test_a_pull_keeps_what_changed_only_here_and_asks_about_both_sides(
    sites: Sites, capsys: Output
) -> None:
    assert sites.pull() == 0
    ours, theirs = (each / "workspace" for each in (sites.folder / "home", sites.home()))
    seed = sites.folder / "seed.yaml"
    seed.write_text(seed.read_text() + "    sessions: [{messages: [Hi]}]\n")
    (ours / "SOUL.md").write_text("Mine.\n")
    (ours / "data/prices.bin").unlink()
    (theirs / "new.md").write_text("new")
    with sites.client() as client:
        client.configure(sites.agent.id, {"logging.level": "debug"})
    assert sites.pull("--yes") == 0
    err = capsys.readouterr().err
    assert "Stays, changed only here: workspace/SOUL.md" in err
    assert (ours / "SOUL.md").read_text() == "Mine.\n"
    assert not (ours / "data/prices.bin").exists()
    assert (ours / "new.md").exists()
    (declared,) = yaml.safe_load(seed.read_text())["organizations"][0]["instances"]
    assert declared["openclaw_config"]["logging"] == {"level": "debug"}
    assert declared["sessions"] == [{"messages": ["Hi"]}]
    (theirs / "SOUL.md").write_text("Theirs.\n")
    capsys.readouterr()
    assert sites.pull() == 1
    assert "Changed here and there: workspace/SOUL.md" in capsys.readouterr().err
    assert sites.pull("--yes") == 2
    assert (ours / "SOUL.md").read_text() == "Mine.\n"
    assert sites.pull("--ours") == 0
    assert (ours / "SOUL.md").read_text() == "Mine.\n"
    # Whoever took ours has decided, so that a push may write it.
    assert sites.run("push", sites.seed, sites.url, "--yes") == 0
    assert (theirs / "SOUL.md").read_text() == "Mine.\n"
    (ours / "SOUL.md").write_text("Other.\n")
    (theirs / "SOUL.md").write_text("Theirs.\n")
    assert sites.pull("--theirs") == 0
    assert (ours / "SOUL.md").read_text() == "Theirs.\n"


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_copied(
    sites: Sites, capsys: Output
) -> None:
    (sites.home() / "workspace/link").symlink_to("/etc/passwd")
    (sites.home() / "workspace/clear\x1b[2J.md").write_text("x")
    (sites.home() / "workspace/deep").mkdir()
    (sites.home() / "workspace/deep/file.md").write_text("x")
    sites.line.faults += [("GET .*/files/download", "403"), ("GET .*/files.*deep", "400")]
    assert sites.pull() == 0
    err = capsys.readouterr().err
    assert "workspace/link: it is no regular file" in err
    assert err.count("could not be copied (\\u001b[2JNo. (HTTP 403))") == 1
    assert "\x1b" not in err
    assert "workspace/deep: it could not be listed" in err
    assert len(copied(sites.folder / "home")) == 3
    assert sites.pull() == 0
    assert len(copied(sites.folder / "home")) == 5
    # Old enough for the index, by which files that are gone are known.
    os.utime(sites.home() / "workspace/deep/file.md", (1_700_000_000, 1_700_000_000))
    assert sites.pull() == 0
    sites.line.faults += [("GET .*/files.*deep", "400")]
    assert sites.pull() == 0
    assert len(copied(sites.folder / "home")) == 5


def test_skills_and_channels_that_are_no_files_are_named(sites: Sites, capsys: Output) -> None:
    found = {"hash": "h", "sourceConfig": {"channels": CONFIG["channels"]}}
    sites.world.gateway.rpc_answers["config.get"] = ok(found)
    assert sites.pull() == 0
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if "skill " in line] == [
        "- skill tides, of openclaw-managed: install it with: chowder-local skills install support "
        "tides"
    ]
    assert "channel telegram: no call shows its credentials. Connect an account for tests" in err
    sites.use_scoped_key("files")
    assert sites.pull("--yes") == 0
    assert "its configuration: " in capsys.readouterr().err


def test_a_stopped_agent_is_not_started(sites: Sites, capsys: Output) -> None:
    with sites.client() as client:
        client.stop(sites.agent.id)
    assert sites.pull() == 2
    assert sites.run("push", write_seed(sites), sites.url, "--yes") == 2
    assert capsys.readouterr().err.count("start it first") == 2
    with sites.client() as client:
        assert client.status(sites.agent.id)["status"] == "stopped"


def test_of_an_answer_only_published_members_are_read() -> None:
    for methods, pattern, shape in SHAPES:
        path = pattern.pattern.removeprefix("/v1/").replace("[^/]+", "x")
        call = PUBLISHED.calls[PUBLISHED.operation(methods.split("|")[0], path)]
        schema = shape.json_schema()
        read = set(schema.get("properties", ()))
        for each in schema.get("$defs", {}).values():
            read |= set(each["properties"])
        kind = str(call.kind).strip("[]'")
        known = set(PUBLISHED.members(kind))
        for inner in ("Entry", "Grant"):
            known |= set(PUBLISHED.members(inner)) if kind in {"Folder", "KeyDetails"} else set()
        assert read <= known, path


REFUSED = {
    "http://api.example/v1": "would send the key in clear text",
    "https://chd_org_planted@api.example/v1": "Write no key into the URL",
    "ftp://127.0.0.1/v1": "Name the other server's base URL",
    "https://api.example:port/v1": "Name the other server's base URL",
}


def test_an_address_that_would_give_the_key_away_is_refused(sites: Sites, capsys: Output) -> None:
    for url, message in REFUSED.items():
        assert sites.run("push", write_seed(sites), url) == 2, url
        err = capsys.readouterr().err
        assert message in err, url
        assert "planted" not in err
