"""The recipes for CI services, and the examples of their use, are what those services take."""

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
WORKFLOW = ROOT / "examples" / "github" / "agents.yml"
TEMPLATE = ROOT / "scripts" / "gitlab-ci.yml"
BLOCK = re.compile(r"^```yaml[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST_RUN_LINES = 10


def examples(begins: str) -> list[str]:
    """The documentation's YAML that begins so, and the example's."""
    pages = [ROOT / "README.md", ROOT / "docs/guides/ci.md"]
    blocks = [block for page in pages for block in BLOCK.findall(page.read_text())]
    found = [str(block) for block in blocks if re.search(f"^{begins}", block, re.M)]
    return [*found, WORKFLOW.read_text()] if begins == "on:" else found


def assert_valid(schema: str, *files: Path) -> None:
    """By the schemas that the services' editors use, as the checker brings them along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    return found


@pytest.mark.parametrize(("schema", "file"), [("github-actions", ACTION), ("gitlab-ci", TEMPLATE)])
def test_a_recipe_has_the_form_that_its_service_wants(schema: str, file: Path) -> None:
    assert_valid(schema, file)


@pytest.mark.parametrize(
    ("schema", "begins"), [("github-workflows", "on:"), ("gitlab-ci", "include:")]
)
def test_an_example_has_the_form_that_its_service_wants(
    schema: str, begins: str, tmp_path: Path
) -> None:
    found = examples(begins)
    assert found
    files = [tmp_path / f"{number}.yml" for number in range(len(found))]
    for file, text in zip(files, found, strict=True):
        file.write_text(text)
    assert_valid(schema, *files)


def test_an_examples_workflow_names_only_inputs_that_there_are() -> None:
    declared = yaml.safe_load(ACTION.read_text())["inputs"].keys()
    for text in examples("on:"):
        for job in yaml.safe_load(text)["jobs"].values():
            for step in job["steps"]:
                if "/chowder-local@" in step.get("uses", ""):
                    assert step.get("with", {}).keys() <= declared, text


def test_an_examples_pipeline_names_only_what_the_template_has() -> None:
    template = yaml.safe_load(TEMPLATE.read_text())
    for text in examples("include:"):
        pipeline = yaml.safe_load(text)
        assert (ROOT / pipeline["include"][0]["file"]) == TEMPLATE
        for job in (each for each in pipeline.values() if "extends" in each):
            own = {name for name in job.get("variables", {}) if not name.startswith("CHOWDER_")}
            assert own <= template[job["extends"]].get("variables", {}).keys()


def test_what_the_action_uses_is_pinned_to_a_commit_and_its_scripts_are_short() -> None:
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps() if "uses" in step)
    scripts = [step["run"] for step in steps() if "run" in step]
    assert all(len(script.splitlines()) <= LONGEST_RUN_LINES for script in scripts)
    # What is given by whoever starts a workflow must not become a part of a script.
    assert not [script for script in scripts if "${{" in script]
