"""The README's quickstart and the tutorial, pasted whole into a shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from tests.e2e.quick_agents import open_quick_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.long]

ROOT = Path(__file__).parents[2]
# The server runs and pytest is there already; a machine's pip would ask the Internet for it.
DONE_ALREADY = re.compile(r"^(\./scripts/up.*|python -m pip install .*)$", re.M)
PLACE = re.compile(r"^mkdir -p \S+ && cd \S+$", re.M)
MARK = "----"
WAITING = re.compile(
    r"^(?:\n?chowder-local: .*|.* is answering.*)\n"
    r"|^=+ chowder-local: waiting.*\n(?:(?!\d+ passed).*\n)*",
    re.M,
)
"""What commands and tests say only if they wait for longer than a moment."""
RUN_TIMEOUT_S = 400


def paste(server: ServerProcess, script: str) -> str:
    """What the script prints; it runs at the project's root with a shell's few variables."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=server.env | {"CHOWDER_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The language, the title and the text of each block of a page."""
    tokens = MarkdownIt().parse((ROOT / page).read_text())
    fences = [each for each in tokens if each.type == "fence"]
    return [
        (each.info.split()[0], "".join(re.findall(r'title="(.+?)"', each.info)), each.content)
        for each in fences
    ]


@pytest.fixture
def asking_server(
    tmp_path: Path, engine: docker.DockerClient, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    """A server with quick agents that ask the offline model with every message."""
    with open_quick_server(tmp_path, engine, request.config, QUICK_GATEWAY_ASKS="yes") as server:
        yield server


# Real agents take the same calls in the hosted service's guide, and in the tutorial.
@pytest.mark.quick
def test_the_readmes_quickstart_works_as_it_stands(asking_server: ServerProcess) -> None:
    (quickstart,) = (text for _, _, text in blocks("README.md") if "my-first-agent" in text)
    delete = '\ncall -X DELETE "$AGENT"'
    printed = paste(asking_server, quickstart + delete).splitlines()
    answers = [line for line in printed if '"object":"response"' in line]
    assert '"status":"running"' in printed[0]
    assert len(answers) == 3
    assert 'Before that: \\"Hey! Who are you' in answers[1]
    assert "Before that" not in answers[2]
    assert [line for line in printed if '"status":"stopped"' in line]


@pytest.mark.nightly
def test_the_tutorial_prints_what_it_shows(own_server: ServerProcess, tmp_path: Path) -> None:
    # A terminal shows both streams.
    script, shown = ["exec 2>&1"], []
    for language, title, text in blocks("docs/tutorial.md"):
        if title:
            (tmp_path / title).write_text(text)
        elif language == "sh":
            commands = DONE_ALREADY.sub("", text)
            script.append(PLACE.sub(f"cd '{tmp_path}'", commands))
            script.append(f"echo {MARK}")
            shown.append("")
        elif language == "text":
            shown[-1] = text
    printed = paste(own_server, "\n".join(script)).split(f"{MARK}\n")
    unlike = []
    # The first block's output is of the server's start, which was before.
    for expected, actual in zip(shown[1:], printed[1:], strict=False):
        actual = WAITING.sub("", actual)
        pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
        if not re.search(pattern, actual, re.S):
            unlike.append(f"expected:\n{expected}\nprinted:\n{actual}")
    assert not unlike, "\n".join(unlike)
