"""The `docker` command that builds an image: its arguments, its run, and what its output says."""

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
"""Lines of a failed build that its error repeats."""

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
) -> list[str]:
    """The command line; the folder is the build context, with the Dockerfile in it or in `file`."""
    command = ["docker", "build", "--progress", "plain", "--tag", tag]
    if file is not None:
        command += ["--file", str(file)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if ca_bundle is not None:
        # A secret, not a copy: what the host trusts is its own affair, and stays out of the image.
        command += ["--secret", f"id=ca,src={ca_bundle}"]
    if no_cache:
        command.append("--no-cache")
    return [*command, str(folder)]


def build_arguments(
    base_image: str, versions: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str]:
    """The Dockerfile's ARGs; the npm registry only where the host has one set."""
    arguments = {
        "BASE_IMAGE": base_image,
        "NODE_VERSION": versions["NODE_VERSION"],
        "OPENCLAW_VERSION": versions["OPENCLAW_VERSION"],
    }
    registry = env.get("NPM_CONFIG_REGISTRY") or env.get("npm_config_registry")
    return arguments | ({"NPM_CONFIG_REGISTRY": registry} if registry else {})


def command_env(address: EngineAddress, env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the `docker` command reaches the very engine that we found."""
    chosen = {name: value for name, value in env.items() if name != "DOCKER_CONTEXT"}
    chosen |= {
        "DOCKER_HOST": address.url,
        "DOCKER_BUILDKIT": "1",
        # A builder in a container of its own would not see local images, nor leave one.
        "BUILDX_BUILDER": "default",
    }
    if address.cert_dir is not None:
        chosen |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(address.cert_dir)}
    return chosen


def find_ca_bundle(chosen: Path | None, env: Mapping[str, str]) -> Path | None:
    """The CA bundle for the build: the setting's, else the one the host's programs are told of."""
    if chosen is not None:
        return chosen
    named = (env.get("NODE_EXTRA_CA_CERTS"), env.get("SSL_CERT_FILE"))
    return next((Path(name) for name in named if name and Path(name).is_file()), None)


def run_command(
    command: Sequence[str],
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    *,
    answer_within_s: float | None = None,
) -> tuple[int, list[str]]:
    """Runs a command to its end; its exit code and last lines.

    It is killed if its first line does not come within `answer_within_s`.
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
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    mute = threading.Timer(answer_within_s or 0, process.kill)
    if answer_within_s is not None:
        mute.start()
    with process:
        try:
            for line in process.stdout or ():
                mute.cancel()
                kept.append(line.rstrip("\n"))
                on_line(kept[-1])
        except BaseException:
            # Ctrl-C ends the build too, instead of leaving it to go on unseen.
            process.terminate()
            raise
        finally:
            mute.cancel()
    return process.returncode, list(kept)


def format_progress(line: str) -> str | None:
    """A line of BuildKit's plain progress as a person wants it, or None for noise."""
    if step := _STEP.match(line):
        number, what = step.groups()
        return _cut(f"[{number}] {' '.join(what.split())}")
    if output := _OUTPUT.match(line):
        return _cut(output.group(1).rstrip()) or None
    if done := _DONE.match(line):
        seconds, _ = done.groups()
        # Most steps take no time, and a line for each would hide those that do.
        return None if seconds is None or float(seconds) < 1 else f"done in {seconds} s"
    return line if line.startswith("ERROR: ") and len(line) < _WIDTH else None


def relevant_lines(lines: Sequence[str]) -> list[str]:
    """The failed step's last output, which BuildKit repeats between two rulers; else the tail."""
    rulers = [index for index, line in enumerate(lines) if line.startswith("------")]
    if len(rulers) > 1:
        # The first line between them is the step's whole command.
        step = lines[rulers[0] + 2 : rulers[1]]
        lines = step if any(map(str.strip, step)) else lines
    output = [line.strip() for line in lines if line.strip()]
    return [_cut(line) for line in output[-LONGEST_QUOTE:]]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
