"""The `docker build` command: its arguments, how it is run, and how its output is read."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chowder_local.engine.connection import EngineAddress

LONGEST_QUOTE = 12
"""How many lines of a failed build its error quotes."""

_KEPT_LINES = 200
_WIDTH = 100
_STEP = re.compile(r"^#\d+ \[(?:\S+ +)?(\d+/\d+)\] (.*)$")
_OUTPUT = re.compile(r"^#\d+ \d+\.\d+ (.*)$")
_DONE = re.compile(r"^#\d+ (?:DONE (\d+\.\d)s|(CACHED))$")


def build_command(
    *,
    folder: Path,
    tag: str,
    arguments: Mapping[str, str],
    ca_bundle: Path | None,
    no_cache: bool,
    file: Path | None = None,
    output: Path | None = None,
) -> list[str]:
    """The command line. `folder` is the build context; `file` defaults to its Dockerfile.

    With `output`, the result is written to that folder instead of an image.
    """
    target = ["--tag", tag] if output is None else ["--output", f"type=local,dest={output}"]
    command = ["docker", "build", "--progress", "plain", *target]
    if file is not None:
        command += ["--file", str(file)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if ca_bundle is not None:
        # A secret is not copied into the image.
        command += ["--secret", f"id=ca,src={ca_bundle}"]
    if no_cache:
        command.append("--no-cache")
    return [*command, str(folder)]


def build_arguments(
    base_image: str, versions: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str]:
    """The Dockerfile's ARGs, with the npm registry if the environment sets one."""
    arguments = {
        "BASE_IMAGE": base_image,
        "NODE_VERSION": versions["NODE_VERSION"],
        "OPENCLAW_VERSION": versions["OPENCLAW_VERSION"],
    }
    registry = env.get("NPM_CONFIG_REGISTRY") or env.get("npm_config_registry")
    return arguments | ({"NPM_CONFIG_REGISTRY": registry} if registry else {})


def command_env(address: EngineAddress, env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the `docker` command uses the engine at `address`."""
    variables = {name: value for name, value in env.items() if name != "DOCKER_CONTEXT"}
    variables |= {
        "DOCKER_HOST": address.url,
        "DOCKER_BUILDKIT": "1",
        # A builder in its own container neither sees local images nor leaves one on the engine.
        "BUILDX_BUILDER": "default",
    }
    if address.cert_dir is not None:
        variables |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(address.cert_dir)}
    return variables


def find_ca_bundle(chosen: Path | None, env: Mapping[str, str]) -> Path | None:
    """The CA bundle for the build: the chosen one, else the one that the host's programs use."""
    if chosen is not None:
        return chosen
    names = (env.get("NODE_EXTRA_CA_CERTS"), env.get("SSL_CERT_FILE"))
    return next((Path(name) for name in names if name and Path(name).is_file()), None)


def run_command(
    command: Sequence[str],
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    *,
    answer_within_s: float | None = None,
) -> tuple[int, list[str]]:
    """Runs a command to its end; returns its exit code and its last lines.

    `answer_within_s` bounds the wait for its first line; a command that stays silent is killed.
    Raises ImageBuildFailed if the command is not installed.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise ImageBuildFailed(
            f"Building the image needs the {command[0]!r} command, which is not on the PATH. "
            "It comes with Docker Desktop and Docker Engine (Debian: docker-cli, docker-buildx)."
        ) from None
    last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
    silence = threading.Timer(answer_within_s or 0, process.kill)
    if answer_within_s is not None:
        silence.start()
    with process:
        try:
            for line in process.stdout or ():
                silence.cancel()
                last_lines.append(line.rstrip("\n"))
                on_line(last_lines[-1])
        except BaseException:
            # Without this, the build would go on in the background after Ctrl-C.
            process.terminate()
            raise
        finally:
            silence.cancel()
    return process.returncode, list(last_lines)


def format_progress(line: str) -> str | None:
    """A line of BuildKit's plain progress, shortened; None if it has no information."""
    if step := _STEP.match(line):
        number, instruction = step.groups()
        return _cut(f"[{number}] {' '.join(instruction.split())}")
    if output := _OUTPUT.match(line):
        return _cut(output.group(1).rstrip()) or None
    if done := _DONE.match(line):
        seconds, _ = done.groups()
        # Most steps take no time; lines for them would hide the slow ones.
        return None if seconds is None or float(seconds) < 1 else f"done in {seconds} s"
    return line if line.startswith("ERROR: ") and len(line) < _WIDTH else None


def relevant_lines(lines: Sequence[str]) -> list[str]:
    """The last lines of the failed step, which BuildKit repeats between two rulers; or of all."""
    rulers = [index for index, line in enumerate(lines) if line.startswith("------")]
    if len(rulers) > 1:
        # The first line between them is the step's whole command.
        step = lines[rulers[0] + 2 : rulers[1]]
        lines = step if any(map(str.strip, step)) else lines
    output = [line.strip() for line in lines if line.strip()]
    return [_cut(line) for line in output[-LONGEST_QUOTE:]]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
