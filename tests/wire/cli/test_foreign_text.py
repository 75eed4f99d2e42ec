"""What agents and other servers say, in the output of every command."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from chowder_local.api.openapi.document import document
from chowder_local.cli import commands
from chowder_local.cli.main import chowder_local, run
from chowder_local.cli.options import examples_of
from chowder_local.features.approvals import commands as approvals
from chowder_local.features.front import all_operations
from chowder_local.features.jobs import commands as jobs
from chowder_local.seeding import remote
from tests.unit.cli.test_main import commands_below
from tests.wire.cli.test_runs import a_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.cli.conftest import Output, Serve

SIGN = "zebra"
OBEYED = "\x1b]0;x\x07\x9b31m\r\u202e\u200b\U000e0041\x7f"
HOSTILE = f"{SIGN}{OBEYED}\n{SIGN} own line"
DOCUMENT = document(all_operations())
ENOUGH = 3
"""Answers to one call, after which the server refuses it: a command that follows something ends."""
WITHOUT_SERVER = {
    "up", "down", "worker", "mcp", "completion", "image build", "image ls", "image rm",
    "image tag", "disk", "reset", "dashboard", "conformance",
}  # fmt: skip
"""What they print is this machine's, or has a test of its own."""
LINES = {"exec": ["exec --seed seed.yaml -- true"]}
"""In place of examples that run other programs."""
WITHOUT_TEXTS = {
    "budget rm", "calls export", "channels approve", "channels disconnect", "env", "faults rm",
    "files get", "files put", "hold off", "inbox clear", "replies clear", "replies set",
    "skills add", "skills set",
}  # fmt: skip
"""They print nothing of the answer."""
OF_LINES = {
    "calls show", "channels connect", "channels pair", "channels say", "chat", "files cat",
    "inbox ls", "instances ls", "logs", "messages", "sessions show",
}  # fmt: skip
"""They print texts of several lines."""
DEEPEST = 6
OTHERS = {
    "NO_COLOR": "1", "PATH": "/usr/bin:/bin", "DOCKER_HOST": "unix:///nowhere",
    "CHOWDER_REMOTE_KEY": "k",
}  # fmt: skip
RUN = a_run(HOSTILE)
RUN["title"], RUN["turns"][0]["calls"][1]["id"] = HOSTILE, "ex-7"
KNOWN = {"qr_image_base64": "", "reason": HOSTILE, "is_dir": False}


class Hostile(dict[str, Any]):
    """Answers each call of the API with what its schema allows, in which all texts are hostile."""

    def __init__(self, *, is_chat: bool) -> None:
        super().__init__()
        self.is_chat = is_chat
        self.counts: dict[str, int] = {}

    def get(self, call: str, default: Any = None) -> Any:
        """The answer, in the form of the fixture `serve`."""
        method, target = call.split(" ", 1)
        self.counts[call] = self.counts.get(call, 0) + 1
        operation = _operation(method.lower(), target.partition("?")[0])
        if operation is None or self.counts[call] > ENOUGH:
            return 418, {"detail": SIGN + OBEYED, "code": SIGN + OBEYED}
        if target.startswith("/local/runs/"):
            return 200, RUN
        status = min(operation["responses"])
        content = operation["responses"][status].get("content", {})
        if "text/event-stream" in content and "application/json" not in content:
            return int(status), f"data: {json.dumps({'type': HOSTILE, 'at': HOSTILE})}\n\n".encode()
        if target.endswith("/responses") and self.is_chat:
            pieces = [HOSTILE[:7], HOSTILE[7:8], HOSTILE[8:]]
            events = [{"type": "response.output_text.delta", "delta": each} for each in pieces]
            return 200, "".join(f"data: {json.dumps(each)}\n\n" for each in events).encode()
        if "application/json" not in content:
            return int(status), HOSTILE.encode()
        # A list that has been read to its end has no more.
        is_read = re.search(r"after=[1-9]", target) is not None
        return int(status), _answer(content["application/json"]["schema"], 0 if is_read else 1)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, operations in DOCUMENT["paths"].items():
        pattern = re.sub(r"\{[^}]*\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method in operations:
            return dict(operations[method])
    return None


def _answer(schema: dict[str, Any], length: int, depth: int = 0) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _answer(DOCUMENT["components"]["schemas"][name], length, depth)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if choice.get("type") != "null":
            return _answer(choice, length, depth)
    if "enum" in schema:
        return next(
            (each for each in schema["enum"] if each in ("running", "idle", "file")),
            schema["enum"][0],
        )
    match schema.get("const", schema.get("type")):
        case "object":
            members = schema.get("properties", {})
            if depth > DEEPEST:
                return {}
            made = {each: _answer(members[each], length, depth + 1) for each in members}
            return made | {each: KNOWN[each] for each in KNOWN if each in members} or KNOWN
        case "array":
            return [_answer(schema.get("items", {}), length, depth + 1)] * (
                0 if depth > 6 else length
            )
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            is_time = schema.get("format") == "date-time"
            return "2026-01-01T00:00:00Z" if is_time else HOSTILE
        case None:
            return HOSTILE
        case constant:
            return constant


ROOT = click.Context(chowder_local, info_name="chowder-local")
CALLS = {
    path: context
    for context in commands_below(ROOT)
    if (path := context.command_path.partition(" ")[2]) not in WITHOUT_SERVER
}


def _words(line: str) -> list[str]:
    *_, call = re.sub(r' ?[|<>].*$|\)"$', "", line).rpartition("chowder-local ")
    return shlex.split(call)


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples read, and references that find whatever the server has."""
    monkeypatch.chdir(tmp_path)
    for name in ("key.txt", "telegram-token.txt", "support.chowder.tar", "prices.csv"):
        (tmp_path / name).write_text("1")
    (tmp_path / "replies.yaml").write_text("replies: [{reply: x}]")
    (tmp_path / "failing.json").write_text(json.dumps(RUN))
    judge = {"judge": {"model": "gpt-4o", "question": "?"}}
    case = {"name": HOSTILE, "trials": 1, "message": "Hi", "checks": [judge]}
    (tmp_path / "cases.yaml").write_text(json.dumps({"cases": [case]}))
    for name in ("agents", "docs", "tides", "support", "support-dev"):
        (tmp_path / name).mkdir()
    agent = {"name": HOSTILE, "openclaw_config": {"logging": {"level": HOSTILE}}}
    declared = {"organizations": [{"name": "default", "instances": [agent]}]}
    for name in ("seed.yaml", "support/seed.yaml", "support-dev/seed.yaml"):
        (tmp_path / name).write_text(json.dumps(declared))
    (tmp_path / "tides/SKILL.md").write_text("x")
    for module in (commands, approvals, jobs):
        monkeypatch.setattr(module, "choose", lambda resources, *_: resources[0])
    monkeypatch.setattr(commands, "choose_instance", lambda resources, _: resources[0])
    monkeypatch.setattr(remote, "find_instance", lambda client, _: client.instances()[0])
    monkeypatch.setattr("chowder_local.cli.exec.healthy_server", lambda _: {})
    monkeypatch.setenv("EDITOR", "true")


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("path", CALLS)
def test_no_command_prints_what_a_terminal_obeys(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    printed = ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    has_forms = any(each.name == "output" for each in CALLS[path].command.params)
    for line in LINES.get(path) or examples_of(CALLS[path]):
        for form in ("table", "wide", "json") if has_forms else ("",):
            env, _ = serve(Hostile(is_chat=path == "chat"))
            monkeypatch.setattr(sys, "stdin", io.StringIO("y\ntheirs\ny\n"))
            url = json.loads((tmp_path / "server.json").read_text())["base_url"]
            words = [each.replace("https://api.example", url) for each in _words(line)]
            words += ["--output", form] if form else []
            run(words, {**env, **OTHERS})
            output = "".join(capsys.readouterr())
            assert not (set(OBEYED) - set("]0;x31m")) & set(output), words
            printed += output
    assert (SIGN in printed) is (path not in WITHOUT_TEXTS)
    if path not in OF_LINES:
        assert not re.search(f"^ *{SIGN} own line", printed, re.MULTILINE)
