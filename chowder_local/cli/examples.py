"""An example or two of each command, for its `--help` and the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chowder_local.core.wording import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": ("up --detach", "instances create support", "chat support", "exec -- npm test"),
    "up": ("up --detach", "up --offline --port 2470 --seed seed.yaml"),
    "down": ("down",),
    "status": ("status --output json",),
    "env": ('eval "$(chowder-local env)"', "env --format json"),
    "dashboard": ("dashboard --open",),
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
    "instances fork": ("instances fork support support-2",),
    "instances gateway": ("instances gateway support",),
    "instances hibernation": ("instances hibernation support off",),
    "instances import": (
        "instances import support.chowder.tar support-2",
        "instances import --all agents",
    ),
    "instances ls": ("instances ls --output wide",),
    "instances restart": ("instances restart support",),
    "instances rm": ("instances rm support support-2 --yes",),
    "instances show": ("instances show support",),
    "instances start": ("instances start support",),
    "instances stop": ("instances stop support",),
    "instances upgrade": (
        "instances upgrade support --to 2026.9.6 --dry-run",
        "instances upgrade support --rollback",
    ),
    "instances wait": ("instances wait support --timeout 60",),
    "snapshots create": ("snapshots create support before-release",),
    "snapshots fork": ("snapshots fork before-release support-2",),
    "snapshots ls": ("snapshots ls support",),
    "snapshots restore": ("snapshots restore support before-release",),
    "snapshots rm": ("snapshots rm before-release --yes",),
    "chat": ("chat support", 'chat support --session orders "Where is order 7?"'),
    "logs": ("logs support --follow", "logs support --since 10m", "logs --all"),
    "sessions ls": ("sessions ls support",),
    "sessions show": ("sessions show support orders --limit 20",),
    "trace": ("trace support", "trace support --list", "trace support resp_0f8fad5b"),
    "usage": ("usage", "usage support --output json"),
    "files cat": ("files cat support workspace/SOUL.md",),
    "files get": ("files get support workspace/report.pdf .",),
    "files ls": ("files ls support workspace",),
    "files put": ("files put support prices.csv workspace/", "files put support docs workspace/"),
    "keys create": ("keys create shop -i support -p interact -p read",),
    "keys ls": ("keys ls",),
    "keys revoke": ("keys revoke shop --yes",),
    "channels connect": (
        "channels connect support telegram token=@telegram-token.txt",
        "channels connect support whatsapp --qr scan-me.png",
    ),
    "channels disconnect": ("channels disconnect support telegram",),
    "channels fields": ("channels fields support slack",),
    "channels ls": ("channels ls support",),
    "channels pair": ("channels pair support telegram ABCD2345",),
    "channels pairings": ("channels pairings support telegram",),
    "channels status": ("channels status support telegram",),
    "skills add": ("skills add support ./tides",),
    "skills install": ("skills install support @steipete/weather --env WEATHER_KEY=@key.txt",),
    "skills ls": ("skills ls support --ready",),
    "skills set": (
        "skills set support weather --disable",
        "skills set support weather --env WEATHER_KEY=@key.txt",
    ),
    "skills show": ("skills show support weather",),
    "organization create": ("organization create kitchen",),
    "organization remove-key": ("organization remove-key openai",),
    "organization rename": ("organization rename kitchen",),
    "organization set-key": (
        "organization set-key anthropic <key.txt",
        "organization set-key openai --offline",
    ),
    "organization show": ("organization show",),
    "organization tier": ("organization tier", "organization tier crab"),
    "replies clear": ("replies clear --instance support",),
    "replies set": ("replies set replies.yaml", "replies set --instance support replies.yaml"),
    "replies show": ("replies show",),
    "exchanges": ("exchanges support", "exchanges support ex-1"),
    "events": ("events", "events support --type instance --output json"),
    "mcp": ("mcp", "mcp --stdio"),
    "seed": ("seed seed.yaml", 'eval "$(chowder-local seed seed.yaml --output env)"'),
    "faults add": (
        "faults add message --status 429 --retry-after 2",
        "faults add stream --after-events 3 --instance support",
    ),
    "faults ls": ("faults ls",),
    "faults rm": ("faults rm --all",),
    "image build": ("image build", "image build --openclaw 2026.9.5"),
    "image ls": ("image ls",),
    "image rm": ("image rm",),
    "image tag": ("image tag",),
    "conformance": (
        "conformance https://api.example/v1 --read-only",
        "conformance https://api.example/v1 --report drift.md --report drift.json",
    ),
    "worker": ("worker",),
    "completion": ("completion bash >>~/.bashrc", "completion fish | source"),
    "reset": ("reset", "reset --organization --yes"),
}
"""By command; the name of the program is left out where a line would begin with it."""


GROUP_EXAMPLES = 4
"""How many lines the help of a group of commands has."""


def examples_of(context: click.Context) -> list[str]:
    """The lines for a shell that a command's help has; a group has the first ones of a few."""
    _, _, path = context.command_path.partition(" ")
    if path and isinstance(context.command, click.Group):
        below = [f"{path} {name}".strip() for name in context.command.list_commands(context)]
        return [line for each in below for line in _lines(each)[:1]][:GROUP_EXAMPLES]
    return _lines(path)


def _lines(path: str) -> list[str]:
    lines = EXAMPLES.get(path, ())
    return [line if PROGRAM in line else f"{PROGRAM} {line}" for line in lines]
