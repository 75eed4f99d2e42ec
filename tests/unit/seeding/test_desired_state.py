"""Reading seed files, and the errors in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.seeding.desired_state import read, read_seed
from tests.scripted.refusals import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.seeding.conftest import Reading

ADA = "organizations: [{name: kitchen, instances: [{name: ada, %s}]}]"


def test_a_seed_file_may_be_json(reading: Reading) -> None:
    text = '{"organizations":\n\t[{"name": "kitchen", "tier": "whale"}]}'
    (kitchen,) = reading(text, name="seed.json").organizations
    assert (kitchen.name, kitchen.tier) == ("kitchen", Tier.WHALE)


def test_files_skills_and_variables_are_read(reading: Reading, tmp_path: Path) -> None:
    (tmp_path / "pager" / "bin").mkdir(parents=True)
    (tmp_path / "pager" / "SKILL.md").write_text("Page.")
    (tmp_path / "pager" / "bin" / "page").write_bytes(b"\xff")
    (tmp_path / "data").write_bytes(b"1,2")
    for name in ("c.csv", ".git/config"):
        (tmp_path / "home/workspace" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home/workspace" / name).write_text("1")
    text = """
organizations:
  - name: kitchen
    model_keys: {anthropic: offline, openai: "env:MY_KEY"}
    instances:
      - name: ada
        model_provider: openai
        openclaw_config: {a.b: 1}
        home: home
        files: {x.md: text, y/z: {from: data}}
        skills: {pager: pager}
        sessions: [{messages: [Hi]}, {name: s, model: claude-x, messages: [a, b]}]
    keys:
      - {name: page, instances: [ada], permissions: [read], expires_at: 2030-01-02 03:04:05}
"""
    (kitchen,) = reading(text, {"MY_KEY": " sk-x\n"}).organizations
    assert kitchen.model_keys == {ModelProvider.ANTHROPIC: "offline", ModelProvider.OPENAI: "sk-x"}
    (ada,) = kitchen.instances
    assert ada.openclaw_config == {"a": {"b": 1}}
    here = ada.location
    assert here.path == ("organizations", 0, "instances", 0)
    assert ada.home_files() == {
        "workspace/c.csv": (tmp_path / "home/workspace/c.csv", here / "home"),
        "workspace/skills/pager/SKILL.md": (tmp_path / "pager/SKILL.md", here / "skills" / "pager"),
        "workspace/skills/pager/bin/page": (tmp_path / "pager/bin/page", here / "skills" / "pager"),
        "x.md": (b"text", here / "files" / "x.md"),
        "y/z": (tmp_path / "data", here / "files" / "y/z"),
    }
    main, named = ada.sessions
    assert (main.name, main.model, main.messages) == (None, None, ["Hi"])
    assert (named.name, named.model, named.messages) == ("s", "claude-x", ["a", "b"])
    (page,) = kitchen.keys
    assert page.instances == ["ada"]
    assert page.permissions == [Permission.READ]
    assert page.expires_at == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


WRONG = [
    ("", ": It should begin with 'organizations:'"),
    ("- a", ", line 1: It should begin with 'organizations:'"),
    ("organizations: []", ", line 1, organizations: List should have at least 1 item"),
    ("a: [", ", line 1: while parsing a flow node expected the node content"),
    ("a: !!python/object:os.system x", ", line 1: could not determine a constructor"),
    ("a: \x07", " cannot be read: unacceptable character"),
    ("organizations:\n- name: a\n  teir: crab\n", ", line 3, organizations[0].teir: No such"),
    ("organizations:\n- name: a\n  teir: crab\n", "teir: No such member. Did you mean tier?"),
    ("organizations:\n- name: a\n  tier: cod\n", ", line 3, organizations[0].tier: Input"),
    ("organizations:\n- tier: crab\n", ", line 2, organizations[0].name: Field required."),
    ("organizations:\n- name: a\n  name: b\n", ", line 3, organizations[0].name: This name is"),
    ("organizations:\n- name: a\n- name: a\n", ", line 1: Organization a is there twice;"),
    ("organizations:\n- name: a\n  model_keys:\n    openai: sk-x\n",
     ", line 4, organizations[0].model_keys.openai: Write env:NAME, with the key in that"),
    ("organizations:\n- name: a\n  model_keys:\n    openai: env:NO_SUCH\n",
     ", line 4, organizations[0].model_keys.openai: Set NO_SUCH in the environment, or write"),
    ("organizations:\n- name: a\n  keys: [{name: k, instances: [b], permissions: [read]}]\n",
     ", line 2, organizations[0]: Key k: the organization has no instance b."),
    (ADA % "files: {../x: y}", "It should be a path below the agent's home"),
    (ADA % "files: {/x: y}", "It should be a path below the agent's home"),
    (ADA % "files: {x: {}}", ".files.x: Write its content, or {from: path}."),
    (ADA % "files: {x: {content: a, from: b}}", ".files.x: Write its content, or"),
    (ADA % "files: {x: {from: nowhere}}", ".files.x.from: "),
    (ADA % "skills: {x: nowhere}", ".skills.x: "),
    (ADA % "home: nowhere", ".home: "),
    (ADA % "skills: {a/b: x}", "It should be the name of one folder."),
    (ADA % "sessions: [{messages: []}]", ".sessions[0].messages: List should have at least"),
    (ADA % "sessions: [{messages: [a]}, {messages: [b]}]",
     "Session the main one is there twice;"),
    (ADA % "openclaw_config: {a: 2020-01-01}", ".openclaw_config: It should be valid as JSON: "),
    (ADA % "openclaw_config: {gateway.port: 1}", ".openclaw_config: "),
]  # fmt: skip


def test_errors_have_the_file_the_location_and_a_remedy(reading: Reading) -> None:
    told = [(text, words, refusal(SettingsInvalid, reading, text)) for text, words in WRONG]
    assert not [each for each in told if "seed.yaml" not in each[2] or each[1] not in each[2]]


def test_a_key_that_is_written_into_the_file_is_not_quoted(reading: Reading) -> None:
    text = "organizations:\n- name: a\n  model_keys:\n    openai: sk-planted\n"
    with pytest.raises(SettingsInvalid) as refused:
        reading(text)
    assert "sk-planted" not in str(refused.value)
    assert "sk-planted" not in str(refused.value.__context__)


def test_an_error_in_json_has_its_line(reading: Reading) -> None:
    with pytest.raises(SettingsInvalid, match=r"seed.json, line 2: Expecting"):
        reading('{"organizations":\n', name="seed.json")


def test_an_error_in_json_that_is_not_yaml_has_a_location_without_a_line(reading: Reading) -> None:
    with pytest.raises(SettingsInvalid, match=r"seed.json, organizations\[0\].tier: Input"):
        reading('{"organizations":\n\t[{"name": "a", "tier": "cod"}]}', name="seed.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"nothing.yaml cannot be read: No such file"):
        read_seed(tmp_path / "nothing.yaml", {})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "seed.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsInvalid, match=r"seed.yaml is not text in UTF-8"):
        read_seed(tmp_path / "seed.yaml", {})


@pytest.mark.parametrize("location", [("a", "b"), ("a", 0), ("c", 7), ("c", "d"), ("e",)])
def test_a_missing_location_has_the_line_of_the_nearest_one(
    tmp_path: Path, location: tuple[str | int, ...]
) -> None:
    file = tmp_path / "seed.yaml"
    file.write_text("a: 1\nc: [1]\n")
    _, root = read(file)
    line = 2 if location[0] == "c" else 1
    with pytest.raises(SettingsInvalid, match=f"seed.yaml, line {line}, .*: No."):
        replace(root, path=location).fail("No.")
