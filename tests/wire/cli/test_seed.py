"""`seed` against a real server with a scripted engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chowder_local.app.application import State, api
from chowder_local.cli.main import run
from chowder_local.cli.seed import shell_variables
from chowder_local.client import Client
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.http.listener import with_state
from chowder_local.seeding.desired_state import DesiredJob, Location
from chowder_local.seeding.home import FileIndex, Home
from chowder_local.seeding.plan import MakeJob
from chowder_local.seeding.target import MARKER, SeededAgent
from tests.scripted.gateway import failing, friendly
from tests.scripted.homes import STATE
from tests.scripted.serving import serve as served
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.applications import Starlette

    from chowder_local.seeding.target import SeedTarget
    from tests.scripted.world import World
    from tests.wire.cli.conftest import Output, Serve


FILE = """
organizations:
  - name: kitchen
    tier: crab
    model_keys: {anthropic: offline, openai: "env:MY_KEY"}
    instances:
      - name: ada
        files: {workspace/notes.md: noon, workspace/deep/data.csv: {from: data.csv}}
        skills: {pager: pager}
        sessions:
          - messages: [My name is Ada., I like fish.]
          - {name: ticket-1, model: gpt-4o, messages: [It is broken.]}
    keys:
      - {name: page, instances: [ada], permissions: [read, interact]}
"""
# Each file and each skill needs several processes in the sandbox.
LIGHT = FILE.replace(", workspace/deep/data.csv: {from: data.csv}", "").replace(
    "        skills: {pager: pager}\n", ""
)
KITCHEN = """
organizations: [{name: kitchen, model_keys: {openai: offline, gemini: offline}, instances: [
  {name: ada, model_provider: %s}]}]
"""
OURS = "organizations: [{name: default, instances: [{name: ada%s}]%s}]"


@dataclass
class Place:
    """A server, a data directory that names it, and a seed file."""

    portal: BlockingPortal
    world: World
    url: str
    folder: Path
    env: dict[str, str]

    @property
    def state(self) -> Path:
        """The state folder of the only agent's home."""
        (sandbox_id,) = self.world.engine.volume_ids
        return self.world.engine.home(sandbox_id) / STATE

    def write(self, text: str) -> None:
        (self.folder / "seed.yaml").write_text(text)

    def seed(self, *options: str) -> int:
        return run(["seed", str(self.folder / "seed.yaml"), *options], self.env)

    def messages(self) -> list[Any]:
        """The messages that the agents have received."""
        return [each.body["input"] for each in self.world.gateway.messages]

    @property
    def memory(self) -> Path:
        return self.folder / "data" / "seed.json"

    @contextmanager
    def client(self, key: str | None = None) -> Iterator[Client]:
        with Client(self.url, key or self.world.key) as client:
            yield client


@asynccontextmanager
async def open_place(tmp_path: Path) -> AsyncIterator[tuple[World, str]]:
    async with open_world(tmp_path) as world:

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[State]:
            yield world.state

        app = with_state(api([], lifespan, world.metrics), world.state)
        async with served(app) as url:
            yield world, url


def place_in(folder: Path, portal: BlockingPortal, world: World, url: str) -> Place:
    """The place of a server whose data directory is in a folder."""
    data = folder / "data"
    data.mkdir()
    facts = {"pid": os.getpid(), "base_url": url, "version": "0.0.1"}
    (data / "server.json").write_text(json.dumps(facts))
    (data / "default.key").write_text(world.key)
    env = {"CHOWDER_DATA_DIR": str(data), "PATH": "/nowhere", "MY_KEY": "sk-planted"}
    return Place(portal, world, url, folder, env)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A server in a thread of its own, because the command line blocks the test's thread."""
    (tmp_path / "pager").mkdir()
    (tmp_path / "pager" / "SKILL.md").write_text("Page.")
    (tmp_path / "data.csv").write_bytes(b"1,\xff")
    (tmp_path / "seed.yaml").write_text(FILE)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_place(tmp_path)) as (world, url),
    ):
        yield place_in(tmp_path, portal, world, url)


def declared(capsys: Output) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["organizations"][0]
    return found


def test_everything_declared_is_made_and_no_model_key_is_printed_or_stored(
    place: Place, capsys: Output
) -> None:
    assert place.seed("--output", "json") == 0
    out, err = capsys.readouterr()
    assert "sk-planted" not in out + err + place.memory.read_text()
    kitchen = json.loads(out)["organizations"][0]
    with place.client(kitchen["key"]) as client:
        organization = client.organization()
        assert (organization["name"], organization["subscription_tier"]) == ("kitchen", "crab")
        assert organization["model_providers"] == ["anthropic", "openai"]
        (ada,) = client.instances()
        assert [{"name": ada["name"], "id": ada["id"]}] == kitchen["instances"]
        assert ada["status"] == "running"
        (page,) = kitchen["keys"]
        known = client.key(page["id"])["instances"]
        assert known == [{"instance_id": ada["id"], "permissions": ["read", "interact"]}]
    with place.client(page["key"]) as client:
        assert client.status(ada["id"])["status"] == "running"
    home = place.state
    assert (home / "workspace/notes.md").read_text() == "noon"
    assert (home / "workspace/deep/data.csv").read_bytes() == b"1,\xff"
    assert (home / "workspace/skills/pager/SKILL.md").read_text() == "Page."
    assert place.messages() == ["My name is Ada.", "I like fish.", "It is broken."]


def test_a_second_run_changes_nothing_and_says_so(place: Place, capsys: Output) -> None:
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    events = place.world.events
    before, messages = len(events.after(0)), place.messages()
    stamps = {each: each.stat().st_mtime_ns for each in place.state.rglob("*")}
    assert place.seed("--output", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["organizations"] == [first]
    assert "The server is as declared: nothing was changed." in err
    assert (len(events.after(0)), place.messages()) == (before, messages)
    assert {each: each.stat().st_mtime_ns for each in place.state.rglob("*")} == stamps


def test_differences_are_changed_and_everything_else_stays(place: Place, capsys: Output) -> None:
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    (place.state / "workspace/mine.md").write_text("mine")
    with place.client(first["key"]) as client:
        other = client.create_key("page", [first["instances"][0]["id"]], ["files"])
    text = FILE.replace("noon", "midnight").replace("[read, interact]", "[read]")
    text = text.replace("[It is broken.]", "[It is broken., Still is.]").replace("crab", "whale")
    text = text.replace("name: ada", "name: ada\n        openclaw_config: {logging.level: debug}")
    place.write(text)
    assert place.seed("--output", "json") == 0
    out, err = capsys.readouterr()
    second = json.loads(out)["organizations"][0]
    assert "[5/5] kitchen: renew the key page" in err
    assert (place.state / "workspace/notes.md").read_text() == "midnight"
    assert (place.state / "workspace/mine.md").read_text() == "mine"
    assert place.messages()[3:] == ["Still is."]
    with place.client(first["key"]) as client:
        assert client.organization()["subscription_tier"] == "whale"
        assert client.instances()[0]["openclaw_config"] == {"logging": {"level": "debug"}}
        listed = client.keys()
    active = {each["id"] for each in listed if each["is_active"]}
    # Another key of the same name is not changed.
    assert active == {second["keys"][0]["id"], other["id"]}
    assert second["instances"] == first["instances"]


def test_a_stopped_agent_is_started_for_seeding_and_stopped_again(
    place: Place, capsys: Output
) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    kitchen = declared(capsys)
    instance_id = kitchen["instances"][0]["id"]
    with place.client(kitchen["key"]) as client:
        client.stop(instance_id)
        for text, message in (
            (LIGHT, "nothing was changed"),
            (LIGHT.replace("noon", "x"), "1 step."),
        ):
            place.write(text)
            assert place.seed() == 0
            assert message in capsys.readouterr().err
            assert client.status(instance_id)["status"] == "stopped"
    assert (place.state / "workspace/notes.md").read_text() == "x"


def test_a_deleted_agent_is_made_again(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    with place.client(first["key"]) as client:
        client.delete(first["instances"][0]["id"])
    assert place.seed("--output", "json") == 0
    second = declared(capsys)
    assert (second["id"], second["key"]) == (first["id"], first["key"])
    assert second["instances"] != first["instances"]
    assert second["keys"] != first["keys"]
    assert len(place.messages()) == 6


def test_default_in_a_file_is_the_servers_default_organization(
    place: Place, capsys: Output
) -> None:
    place.write(OURS % ("", ", model_keys: {anthropic: offline}"))
    for message in ("[1/2] default: set the model keys of anthropic", "nothing was changed"):
        assert place.seed("--output", "env") == 0
        out, err = capsys.readouterr()
        assert message in err
        assert f"export SEED_DEFAULT_KEY={place.world.key}\n" in out
        assert f"export SEED_BASE_URL={place.url}/v1\n" in out
    assert place.world.key not in place.memory.read_text()


def test_model_keys_of_the_default_organization_are_set_again_after_a_restart(
    place: Place, capsys: Output
) -> None:
    place.write(OURS % ("", ", model_keys: {anthropic: offline}"))
    assert place.seed() == 0
    kept = json.loads(place.memory.read_text())
    kept["default"]["started_at"] = "2020-01-01T00:00:00Z"
    place.memory.write_text(json.dumps(kept))
    assert place.seed() == 0
    assert "set the model keys of anthropic" in capsys.readouterr().err


def test_after_a_reset_everything_is_made_again(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    kept = json.loads(place.memory.read_text())
    kept["kitchen"]["key"] = "chd_org_of_another_life"
    place.memory.write_text(json.dumps(kept))
    assert place.seed("--output", "json") == 0
    assert declared(capsys)["id"] != first["id"]


def test_a_message_that_is_not_answered_is_sent_by_the_next_run(
    place: Place, capsys: Output
) -> None:
    place.write(OURS % (", sessions: [{messages: [one, two]}]", ""))

    async def once(request: Any, receive: Any, send: Any) -> None:
        refused = failing(400, {"error": {"message": "No."}})
        await (refused if request.body["input"] == "two" else friendly)(request, receive, send)

    place.world.gateway.handler = once
    assert place.seed() == 2
    message = "seed.yaml, line 1, organizations[0].instances[0].sessions[0].messages[1]: Could not"
    assert message in capsys.readouterr().err
    place.world.gateway.handler = None
    assert place.seed() == 0
    assert place.messages() == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((", model_provider: gemini", ""), "ada was created, but does not run: No API key for"),
        ((", sessions: [{model: llama, messages: [Hi]}]", ""), "messages[0]: Could not send"),
        (("", ", model_keys: {anthropic: 'env:EMPTY'}"), "Set EMPTY in the environment"),
    ],
)
def test_a_refusal_of_the_server_has_the_location_in_the_file(
    place: Place, capsys: Output, more: tuple[str, str], message: str
) -> None:
    place.write(OURS % more)
    assert place.seed() == 2
    err = capsys.readouterr().err
    assert message in err
    assert "seed.yaml, line 1, organizations[0]" in err


def test_an_agent_in_error_is_refused_with_the_command_to_remove_it(
    place: Place, capsys: Output
) -> None:
    place.portal.call(place.world.placed, InstanceStatus.ERROR)
    place.write((OURS % ("", "")).replace("ada", "Ada"))
    assert place.seed() == 2
    cure = f"--data-dir {place.folder}/data instances rm instance-1"
    assert cure in capsys.readouterr().err


def test_the_command_to_remove_another_organizations_agent_can_be_pasted(
    place: Place, tmp_path: Path, capsys: Output
) -> None:
    place.write(KITCHEN % "openai")
    assert place.seed() == 0
    place.write(KITCHEN % "gemini")
    assert place.seed() == 2
    cure = capsys.readouterr().err.strip().rpartition("remove the agent with: ")[2]
    # A user's shell has the command in its PATH.
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "chowder-local").symlink_to(Path(sys.executable).with_name("chowder-local"))
    pasted = subprocess.run(
        ["sh", "-c", cure.replace("instances rm", "instances rm --yes")],
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (pasted.returncode, pasted.stderr) == (0, "ada is removed.\n")
    assert place.seed() == 0


def test_another_server_is_seeded_by_its_url_and_key_with_a_memory_of_its_own(
    place: Place, tmp_path: Path
) -> None:
    place.write(KITCHEN % "openai")
    named = {"CHOWDER_BASE_URL": f"{place.url}/v1", "CHOWDER_KEY": place.world.key}
    place.env |= {"CHOWDER_DATA_DIR": str(tmp_path / "other"), **named}
    assert place.seed() == 0
    (kept,) = (tmp_path / "other").iterdir()
    assert kept.name == f"seed-{place.url.replace('://', '-').replace(':', '-')}.json"
    assert "kitchen" in json.loads(kept.read_text())


def test_two_agents_of_one_name_are_refused(place: Place, capsys: Output) -> None:
    for number in (1, 2):
        place.portal.call(place.world.placed, InstanceStatus.STOPPED, number)
    place.write((OURS % ("", "")).replace("ada", "Ada"))
    assert place.seed() == 2
    assert "There are several agents called Ada" in capsys.readouterr().err


def test_an_invalid_marker_is_refused(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed() == 0
    (place.state / MARKER).write_text("?")
    assert place.seed() == 2
    assert f"{MARKER} in its home cannot be read" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_is_refused(place: Place, capsys: Output) -> None:
    place.world.engine.furnish = lambda home: (home / STATE / "workspace").mkdir()
    place.write(OURS % (", files: {workspace: x}", ""))
    for _ in range(2):
        # A new agent, then an existing one.
        assert place.seed() == 2
        assert "seed.yaml, line 1, organizations[0].instances[0].files.workspace: " in (
            capsys.readouterr().err
        )
    assert list((place.state / "workspace").iterdir()) == []


def test_seeding_without_a_server_is_an_error(place: Place, capsys: Output) -> None:
    (place.folder / "data" / "server.json").unlink()
    assert place.seed() == 1
    assert "chowder-local up" in capsys.readouterr().err


def test_names_that_give_the_same_variable_are_refused() -> None:
    twins = [{"name": name, "id": "i"} for name in ("a b", "a-b")]
    organization = {"name": "x", "id": "o", "key": "k", "instances": twins, "keys": []}
    with pytest.raises(SettingsInvalid, match="SEED_X_INSTANCE_A_B would have two values"):
        shell_variables({"base_url": "u", "organizations": [organization]})


def test_a_job_loses_the_session_that_its_declaration_no_longer_has(serve: Serve) -> None:
    env, requests = serve({"PATCH /local/instances/i1/jobs/j1": {}})
    server = json.loads((Path(env["CHOWDER_DATA_DIR"]) / "server.json").read_text())
    job = DesiredJob.model_validate(
        {"name": "tea", "message": "Think.", "schedule": {"kind": "every", "every_s": 60}}
    )
    where = Location(Path("seed.yaml"), yaml.compose("{}"))
    with Client(server["base_url"]) as client:
        home = Home(client, "i1", FileIndex())
        target = SimpleNamespace(running_agent=lambda *_: SeededAgent(client, "i1", home))
        MakeJob("o", where, "", "ada", job, "j1").take(cast("SeedTarget", target))
    ((_, sent),) = requests
    assert (sent["session"], sent["deliver"]) == (None, None)
    assert "model" not in sent, "the default one is as good"
