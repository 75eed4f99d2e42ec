"""The documentation: its links lead somewhere, and its code blocks are what the project takes."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import yaml
from markdown_it import MarkdownIt

from chowder_local.cli.main import chowder_local
from chowder_local.features.front import all_operations
from chowder_local.relay.scripts.files import parse
from chowder_local.seeding.desired_state import read_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md"])
SHELLS = {"sh", "bash", "shell"}
UNCHECKED = {"text", "http"}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    info: str
    content: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text()):
            if token.type == "fence":
                language, _, info = token.info.partition(" ")
                line = token.map[0] + 1 if token.map else 0
                yield Block(page.relative_to(ROOT).as_posix(), line, language, info, token.content)


BLOCKS = list(_blocks())


def of_language(*languages: str) -> list[Block]:
    return [each for each in BLOCKS if each.language in languages]


def test_a_relative_link_leads_to_a_file() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", _prose(page.read_text()))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def _prose(text: str) -> str:
    """The text without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.M | re.S)


def test_a_code_block_says_what_it_is_in() -> None:
    known = SHELLS | UNCHECKED | {"python", "json", "yaml", "js"}
    assert not [f"{each}: {each.language}" for each in BLOCKS if each.language not in known]


def test_python_compiles() -> None:
    wrong = []
    for each in of_language("python"):
        try:
            ast.parse(each.content)
        except SyntaxError as error:
            wrong.append(f"{each}: {error}")
    assert not wrong


PUBLIC_NAMES = {
    "chowder_local.client": {
        "ApiRefused", "BootFailed", "BootTimedOut", "ChowderError", "Client", "Input", "Json",
        "NULL", "ServerNotRunning", "ServerSilent", "StreamBroken",
    },
    "chowder_local.testing": {
        "ChowderLocalContainer", "LiveInstance", "LiveOrganization", "Replies", "Server",
    },
}  # fmt: skip
"""What users import: to remove or rename one of them breaks their programs."""


def test_the_public_names_are_there_and_samples_import_no_others() -> None:
    for module, names in PUBLIC_NAMES.items():
        public = import_module(module)
        assert set(public.__all__) == names
        assert all(hasattr(public, each) for each in names)
    samples = [each.content for each in of_language("python", "py")]
    # A feature of another package is made of what the server is made of.
    examples = (ROOT / "examples").rglob("*.py")
    samples += [each.read_text() for each in examples if "feature" not in each.parts]
    imported = {
        (node.module, name.name)
        for sample in samples
        for node in ast.walk(ast.parse(sample))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chowder_local")
        for name in node.names
    }
    assert imported
    assert not {each for each in imported if each[1] not in PUBLIC_NAMES.get(each[0] or "", set())}


def test_json_and_yaml_are_read() -> None:
    wrong = []
    for each in of_language("json", "yaml"):
        try:
            json.loads(each.content) if each.language == "json" else yaml.safe_load(each.content)
        except (ValueError, yaml.YAMLError) as error:
            wrong.append(f"{each}: {error}")
    assert not wrong


def test_javascript_is_read(tmp_path: Path) -> None:
    wrong = []
    for number, each in enumerate(of_language("js")):
        file = tmp_path / f"{number}.mjs"
        file.write_text(each.content)
        done = subprocess.run(["node", "--check", file], capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{each}: {done.stderr}")
    assert not wrong


def test_a_reply_script_is_one() -> None:
    scripts = [each for each in BLOCKS if re.search(r'title="(\w+/)*replies', each.info)]
    assert scripts
    for each in scripts:
        assert parse(each.content).replies, each


def test_a_seed_file_is_one(tmp_path: Path) -> None:
    seeds = [each for each in BLOCKS if re.search(r'title="(\w+/)*seed', each.info)]
    assert seeds
    for number, each in enumerate(seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        for organization in yaml.safe_load(each.content)["organizations"]:
            for instance in organization.get("instances", ()):
                _make_sources(folder, instance)
        (folder / "seed.yaml").write_text(each.content)
        document = read_seed(folder / "seed.yaml", AnyKey())
        assert document.organizations, each


class AnyKey(dict[str, str]):
    """An environment with every variable that a file may name."""

    def get(self, name: str, default: object = None) -> str:
        return f"sk-{name}-{default}"

    def __getitem__(self, name: str) -> str:
        return f"sk-{name}"

    def __contains__(self, name: object) -> bool:
        return True


def _make_sources(folder: Path, instance: dict[str, object]) -> None:
    """The files that a seed's instance is made of."""
    files, skills = instance.get("files") or {}, instance.get("skills") or {}
    assert isinstance(files, dict)
    assert isinstance(skills, dict)
    named = [each["file"] for each in files.values() if isinstance(each, dict) and "file" in each]
    for source in [*named, *(f"{each}/SKILL.md" for each in skills.values())]:
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).write_text("---\nname: x\ndescription: x.\n---\n")


def test_a_shell_block_is_shell() -> None:
    wrong = []
    for each in of_language(*SHELLS):
        done = subprocess.run(["bash", "-n"], input=each.content, capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{each}: {done.stderr}")
    assert not wrong


def test_a_command_and_its_options_are_there() -> None:
    wrong = []
    for each in of_language(*SHELLS):
        for arguments in _commands(each.content):
            try:
                _parse(chowder_local, arguments)
            except click.ClickException as error:
                wrong.append(f"{each}: {shlex.join(arguments)}: {error.format_message()}")
    assert not wrong


COMMAND = re.compile(r"(?:^|[\s/(])chowder-local(?=\s+[a-z-])([^\n|;&)#<>]*)")
PLAIN = re.compile(r"(?<=chowder_local-)|chowder-local/server\S*")


def _commands(shell: str) -> Iterator[list[str]]:
    """The arguments of each call of ours in a script."""
    joined = PLAIN.sub("IMAGE", shell.replace("\\\n", " "))
    # A service of compose has the command's name.
    joined = re.sub(r"(?m)^\s*#.*|(?<=exec )chowder-local|(?<=stop )chowder-local", "", joined)
    joined = joined.replace("--rm chowder-local", "chowder-local").replace(
        "--name chowder-local", ""
    )
    for found in COMMAND.findall(joined):
        yield shlex.split(re.sub(r'"?\$\(.*', "X", found).replace('")', '"'))


def _parse(command: click.Command, arguments: list[str]) -> None:
    """Raises ClickException for a command or an option that is not there."""
    context = click.Context(command, info_name=command.name)
    _, rest, _ = command.make_parser(context).parse_args(args=list(arguments))
    if not isinstance(command, click.Group) or not rest:
        return
    inner = command.get_command(context, rest[0])
    if inner is None:
        raise click.UsageError(f"There is no command {rest[0]!r}.")
    _parse(inner, rest[1:])


CALL = re.compile(r"(\$\{CHOWDER_BASE_URL%/v1\}/local|\$\{?CHOWDER_BASE_URL\}?)(/[^\s\"'?;)]*)")
TEMPLATES = [
    re.compile(re.sub(r"\{\w+(:path)?\}", "[^/]+", each.path)) for each in all_operations()
]


def test_a_call_is_of_a_route_that_is_there() -> None:
    unknown = []
    for each in BLOCKS:
        for base, path in CALL.findall(each.content):
            address = ("/local" if "%" in base else "/v1") + path
            if not any(template.fullmatch(address) for template in TEMPLATES):
                unknown.append(f"{each}: {address}")
    assert not unknown
