"""As much of GitLab's runner, with its shell executor, as our template needs."""

from __future__ import annotations

import shutil
import string
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JOB_TIMEOUT_S = 300


@dataclass(frozen=True)
class Ended:
    """A job that is over."""

    status: str
    log: str
    artifacts: list[str]


def job(template: Path, mine: Mapping[str, Any]) -> dict[str, Any]:
    """A job with what it extends: mappings are merged, everything else is replaced."""
    if "extends" not in mine:
        return dict(mine)
    parent = job(template, yaml.safe_load(template.read_text())[mine["extends"]])
    return _merged(parent, mine)


def run_job(
    told: Mapping[str, Any], project: Path, env: Mapping[str, str], artifacts: Path
) -> Ended:
    """Runs it as the shell executor does: one shell for before_script and script, one for after."""
    known = {"CI_PROJECT_DIR": str(project), **env}
    for name, value in told["variables"].items():
        known[name] = string.Template(value).safe_substitute(known)
    code, said = _shell([*told["before_script"], *told["script"]], project, known)
    status = "failed" if code else "success"
    _, more = _shell(told["after_script"], project, {**known, "CI_JOB_STATUS": status})
    left = []
    if told["artifacts"]["when"] == "on_failure" and status == "failed":
        for path in told["artifacts"]["paths"]:
            if (project / path).exists():
                left.append(path)
                shutil.copy(project / path, artifacts)
    return Ended(status, said + more, left)


def _shell(lines: list[str], project: Path, env: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
        cwd=project,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout


def _merged(parent: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(parent)
    for name, value in mine.items():
        is_merged = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = _merged(both[name], value) if is_merged else value
    return both
