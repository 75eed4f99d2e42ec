"""Options, arguments, command classes and questions that several commands share, and examples."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from chowder_local.cli.output import Output, agrees
from chowder_local.core.domain import MAX_USD, is_release
from chowder_local.core.errors import ChowderError
from chowder_local.core.visible_text import visible_line
from chowder_local.core.wording import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    TimeType = click.ParamType[datetime]
else:
    # In click 8.3 it takes no parameter.
    TimeType = click.ParamType

Result = TypeVar("Result")

ALIASES = {"list": "ls", "ps": "ls", "remove": "rm", "delete": "rm"}
WAIT_TIMEOUT_S = 300.0
COMPLETION_TIMEOUT_S = 2.0
STANDARD_INPUT = "@-"

jobs_option = click.option(
    "--jobs",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Whether the scheduled jobs of the copy run.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
wait_option = click.option(
    "--wait/--no-wait", default=True, help="Wait until it is running (the default)."
)
timeout_option = click.option(
    "--timeout", type=float, default=WAIT_TIMEOUT_S, show_default=True, help="Seconds to wait."
)


def parse_version(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """An OpenClaw release, as a callback of an option."""
    if value is not None and not is_release(value):
        raise click.BadParameter(f"{value!r} is no release of OpenClaw, such as 2026.9.6.")
    return value


openclaw_option = click.option(
    "--openclaw",
    "version",
    metavar="VERSION",
    callback=parse_version,
    help="OpenClaw release; the server's own if it is left out.",
)


def complete_instance(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of instances that begin like this; none if the server does not answer."""
    # A client of the context would write its remarks into the line that the user types.
    from chowder_local.client import Client

    found = context.obj
    try:
        with Client(found.root_url(), found.key(), timeout_s=COMPLETION_TIMEOUT_S) as client:
            names = sorted(str(each["name"]) for each in client.instances())
    except ChowderError:
        return []
    # What a terminal would obey is not put into the line that the user types.
    return [
        CompletionItem(name)
        for name in names
        if name.startswith(incomplete) and name == visible_line(name)
    ]


def output_option(command: Callable[..., Result]) -> Callable[..., Result]:
    """`--output`, and `--json` for its most used value, as the argument `output` of a command."""

    def call(*arguments: Any, output: str, is_json: bool, **options: Any) -> Result:
        chosen = Output.JSON if is_json else Output(output)
        return command(*arguments, output=chosen, **options)

    choose = click.option(
        "-o",
        "--output",
        type=click.Choice([str(each) for each in Output]),
        default=str(Output.TABLE),
        show_default=True,
        help='"wide" has more columns and cuts nothing, "json" is for scripts.',
    )
    choose_json = click.option("--json", "is_json", is_flag=True, help="As --output json.")
    return choose(choose_json(update_wrapper(call, command)))


def data_dir_option() -> click.Option:
    """`--data-dir`, which every command takes before or after its name."""

    def choose(context: click.Context, _: click.Parameter, value: Path | None) -> None:
        if value is not None:
            context.obj = replace(context.obj, data_dir=value.absolute())

    return click.Option(
        ["--data-dir"],
        type=click.Path(file_okay=False, path_type=Path),
        callback=choose,
        expose_value=False,
        help="Directory of the database, keys and logs. With this option, commands use the server "
        "of this directory, even if CHOWDER_BASE_URL names another. CHOWDER_DATA_DIR names the "
        "directory too, but CHOWDER_BASE_URL and CHOWDER_KEY win over it.",
    )


class Usd(click.FloatRange):
    """An amount of USD."""

    def __init__(self) -> None:
        super().__init__(min=0, max=MAX_USD)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The amount. Fails for `nan`, too, which is in every range."""
        usd: float = super().convert(value, param, ctx)
        if math.isnan(usd):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return usd


class Command(click.Command):
    """A command with `--data-dir`, and with examples in its help."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.insert(0, data_dir_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


class Group(click.Group):
    """A group whose commands are such, and may be called by their aliases."""

    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.insert(0, data_dir_option())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click's own cuts each sentence to one line.
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, each.get_short_help_str(sys.maxsize)) for name, each in commands if each]
            )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


def write_examples(context: click.Context, formatter: click.HelpFormatter) -> None:
    """Adds a command's examples to its help, each on one line."""
    if lines := examples_of(context):
        with formatter.section("Examples"):
            for line in lines:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def confirm(question: str, *, yes: bool) -> None:
    """Asks the question, unless `yes`. Raises click.Abort if the answer is no."""
    if not yes:
        agrees(question, abort=True)


def ensure_writable(path: Path, *, yes: bool) -> None:
    """Asks before a file is overwritten.

    Raises ClickException if its folder is missing or if it exists and is not a file, and
    click.Abort if the answer is no.
    """
    if not path.parent.is_dir():
        raise click.ClickException(f"There is no folder {path.parent}. Make it first.")
    if path.exists():
        if not path.is_file():
            raise click.ClickException(f"{path} exists and is not a file.")
        confirm(f"{path} exists. Overwrite it?", yes=yes)


def json_value(text: str) -> Any:
    """The value that JSON gives, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _texts(texts: tuple[str, ...], hint: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for each in texts:
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{each!r} is not {hint}.", param_hint=hint)
        given[name] = value
    return given


def settings(
    _: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, Any]:
    """A callback of click: settings by path, whose values are JSON or else strings."""
    given = _texts(texts, parameter.metavar or "PATH=VALUE")
    return {path: json_value(value) for path, value in given.items()}


def secrets(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """A callback of click: texts by name. `@FILE` is read, and `@-` is standard input."""
    given = _texts(texts, parameter.metavar or "NAME=VALUE")
    return {name: _secret(value) for name, value in given.items()}


def _secret(value: str) -> str:
    if value == STANDARD_INPUT:
        return sys.stdin.readline().rstrip("\n")
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text().rstrip("\n")
    except (OSError, ValueError) as failure:
        raise click.BadParameter(f"{value[1:]} cannot be read: {failure}") from failure


def env_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--env NAME=VALUE`, repeatable."""
    return click.option(
        "-e",
        "--env",
        multiple=True,
        metavar="NAME=VALUE",
        callback=secrets,
        help=f"{help_text} @FILE reads the value from a file, @- from standard input. Repeatable.",
    )


EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": ("up --detach", "instances create support", "chat support", "exec -- npm test"),
    "up": ("up --detach", "up --offline --port 2470 --seed seed.yaml"),
    "status": ("status --output json",),
    "env": ('eval "$(chowder-local env)"', "env --format json"),
    "dashboard": ("dashboard --open",),
    "channels say": (
        'channels say support telegram "Hello" --as Ada --approve',
        'channels say support telegram "@agent_bot Hello" --group Team',
    ),
    "exec": ("exec -- npm test", "exec --instance support -- pytest -q"),
    "doctor": ("doctor", "doctor --bundle report.zip"),
    "disk": ("disk", "disk --output json"),
    "instances configure": (
        "instances configure support agents.defaults.thinkingDefault=low",
        "instances configure support --name help-desk",
    ),
    "instances create": (
        "instances create support",
        "instances create support --provider openai --no-wait",
    ),
    "instances egress": ("instances egress support off",),
    "instances export": (
        "instances export support support.chowder.tar",
        "instances export --all agents",
    ),
    "instances hibernation": ("instances hibernation support off",),
    "instances import": (
        "instances import support.chowder.tar support-2",
        "instances import --all agents",
    ),
    "instances ls": ("instances ls --output wide",),
    "instances rm": ("instances rm support support-2 --yes",),
    "instances upgrade": (
        "instances upgrade support --to 2026.9.6 --dry-run",
        "instances upgrade support --rollback",
    ),
    "instances wait": ("instances wait support --timeout 60",),
    "snapshots create": ("snapshots create support before-release",),
    "snapshots ls": ("snapshots ls support",),
    "snapshots rm": ("snapshots rm before-release --yes",),
    "clock advance": ("clock advance support 25h", "clock advance support --next-job"),
    "clock set": (
        "clock set support --at 2027-01-01T09:00Z --frozen",
        "clock set support --running",
    ),
    "jobs change": ("jobs change support report --off",),
    "jobs create": (
        'jobs create support report "Write the report." --cron "0 9 * * 1-5" '
        "--timezone Europe/Berlin",
        'jobs create support once "Say hello." --at 2026-12-24T09:00',
    ),
    "jobs ls": ("jobs ls support",),
    "jobs run": ("jobs run support report",),
    "jobs runs": ("jobs runs support report",),
    "jobs wake": ('jobs wake support "The build is done."',),
    "chat": ("chat support", 'chat support --session orders "Where is order 7?"'),
    "logs": ("logs support --follow", "logs support --since 10m", "logs --all"),
    "sessions reset": ("sessions reset support orders", "sessions reset support main --yes"),
    "activity show": ("activity show support",),
    "activity wait": ("activity wait support --timeout 120",),
    "activity cancel": (
        "activity cancel support",
        "activity cancel support 5bf024d133589c269a9492149020d5fe",
    ),
    "sessions show": ("sessions show support orders --limit 20",),
    "trace": ("trace support", "trace support --list", "trace support resp_0f8fad5b"),
    "messages": ("messages support", "messages support --wait --session orders"),
    "hooks send": (
        """hooks send support wake '{"text": "The build is green."}'""",
        """hooks send support agent '{"message": "Summarize the import.", "name": "CI"}'""",
    ),
    "inbox ls": ("inbox ls support --follow", "inbox ls support --wait --timeout 30"),
    "usage": ("usage", "usage support --output json"),
    "approvals policy": (
        "approvals policy support --ask always",
        "approvals policy support --security allowlist --ask on_miss --allow git --allow ls",
    ),
    "hold next": ("hold next support --text weather", "hold next support --tool exec --every"),
    "hold resume": ('hold resume ex-7 --answer "It is sunny."', "hold resume ex-7 --error 429"),
    "budget show": ("budget show", "budget show --instance support"),
    "budget set": (
        "budget set --usd 5 --per day",
        "budget set --model-calls 100 --instance support",
    ),
    "files cat": ("files cat support workspace/SOUL.md",),
    "files get": ("files get support workspace/report.pdf .",),
    "files ls": ("files ls support workspace",),
    "files put": ("files put support prices.csv workspace/", "files put support docs workspace/"),
    "keys create": ("keys create shop -i support -p interact -p read",),
    "keys revoke": ("keys revoke shop --yes",),
    "channels connect": (
        "channels connect support telegram token=@telegram-token.txt",
        "channels connect support whatsapp --qr scan-me.png",
    ),
    "channels fields": ("channels fields support slack",),
    "skills add": ("skills add support ./tides",),
    "skills install": ("skills install support @steipete/weather --env WEATHER_KEY=@key.txt",),
    "skills ls": ("skills ls support --ready",),
    "skills set": (
        "skills set support weather --disable",
        "skills set support weather --env WEATHER_KEY=@key.txt",
    ),
    "organization create": ("organization create kitchen",),
    "organization remove-key": ("organization remove-key openai",),
    "organization rename": ("organization rename kitchen",),
    "organization set-key": (
        "organization set-key anthropic <key.txt",
        "organization set-key openai --offline",
    ),
    "organization tier": ("organization tier", "organization tier crab"),
    "replies clear": ("replies clear --instance support",),
    "replies set": ("replies set replies.yaml", "replies set --instance support replies.yaml"),
    "calls show": ("calls show support", "calls show support ex-1"),
    "calls export": ("calls export resp_0f8fad5b failing.json", "calls export support:orders"),
    "calls import": ("calls import failing.json",),
    "diff": (
        "diff resp_0f8fad5b resp_7c9e6679",
        "diff support support-2 --output json",
        "diff support/seed.yaml https://api.example/v1 support --exit-code",
    ),
    "rerun": (
        "rerun resp_0f8fad5b --from ex-7 --model gpt-4o",
        "rerun resp_0f8fad5b --from 2 --edit",
    ),
    "events": ("events", "events support --type instance --output json"),
    "mcp": ("mcp", "mcp --stdio"),
    "seed": ("seed seed.yaml", 'eval "$(chowder-local seed seed.yaml --output env)"'),
    "pull": ("pull https://api.example/v1 support --as support-dev",),
    "push": (
        "push support/seed.yaml https://api.example/v1 --dry-run",
        "push support-dev/seed.yaml https://api.example/v1 support",
    ),
    "trials": ("trials cases.yaml", "trials cases.yaml --seed 7 --output json"),
    "faults add": (
        "faults add message --status 429 --retry-after 2",
        "faults add stream --after-events 3 --instance support",
    ),
    "faults rm": ("faults rm --all",),
    "image build": ("image build", "image build --openclaw 2026.9.5"),
    "conformance": (
        "conformance https://api.example/v1 --read-only",
        "conformance https://api.example/v1 --report drift.md --report drift.json",
    ),
    "completion": ("completion bash >>~/.bashrc", "completion fish | source"),
    "reset": ("reset", "reset --organization --yes"),
}
"""By command; the name of the program is left out where a line would begin with it."""


GROUP_EXAMPLES = 4
"""How many lines the help of a group of commands has."""
SAMPLES: Mapping[str, str] = {
    "approval": '"rm -rf build"',
    "job": "report",
    "instance": "support",
    "name": "support-2",
    "snapshot": "before-release",
    "channel": "telegram",
    "code": "ABCD2345",
    "skill": "weather",
}
"""Arguments of a command without examples of its own."""


def examples_of(context: click.Context) -> list[str]:
    """The lines for a shell that a command's help has; a group has the first ones of a few."""
    _, _, path = context.command_path.partition(" ")
    command = context.command
    if path and isinstance(command, click.Group):
        below = [
            (name, command.get_command(context, name)) for name in command.list_commands(context)
        ]
        return [_lines(f"{path} {name}", each)[0] for name, each in below if each][:GROUP_EXAMPLES]
    return _lines(path, command)


def _lines(path: str, command: click.Command) -> list[str]:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    samples = [
        SAMPLES[str(each.name)] for each in arguments if each.required and path not in EXAMPLES
    ]
    lines = EXAMPLES.get(path) or (" ".join([path, *samples]),)
    return [line if PROGRAM in line else f"{PROGRAM} {line}" for line in lines]
