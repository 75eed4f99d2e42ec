"""`files`, `channels` and `skills`: what an agent has, can reach, and knows how to do."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from contextlib import closing
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from chowder_local.cli.commands import Row, find_instance, instance_argument, noun
from chowder_local.cli.context import Context, pass_client
from chowder_local.cli.options import (
    ensure_writable,
    env_option,
    output_option,
    secrets,
    settings,
    yes_option,
)
from chowder_local.cli.output import (
    Output,
    ask,
    at,
    count_of,
    format_time,
    note,
    say,
    say_bytes,
    say_text,
    show_json,
    show_list,
    show_result,
    waiting,
)
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.wording import MOMENT_S, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chowder_local.cli.output import Column
    from chowder_local.client import Client

ANSWER_WAIT_S = 60.0
POLL_S = 20.0
SKILL_MEMBERS = ("name", "description", "source", "ready", "path")

# fmt: off
files = noun("files", """List, read, download and upload an agent's files.

    A PATH is relative to the agent's OpenClaw home, where openclaw.json and workspace/ are.
    """, {
    "ls": Row("files", "instance path=.", "List a folder; by default, the agent's home.",
        columns={
            "MODE": "permissions",
            "SIZE": lambda entry: "" if entry["is_dir"] else size_of(entry["size"]),
            "CHANGED": at("mod_time"),
            "NAME": lambda entry: entry["name"] + ("/" if entry["is_dir"] else ""),
        }, wide={"PATH": "path"}, if_empty="The folder is empty."),
})
# fmt: on


@files.command("cat")
@instance_argument
@click.argument("path")
@pass_client
def cat(client: Client, instance: str, path: str) -> None:
    """Print a file, byte for byte; a terminal is shown control characters instead."""
    instance_id = find_instance(client, instance)["id"]
    with closing(client.download(instance_id, path)) as chunks:
        say_bytes(chunks)


@files.command("get")
@instance_argument
@click.argument("path")
@click.argument("target", default=".", type=click.Path())
@yes_option
@click.pass_obj
def get(context: Context, instance: str, path: str, target: str, yes: bool) -> None:
    """Download a file to TARGET, a file or folder; by default, the current folder.

    It asks before it overwrites a file.
    """
    destination = Path(target)
    # A target that ends with a slash is a folder, even if it does not exist.
    if destination.is_dir() or target.endswith("/"):
        destination /= PurePosixPath(path).name
    ensure_writable(destination, yes=yes)
    with context.client() as client:
        instance_id = find_instance(client, instance)["id"]
        with closing(client.download(instance_id, path)) as chunks:
            save(chunks, destination)


@files.command("put")
@instance_argument
@click.argument("source", type=click.Path(exists=True, allow_dash=True))
@click.argument("path", default="workspace/")
@pass_client
def put(client: Client, instance: str, source: str, path: str) -> None:
    """Upload a file ("-" is standard input) or a folder of this machine to PATH.

    If PATH is a folder or ends with "/", the file or folder keeps its name. PATH is workspace/ by
    default. Of a folder, empty folders and links to other folders are left out.
    """
    instance_id = find_instance(client, instance)["id"]
    folder = Path(source)
    if source == "-" or not folder.is_dir():
        with click.open_file(source, "rb") as file:
            client.upload(instance_id, path, cast("BinaryIO", file))
        return
    if path.endswith("/") or _is_folder(client, instance_id, path):
        path = f"{path.rstrip('/')}/{folder.resolve().name}"
    count = put_folder(client, instance_id, folder, path)
    note(f"{count_of(count, 'file')} put into {path}.")


def put_folder(client: Client, instance_id: str, folder: Path, path: str) -> int:
    """Uploads the files of a folder to the folder `path`; returns how many they are."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    with waiting(f"Uploading {count_of(len(files), 'file')}", after_s=MOMENT_S) as update:
        for number, each in enumerate(files, 1):
            name = each.relative_to(folder).as_posix()
            update(f"Uploading {number} of {len(files)}: {name}")
            with each.open("rb") as file:
                client.upload(instance_id, f"{path}/{name}", file)
    return len(files)


def _is_folder(client: Client, instance_id: str, path: str) -> bool:
    try:
        client.files(instance_id, path)
    except ApiRefused as refused:
        if refused.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            return False
        raise
    return True


def save(chunks: Iterable[bytes], path: Path, mode: int = 0o666) -> None:
    """Writes a whole file; if the chunks break off, the old one stays. The umask limits `mode`."""
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.touch(mode)
        with partial.open("wb") as file:
            file.writelines(chunks)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _fields(info: dict[str, Any]) -> list[dict[str, str]]:
    return [{"field": name, "what": what} for name, what in info["required_fields"].items()]


def _describe_status(state: dict[str, Any]) -> str:
    line = f"{state['channel']} is {'' if state['connected'] else 'not '}connected"
    reason = state["details"]["reason"]
    return f"{line}: {reason}" if reason else line


# fmt: off
channels = noun("channels",
    "List, connect, pair and disconnect an agent's channels to messengers.", {
    "ls": Row("channels", "instance", "List all channels, and whether they are enabled.",
        columns={"CHANNEL": "channel", "CONNECTS BY": "connection_type", "ENABLED": "enabled"}),
    "fields": Row("channel", "instance channel",
        "List the fields that connecting a channel requires.", items=_fields,
        columns={"FIELD": "field", "WHAT IT IS": "what"}, if_empty="{channel} requires no fields."),
    "status": Row("channel_status", "instance channel",
        "Show whether a channel is connected, and why not.", line=_describe_status),
    "pairings": Row("channel_pairings", "instance channel",
        "List the people who wait for an approval, with their codes.",
        columns={"CODE": "code", "SENDER": "sender", "SINCE": "created_at"},
        if_empty="Nobody waits in {channel}."),
    "approve": Row("approve_pairing", "instance channel code",
        "Approve at once who waits with this pairing CODE.", done="{code} is approved."),
    "pair": Row("pair_channel", "instance channel code",
        "Approve the unknown sender who got this pairing CODE from the agent.",
        line=lambda paired: paired["output"].split("\n")),
    "disconnect": Row("disconnect_channel", "instance channel",
        "Disconnect a channel; OpenClaw keeps its credentials.", done="{channel} is disconnected."),
})
# fmt: on


@channels.command("connect")
@output_option
@instance_argument
@click.argument("channel")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...", callback=secrets)
@click.option("--offline", is_flag=True, help="Connect it to the local messenger.")
@click.option(
    "--qr", type=click.Path(dir_okay=False, path_type=Path), help="Where a QR code is written."
)
@yes_option
@pass_client
def connect(
    client: Client,
    output: Output,
    instance: str,
    channel: str,
    fields: dict[str, Any],
    offline: bool,
    qr: Path | None,
    yes: bool,
) -> None:
    """Connect a channel. On a terminal, required fields that are not given are asked for.

    A field that is left empty keeps what OpenClaw has. A value @FILE is read from a file and @-
    from standard input, so that it is in no history of commands. If a person has to scan a QR
    code, it is written to CHANNEL.png.
    """
    agent = find_instance(client, instance)
    if offline:
        fields |= {"offline": True}
    elif sys.stdin.isatty():
        required = client.channel(agent["id"], channel)["required_fields"]
        fields |= _ask({name: what for name, what in required.items() if name not in fields})
    connection = client.connect_channel(agent["id"], channel, fields)
    if (image := connection["qr_image_base64"]) and (qr or not offline):
        path = qr or Path(f"{channel}.png")
        try:
            picture = b64decode(image, validate=True)
        except ValueError:
            message = "The server's QR code is not base64, so nobody can scan it. Connect again."
            raise click.ClickException(message) from None
        ensure_writable(path, yes=yes)
        path.write_bytes(picture)
        note(f"Scan the QR code in {path}.")
    show_result(connection, *connection["message"].split("\n"), output=output)


@channels.command("say")
@output_option
@instance_argument
@click.argument("channel")
@click.argument("text")
@click.option("--as", "person", default="Ada", show_default=True, help="Who says it.")
@click.option("--group", help="The group in which it is said.")
@click.option("--thread", help="The thread of the group.")
@click.option("--image", type=click.File("rb"), help="A picture to send along.")
@click.option("--approve", is_flag=True, help="Approve the person first.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the answer.")
@pass_client
def say_in(
    client: Client,
    output: Output,
    instance: str,
    channel: str,
    text: str,
    person: str,
    group: str | None,
    thread: str | None,
    image: BinaryIO | None,
    approve: bool,
    wait: bool,
) -> None:
    """Say something to the agent as a person, in a channel of the local messenger."""
    agent = find_instance(client, instance)
    picture = None if image is None else b64encode(image.read()).decode()
    result = client.say_in_channel(
        agent["id"], channel, person, text, group, thread, picture,
        approve=approve, wait_s=ANSWER_WAIT_S if wait else 0.0,
    )  # fmt: skip
    if output is Output.JSON:
        show_json(result)
    else:
        say_text("\n".join(each["text"] or "" for each in result["answers"]))
    if wait and not result["answers"]:
        note(f"{agent['name']} has not answered within {ANSWER_WAIT_S:g} s.")


@channels.command("inbox")
@output_option
@instance_argument
@click.argument("channel", required=False)
@click.option("-f", "--follow", is_flag=True, help="Print new messages as they come.")
@pass_client
def inbox(client: Client, output: Output, instance: str, channel: str | None, follow: bool) -> None:
    """Show what people and the agent have said in the local messenger.

    Without CHANNEL, in all channels.
    """
    agent = find_instance(client, instance)
    columns = MESSAGE_COLUMNS if channel else {"CHANNEL": "channel", **MESSAGE_COLUMNS}

    def read(after: int = 0, wait_s: float = 0.0) -> list[dict[str, Any]]:
        if channel is None:
            return client.all_channel_messages(agent["id"], after=after, wait_s=wait_s)
        return client.channel_messages(agent["id"], channel, after=after, wait_s=wait_s)

    messages = read()
    empty = f"Nobody has said anything in {channel or 'a channel'}."
    show_list(messages, columns, output=output, if_empty=empty)
    while follow:
        new = read(messages[-1]["id"] if messages else 0, POLL_S)
        messages = new or messages
        for each in new:
            place = "" if channel else f"{each['channel']}  "
            line = f"{format_time(each['at'])}  {place}{_who(each)}: {_what(each)}"
            show_result(each, line, output=output)


def _who(message: dict[str, Any]) -> str:
    who = "the agent" if message["author"] == "agent" else message["person"]
    return f"{who} in {message['group']}" if message["group"] else who


def _what(message: dict[str, Any]) -> str:
    # On one line.
    text = " ".join((message["text"] or message["image_type"] or "").split())
    return text if message["kind"] == "message" else f"({message['kind']}) {text}".rstrip()


MESSAGE_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {"AT": at("at"), "WHO": _who, "WHAT": _what}
)


def _ask(required: dict[str, str]) -> dict[str, str]:
    """What a person types for each field, without those that are left empty."""
    answers = {
        name: ask(f"{name} ({what})", default="", show_default=False, hide_input=True)
        for name, what in required.items()
    }
    return {name: answer for name, answer in answers.items() if answer}


def _describe_skill(skill: dict[str, Any]) -> list[str]:
    return [f"{member.capitalize():<12}{skill[member]}" for member in SKILL_MEMBERS]


def _says_what_it_needs(installed: dict[str, Any]) -> str:
    missing = sorted({*installed["required_env"]} - {*installed["env_applied"]})
    if not missing:
        return ""
    agent, names = installed["instance"]["name"], " ".join(f"-e {name}=…" for name in missing)
    return f"It needs: chowder-local skills set {agent} {installed['skill']} {names}"


# fmt: off
skills = noun("skills", "List, add, install and set up an agent's skills.", {
    "ls": Row("skills", "instance", "List an agent's skills.",
        options=(
            click.option("--ready", "eligible_only", is_flag=True,
                help="Only those that the agent can use now."),
        ),
        columns={
            "NAME": "name", "READY": "ready", "SOURCE": "source", "WHAT IT IS FOR": "description",
        }),
    "install": Row("install_skill", "instance slug",
        """Install a skill from ClawHub.

        SLUG is `slug`, `@owner/slug` or `skills-sh:owner/repository/slug`.
        """, options=(env_option("Environment variable for the skill."),), line="{message}",
        note=_says_what_it_needs),
    "show": Row("skill", "instance skill", "Show a skill and its path in the sandbox.",
        line=_describe_skill),
})
# fmt: on


@skills.command("add")
@output_option
@instance_argument
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@pass_client
def add_skill(client: Client, output: Output, instance: str, folder: Path) -> None:
    """Add a skill of your own: a folder of this machine with a SKILL.md.

    Its files replace those of the same names in workspace/skills/ of the agent, and the agent can
    use it at once.
    """
    if not (folder / "SKILL.md").is_file():
        raise click.UsageError(f"{folder} should be a folder with a SKILL.md in it.")
    instance_id = find_instance(client, instance)["id"]
    path = f"workspace/skills/{folder.resolve().name}"
    put_folder(client, instance_id, folder, path)
    # SKILL.md may give it another name than its folder has.
    own = [each["name"] for each in client.skills(instance_id) if "workspace" in each["source"]]
    views = (client.skill(instance_id, name) for name in own)
    view = next((each for each in views if each["path"].endswith(f"/{path}/SKILL.md")), None)
    if view is None:
        raise click.ClickException(
            f"The files are in {path}, but OpenClaw does not list the skill. Begin SKILL.md with "
            "--- and the lines 'name: …', 'description: …' and ---."
        )
    show_result(view, *_describe_skill(view), output=output)


@skills.command("set")
@instance_argument
@click.argument("skill")
@click.option("--enable/--disable", "enabled", default=None, help="Whether the agent uses it.")
@click.option(
    "--api-key",
    metavar="KEY",
    callback=lambda context, parameter, text: (
        None if text is None else secrets(context, parameter, (f"key={text}",))["key"]
    ),
    help="Value of its one main variable; @FILE and @- as above, an empty text removes it.",
)
@env_option("Environment variable; an empty value removes it.")
@click.option(
    "-c",
    "--config",
    multiple=True,
    metavar="NAME=VALUE",
    callback=settings,
    help="A setting of its own; VALUE is JSON, or else a string. Repeatable.",
)
@pass_client
def set_skill(
    client: Client,
    instance: str,
    skill: str,
    enabled: bool | None,
    api_key: str | None,
    env: dict[str, str],
    config: dict[str, Any],
) -> None:
    """Enable, disable or set up a skill; settings are merged with the present ones."""
    given = {"enabled": enabled, "apiKey": api_key, "env": env or None, "config": config or None}
    change = {name: value for name, value in given.items() if value is not None}
    if not change:
        raise click.UsageError("Give at least one of --enable, --disable, --api-key, -e and -c.")
    client.change_skill(find_instance(client, instance)["id"], skill, **change)
    say(f"{skill} is changed.")
