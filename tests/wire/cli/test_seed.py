"""`seed` against the API itself, with everything real behind it but the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chowder_local.app.server import State, api
from chowder_local.cli.main import run
from chowder_local.cli.seed import env_of
from chowder_local.client import Client
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.http.listener import with_state
from chowder_local.seeding.marker import PATH as MARKER
from tests.scripted.gateway import failing, friendly
from tests.scripted.serving import serve as served
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.applications import Starlette

    from tests.scripted.world import World

Output = pytest.CaptureFixture[str]

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
# Each file and each skill is some processes in the sandbox.
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
    """A server, a data directory that leads to it, and a seed file."""

    portal: BlockingPortal
    world: World
    url: str
    folder: Path
    env: dict[str, str]

    def write(self, text: str) -> None:
        (self.folder / "seed.yaml").write_text(text)

    def seed(self, *options: str) -> int:
        return run(["seed", str(self.folder / "seed.yaml"), *options], self.env)

    def said(self) -> list[Any]:
        """What the agents have heard so far."""
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
        services = world.services

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[State]:
            yield {"services": services}

        app = with_state(api([], lifespan, world.metrics), {"services": services})
        async with served(app) as url:
            yield world, url


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """In a thread of its own: the command line blocks the test's."""
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "pager").mkdir()
    (tmp_path / "pager" / "SKILL.md").write_text("Page.")
    (tmp_path / "data.csv").write_bytes(b"1,\xff")
    (tmp_path / "seed.yaml").write_text(FILE)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(open_place(tmp_path)) as (world, url),
    ):
        facts = {"pid": os.getpid(), "base_url": url, "version": "0.0.1"}
        (data / "server.json").write_text(json.dumps(facts))
        (data / "default.key").write_text(world.key)
        env = {"CHOWDER_DATA_DIR": str(data), "PATH": "/nowhere", "MY_KEY": "sk-planted"}
        yield Place(portal, world, url, tmp_path, env)


def declared(capsys: Output) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["organizations"][0]
    return found


def test_all_that_a_file_declares_is_there_afterwards_and_no_model_key_is_told_or_kept(
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
    home = place.world.root
    assert (home / "workspace/notes.md").read_text() == "noon"
    assert (home / "workspace/deep/data.csv").read_bytes() == b"1,\xff"
    assert (home / "workspace/skills/pager/SKILL.md").read_text() == "Page."
    assert place.said() == ["My name is Ada.", "I like fish.", "It is broken."]


def test_a_second_run_changes_nothing_and_says_so(place: Place, capsys: Output) -> None:
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    events = place.world.events
    before, said = len(events.after(0)), place.said()
    stamps = {each: each.stat().st_mtime_ns for each in place.world.root.rglob("*")}
    assert place.seed("--output", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["organizations"] == [first]
    assert "All is there: nothing was changed." in err
    assert (len(events.after(0)), place.said()) == (before, said)
    assert {each: each.stat().st_mtime_ns for each in place.world.root.rglob("*")} == stamps


def test_what_differs_is_brought_to_the_file_and_all_else_stays(
    place: Place, capsys: Output
) -> None:
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    (place.world.root / "workspace/mine.md").write_text("mine")
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
    assert (place.world.root / "workspace/notes.md").read_text() == "midnight"
    assert (place.world.root / "workspace/mine.md").read_text() == "mine"
    assert place.said()[3:] == ["Still is."]
    with place.client(first["key"]) as client:
        assert client.organization()["subscription_tier"] == "whale"
        assert client.instances()[0]["openclaw_config"] == {"logging": {"level": "debug"}}
        listed = client.keys()
    active = {each["id"] for each in listed if each["is_active"]}
    # What somebody else calls the same is not the seed's.
    assert active == {second["keys"][0]["id"], other["id"]}
    assert second["instances"] == first["instances"]


def test_a_stopped_agent_is_woken_for_it_and_stopped_again(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    kitchen = declared(capsys)
    instance_id = kitchen["instances"][0]["id"]
    with place.client(kitchen["key"]) as client:
        client.stop(instance_id)
        for text, words in (
            (LIGHT, "nothing was changed"),
            (LIGHT.replace("noon", "x"), "1 step."),
        ):
            place.write(text)
            assert place.seed() == 0
            assert words in capsys.readouterr().err
            assert client.status(instance_id)["status"] == "stopped"
    assert (place.world.root / "workspace/notes.md").read_text() == "x"


def test_an_agent_that_is_deleted_is_made_anew(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    with place.client(first["key"]) as client:
        client.delete(first["instances"][0]["id"])
    # The volume is gone with it; the scripted engine's agents all have one home.
    (place.world.root / MARKER).unlink()
    assert place.seed("--output", "json") == 0
    second = declared(capsys)
    assert (second["id"], second["key"]) == (first["id"], first["key"])
    assert second["instances"] != first["instances"]
    assert second["keys"] != first["keys"]
    assert len(place.said()) == 6


def test_the_default_organization_is_the_one_that_is_there(place: Place, capsys: Output) -> None:
    place.write(OURS % ("", ", model_keys: {anthropic: offline}"))
    for words in ("[1/2] default: set the model keys of anthropic", "nothing was changed"):
        assert place.seed("--output", "env") == 0
        out, err = capsys.readouterr()
        assert words in err
        assert f"export SEED_DEFAULT_KEY={place.world.key}\n" in out
        assert f"export SEED_BASE_URL={place.url}/v1\n" in out
    assert place.world.key not in place.memory.read_text()


def test_what_up_may_have_set_anew_is_set_again_in_the_next_life_of_the_server(
    place: Place, capsys: Output
) -> None:
    place.write(OURS % ("", ", model_keys: {anthropic: offline}"))
    assert place.seed() == 0
    kept = json.loads(place.memory.read_text())
    kept["default"]["started_at"] = "2020-01-01T00:00:00Z"
    place.memory.write_text(json.dumps(kept))
    assert place.seed() == 0
    assert "set the model keys of anthropic" in capsys.readouterr().err


def test_after_the_servers_data_has_gone_all_is_made_anew(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed("--output", "json") == 0
    first = declared(capsys)
    kept = json.loads(place.memory.read_text())
    kept["kitchen"]["key"] = "chd_org_of_another_life"
    place.memory.write_text(json.dumps(kept))
    (place.world.root / MARKER).unlink()
    assert place.seed("--output", "json") == 0
    assert declared(capsys)["id"] != first["id"]


def test_a_message_that_is_not_answered_is_sent_by_the_next_run(
    place: Place, capsys: Output
) -> None:
    place.write(OURS % (", sessions: [{messages: [one, two]}]", ""))

    async def once(asked: Any, receive: Any, send: Any) -> None:
        refused = failing(400, {"error": {"message": "No."}})
        await (refused if asked.body["input"] == "two" else friendly)(asked, receive, send)

    place.world.gateway.handler = once
    assert place.seed() == 2
    words = "seed.yaml, line 1, organizations[0].instances[0].sessions[0].messages[1]: Could not"
    assert words in capsys.readouterr().err
    place.world.gateway.handler = None
    assert place.seed() == 0
    assert place.said() == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((", model_provider: gemini", ""), "ada was created, but does not run: No API key for"),
        ((", sessions: [{model: llama, messages: [Hi]}]", ""), "messages[0]: Could not send"),
        (("", ", model_keys: {anthropic: 'env:EMPTY'}"), "Set EMPTY in the environment"),
    ],
)
def test_what_the_server_does_not_want_is_told_with_its_place(
    place: Place, capsys: Output, more: tuple[str, str], words: str
) -> None:
    place.write(OURS % more)
    assert place.seed() == 2
    err = capsys.readouterr().err
    assert words in err
    assert "seed.yaml, line 1, organizations[0]" in err


def test_an_agent_in_error_is_in_the_way(place: Place, capsys: Output) -> None:
    place.portal.call(place.world.placed, InstanceStatus.ERROR)
    place.write((OURS % ("", "")).replace("ada", "Ada"))
    assert place.seed() == 2
    cure = f"--data-dir {place.folder}/data instances rm instance-1"
    assert cure in capsys.readouterr().err


def test_the_cure_for_another_organizations_agent_can_be_pasted(
    place: Place, tmp_path: Path, capsys: Output
) -> None:
    place.write(KITCHEN % "openai")
    assert place.seed() == 0
    place.write(KITCHEN % "gemini")
    assert place.seed() == 2
    cure = capsys.readouterr().err.strip().rpartition("remove it with: ")[2]
    # As a user's shell has it, who has found our command.
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


def test_two_agents_of_one_name_are_in_the_way(place: Place, capsys: Output) -> None:
    for number in (1, 2):
        place.portal.call(place.world.placed, InstanceStatus.STOPPED, number)
    place.write((OURS % ("", "")).replace("ada", "Ada"))
    assert place.seed() == 2
    assert "There are several agents called Ada" in capsys.readouterr().err


def test_a_spoilt_note_of_what_was_sent_is_in_the_way(place: Place, capsys: Output) -> None:
    place.write(LIGHT)
    assert place.seed() == 0
    (place.world.root / MARKER).write_text("?")
    assert place.seed() == 2
    assert f"{MARKER} in its home cannot be read" in capsys.readouterr().err


def test_where_a_folder_is_no_file_is_put_into_it(place: Place, capsys: Output) -> None:
    (place.world.root / "workspace").mkdir()
    place.write(OURS % (", files: {workspace: x}", ""))
    for _ in range(2):
        # New, and there already.
        assert place.seed() == 2
        assert "seed.yaml, line 1, organizations[0].instances[0].files.workspace: " in (
            capsys.readouterr().err
        )
    assert list((place.world.root / "workspace").iterdir()) == []


def test_without_a_server_there_is_nothing_to_seed(place: Place, capsys: Output) -> None:
    (place.folder / "data" / "server.json").unlink()
    assert place.seed() == 1
    assert "chowder-local up" in capsys.readouterr().err


def test_names_that_would_be_one_variable_are_told() -> None:
    twins = [{"name": name, "id": "i"} for name in ("a b", "a-b")]
    organization = {"name": "x", "id": "o", "key": "k", "instances": twins, "keys": []}
    with pytest.raises(SettingsInvalid, match="SEED_X_INSTANCE_A_B would stand for two things"):
        env_of({"base_url": "u", "organizations": [organization]})
