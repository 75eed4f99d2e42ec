"""The recipes for CI services, and README's examples of them, are what those services take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
TEMPLATE = ROOT / "scripts" / "gitlab-ci.yml"
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_RUN_LINES = 10


def example(begins: str) -> str:
    """README's YAML that begins so."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    (found,) = (block for block in blocks if block.startswith(begins))
    return str(found)


def assert_valid(schema: str, file: Path) -> None:
    """By the schemas that the services' editors use, as the checker brings them along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    return found


@pytest.mark.parametrize(("schema", "file"), [("github-actions", ACTION), ("gitlab-ci", TEMPLATE)])
def test_a_recipe_has_the_form_that_its_service_wants(schema: str, file: Path) -> None:
    assert_valid(schema, file)


@pytest.mark.parametrize(
    ("schema", "begins"), [("github-workflows", "on: push"), ("gitlab-ci", "include:")]
)
def test_an_example_in_readme_has_the_form_that_its_service_wants(
    schema: str, begins: str, tmp_path: Path
) -> None:
    (tmp_path / "example.yml").write_text(example(begins))
    assert_valid(schema, tmp_path / "example.yml")


def test_readmes_workflow_names_only_inputs_that_there_are() -> None:
    declared = yaml.safe_load(ACTION.read_text())["inputs"].keys()
    # `on` is YAML's word for true.
    (job,) = yaml.safe_load(example("on: push"))["jobs"].values()
    given = [step["with"] for step in job["steps"] if "chowder-local@" in step.get("uses", "")]
    assert len(given) == 2
    assert {name for each in given for name in each} <= declared


def test_readmes_pipeline_names_only_what_the_template_has() -> None:
    told = yaml.safe_load(example("include:"))
    template = yaml.safe_load(TEMPLATE.read_text())
    assert (ROOT / told["include"][0]["file"]) == TEMPLATE
    own = {name for name in told["agents"]["variables"] if not name.startswith("CHOWDER_")}
    assert own <= template[told["agents"]["extends"]]["variables"].keys()


def test_what_the_action_uses_is_pinned_to_a_commit_and_its_scripts_are_short() -> None:
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps() if "uses" in step)
    scripts = [step["run"] for step in steps() if "run" in step]
    assert all(len(script.splitlines()) <= LONGEST_RUN_LINES for script in scripts)
    # What is given by whoever starts a workflow must not become a part of a script.
    assert not [script for script in scripts if "${{" in script]
