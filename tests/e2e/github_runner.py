"""As much of GitHub's runner as `action.yml` needs: steps, conditions, files, three actions."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STEP_TIMEOUT_S = 300
PINNED = re.compile(r"[\w-]+/[\w/-]+@[0-9a-f]{40}")
NAMED = re.compile(r"\b(?:inputs|steps|runner|github|strategy)\.[\w.-]+")
STATUS = re.compile(r"\b(?:success|failure|always)\(\)")


class Failed(Exception):
    """A step, or an action, has failed."""


class GitHubRunner:
    """A job on a machine of its own; what a step leaves in the command files counts for later."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.workspace = folder / "workspace"
        self.temp = folder / "temp"
        self.caches = folder / "caches"
        self.artifacts = folder / "artifacts"
        for each in (self.workspace, self.temp, self.caches, self.artifacts):
            each.mkdir(parents=True)
        self.env = dict(env)
        self.log = ""
        self.summary = ""
        self._masked: set[str] = set()

    def run(self, script: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """A step of bash; its outputs. Raises Failed."""
        names = ("ENV", "OUTPUT", "PATH", "STEP_SUMMARY")
        files = {name: self.temp / f"_{name.lower()}" for name in names}
        for file in files.values():
            file.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.workspace,
            env=self.env
            | {f"GITHUB_{name}": str(file) for name, file in files.items()}
            | {"RUNNER_TEMP": str(self.temp)}
            | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        self._print(done.stdout)
        self.summary += files["STEP_SUMMARY"].read_text()
        self.env |= _lines(files["ENV"])
        for folder in files["PATH"].read_text().splitlines():
            self.env["PATH"] = f"{folder}:{self.env['PATH']}"
        if done.returncode != 0:
            raise Failed(f"a step ended with {done.returncode}:\n{self.log}")
        return _lines(files["OUTPUT"])

    def use(self, action: Path, **inputs: str) -> dict[str, str]:
        """A step that uses a composite action; its outputs. Raises Failed."""
        return _Composite(self, action, inputs).outputs()

    def _print(self, said: str) -> None:
        for line in said.splitlines(keepends=True):
            if line.startswith("::add-mask::"):
                self._masked.add(line.removeprefix("::add-mask::").strip())
                continue
            for secret in self._masked:
                line = line.replace(secret, "***")
            self.log += line

    def call(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        """What one of GitHub's own actions does; its outputs."""
        if name == "actions/upload-artifact":
            self._upload(given)
            return {}
        kept = self.caches / given["key"].replace("/", "_")
        if name == "actions/cache/save":
            shutil.copytree(given["path"], kept)
            return {}
        assert name == "actions/cache/restore"
        if not kept.exists():
            return {"cache-hit": ""}
        shutil.copytree(kept, given["path"], dirs_exist_ok=True)
        return {"cache-hit": "true"}

    def _upload(self, given: Mapping[str, str]) -> None:
        assert (given["if-no-files-found"], given["overwrite"]) == ("warn", "true")
        folder = self.artifacts / given["name"]
        folder.mkdir(exist_ok=True)
        path = self.workspace / given["path"]
        if path.is_dir():
            shutil.copytree(path, folder, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy(path, folder)
        else:
            self.log += f"Warning: there is no {path}\n"


class _Composite:
    """One use of a composite action, whose status is its own and not the job's."""

    def __init__(self, runner: GitHubRunner, action: Path, inputs: Mapping[str, str]) -> None:
        self._runner = runner
        self._folder = action
        self._action: dict[str, Any] = yaml.safe_load((action / "action.yml").read_text())
        declared = self._action["inputs"]
        assert inputs.keys() <= declared.keys()
        self._known: dict[str, str] = {
            f"inputs.{name}": told.get("default", "") for name, told in declared.items()
        }
        self._known |= {f"inputs.{name}": value for name, value in inputs.items()}
        self._known |= {
            "runner.temp": str(runner.temp), "runner.os": "Linux", "runner.arch": "X64",
            "github.job": "agents", "strategy.job-index": "0",
        }  # fmt: skip
        self._passed: set[str] = set()
        self._failure: Failed | None = None

    def outputs(self) -> dict[str, str]:
        """Runs its steps; what it gives. Raises Failed, after the steps that are for that."""
        for step in self._action["runs"]["steps"]:
            if self._is_wanted(step):
                try:
                    self._do(step)
                except Failed as failure:
                    self._failure = self._failure or failure
            if "id" in step:
                self._passed.add(step["id"])
        if self._failure is not None:
            raise self._failure
        return {name: self._filled(told["value"]) for name, told in self._action["outputs"].items()}

    def _do(self, step: Mapping[str, Any]) -> None:
        if "uses" in step:
            assert PINNED.fullmatch(step["uses"]), step["uses"]
            given = {name: self._filled(value) for name, value in step["with"].items()}
            left = self._runner.call(step["uses"].partition("@")[0], given)
        else:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"], "an input would be part of the script"
            env = {name: self._filled(value) for name, value in step.get("env", {}).items()}
            left = self._runner.run(step["run"], {"GITHUB_ACTION_PATH": str(self._folder)} | env)
        if "id" in step:
            self._known |= {f"steps.{step['id']}.outputs.{name}": left[name] for name in left}

    def _is_wanted(self, step: Mapping[str, Any]) -> bool:
        condition = step.get("if", "success()")
        if not STATUS.search(condition):
            condition = f"success() && ({condition})"
        words = {
            "success()": str(self._failure is None),
            "failure()": str(self._failure is not None),
            "always()": "True",
            "&&": "and",
            "||": "or",
        }
        for word, python in words.items():
            condition = condition.replace(word, python)
        return bool(eval(NAMED.sub(lambda name: repr(self._value(name[0])), condition), {}))

    def _filled(self, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda name: self._value(name[1]), text)

    def _value(self, name: str) -> str:
        """What a context has; of a step that was skipped, or gave no such output, nothing."""
        kind, step, *_ = name.split(".")
        if kind == "steps":
            assert step in self._passed, f"{name}: there is no such step before"
            return self._known.get(name, "")
        return self._known[name]


def _lines(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines())
    return {name: value for name, _, value in pairs}
