"""`instances`: creates, shows, changes and removes agents."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from chowder_local.cli.agent_contents import save
from chowder_local.cli.commands import (
    Row,
    call_for_status,
    change_status,
    choose_instance,
    find_instance,
    instance_argument,
    noun,
    short_id,
    show_created,
    show_status,
    wait_until_running,
)
from chowder_local.cli.context import pass_client
from chowder_local.cli.options import (
    WAIT_TIMEOUT_S,
    complete_instance,
    confirm,
    ensure_writable,
    jobs_option,
    openclaw_option,
    output_option,
    settings,
    timeout_option,
    wait_option,
    yes_option,
)
from chowder_local.cli.output import (
    Output,
    at,
    note,
    note_text,
    say,
    say_bytes,
    show_json,
    show_list,
    show_result,
    waiting,
)
from chowder_local.cli.snapshots import upgrade
from chowder_local.core.domain import Egress, InstanceStatus, ModelProvider
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from chowder_local.client import Client

EXPORT_SUFFIX = ".chowder.tar"


def _status(instance: dict[str, Any]) -> str:
    """Its status; a running instance without an address is not in memory."""
    is_hibernated = instance["status"] == InstanceStatus.RUNNING and not instance["gateway_url"]
    return "running (hibernated)" if is_hibernated else str(instance["status"])


def _describe_gateway(view: dict[str, Any]) -> list[str]:
    url = view["gateway_url"] or "none while it is not running"
    return [f"URL    {url}", f"Token  {view['token']}"]


def _hibernation(client: Client, instance_id: str, choice: str | None) -> dict[str, Any]:
    if choice is None:
        return client.instance_settings(instance_id)
    return client.set_hibernation(instance_id, choice == "on")


def _describe_hibernation(view: dict[str, Any]) -> str:
    line = f"{view['instance']['name']}: hibernation {'on' if view['hibernate'] else 'off'}"
    if view["status"] != InstanceStatus.RUNNING:
        return line
    return f"{line}; it {'hibernates now' if view['is_hibernated'] else 'is in memory'}"


# fmt: off
instances = noun("instances", """List, create, copy, stop, start and remove agents.

    INSTANCE is an instance's name, its id, or the beginning of its id.
    """, {
    "show": Row("instance", "instance", "Print an instance with all its members, as JSON."),
    "gateway": Row("gateway", "instance",
        "Print the address and the token of an agent's own OpenClaw gateway.",
        line=_describe_gateway),
    "hibernation": Row(_hibernation, "instance",
        """Show or choose whether an agent may leave memory while nobody uses it.

        It goes on running then, and its next message or call brings it back. With "off" it
        stays in memory.
        """, options=(click.argument("choice", type=click.Choice(["on", "off"]), required=False),),
        line=_describe_hibernation),
    "fork": Row("fork", "instance name",
        """Create an agent as an independent copy of INSTANCE, as it is now.

        Its scheduled jobs are switched off, unless --jobs on lets it do the same work as well.
        """, options=(jobs_option,), is_created=True),
})
# fmt: on
instances.add_command(upgrade)


@instances.command("ls")
@output_option
@pass_client
def ls(client: Client, output: Output) -> None:
    """List all instances."""
    rows = client.instances()
    wide = {
        "WHOLE ID": "id",
        "OPENCLAW": "openclaw_version",
        "GATEWAY": "gateway_url",
        "UPDATED": "updated_at",
    }
    if output is Output.WIDE and client.health()["nodes"]:
        rows = [{**each, "node": client.instance_settings(each["id"])["node"]} for each in rows]
        wide["NODE"] = "node"
    show_list(
        rows,
        {
            "ID": short_id,
            "NAME": "name",
            "STATUS": _status,
            "MODELS": "model_provider",
            "CREATED": at("created_at"),
        },
        output=output,
        wide=wide,
        if_empty="There are no instances. Create one with: chowder-local instances create NAME",
    )
    for each in rows:
        if each.get("error_message") and output is not Output.JSON:
            note_text(f"{visible_line(each['name'])}: {each['error_message']}")


@instances.command("create")
@output_option
@click.argument("name")
@click.option(
    "--provider",
    type=click.Choice([str(provider) for provider in ModelProvider]),
    default=str(ModelProvider.ANTHROPIC),
    show_default=True,
    help="Provider of the agent's default model.",
)
@click.option(
    "--config",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    callback=settings,
    help="Override of OpenClaw's configuration; VALUE is JSON, or else a string. Repeatable.",
)
@openclaw_option
@wait_option
@timeout_option
@pass_client
def create(
    client: Client,
    output: Output,
    name: str,
    provider: str,
    overrides: dict[str, Any],
    version: str | None,
    wait: bool,
    timeout: float,
) -> None:
    """Create an instance, wait until it is running, and print its id.

    Progress goes to standard error, so $(…) gets the id alone.
    """
    instance = client.create_instance(name, provider, overrides or None, openclaw_version=version)
    show_created(client, instance, output=output, wait=wait, timeout=timeout)


@instances.command("wait")
@output_option
@instance_argument
@timeout_option
@pass_client
def wait_for(client: Client, output: Output, instance: str, timeout: float) -> None:
    """Wait until an instance is running.

    Exit codes: 8 if it gets into an error or is stopped, 9 if it is not running in time.
    """
    agent = wait_until_running(client, find_instance(client, instance), timeout)
    show_status(agent, output)


@instances.command("rm")
@click.argument("instance", nargs=-1, required=True, shell_complete=complete_instance)
@yes_option
@pass_client
def rm(client: Client, instance: tuple[str, ...], yes: bool) -> None:
    """Remove instances with their files and conversations, after asking."""
    listed = client.instances()
    found = [choose_instance(listed, each) for each in instance]
    agents = {each["id"]: each for each in found}.values()
    names = ", ".join(f"{each['name']} ({each['id']})" for each in agents)
    confirm(f"Remove {names} and all their data?", yes=yes)
    for each in agents:
        client.delete(each["id"])
        note(f"{each['name']} is removed.")


@instances.command("stop")
@output_option
@instance_argument
@pass_client
def stop(client: Client, output: Output, instance: str) -> None:
    """Stop a running instance; its memory, files and conversations are kept.

    A stopped instance is left alone.
    """
    agent = find_instance(client, instance)
    change_status(client, agent, client.stop, InstanceStatus.STOPPED, output=output)


@instances.command("start")
@output_option
@instance_argument
@pass_client
def start(client: Client, output: Output, instance: str) -> None:
    """Start a stopped instance; a running one is left alone."""
    agent = find_instance(client, instance)
    change_status(client, agent, client.start, InstanceStatus.RUNNING, output=output)


@instances.command("restart")
@output_option
@instance_argument
@pass_client
def restart(client: Client, output: Output, instance: str) -> None:
    """Stop an instance, if it runs, and start it."""
    agent = find_instance(client, instance)
    call_for_status(client, agent, client.stop, InstanceStatus.STOPPED)
    change_status(client, agent, client.start, InstanceStatus.RUNNING, output=output)


@instances.command("configure")
@output_option
@instance_argument
@click.argument("overrides", nargs=-1, metavar="[PATH=VALUE]...", callback=settings)
@click.option("--name", help="Another name for the instance.")
@pass_client
def configure(
    client: Client, output: Output, instance: str, overrides: dict[str, Any], name: str | None
) -> None:
    """Change OpenClaw's configuration of a running instance, or the instance's name.

    VALUE is JSON, or else a string; null removes an override. Without an argument, the present
    overrides are printed.
    """
    agent = find_instance(client, instance)
    if overrides or name:
        agent = client.configure(agent["id"], overrides or None, name)
    view = agent["openclaw_config"]
    lines = [f"{path}={json.dumps(value)}" for path, value in sorted((view or {}).items())]
    show_result(view, *(lines or ["There are no overrides."]), output=output)


@instances.command("egress")
@output_option
@instance_argument
@click.argument("choice", type=click.Choice([*map(str, Egress), "default"]), required=False)
@wait_option
@pass_client
def egress(client: Client, output: Output, instance: str, choice: str | None, wait: bool) -> None:
    """Show or choose whether an agent reaches other networks.

    With "off" it reaches only its model; "default" stands for the server's setting
    (CHOWDER_EGRESS). If the choice changes what is in force, a running agent gets a new sandbox:
    files and conversations are kept, running programs end.
    """
    agent = find_instance(client, instance)
    if choice is None:
        view = client.instance_settings(agent["id"])
    else:
        view = client.set_egress(agent["id"], None if choice == "default" else choice)
    if choice is not None and wait and view["status"] == "provisioning":
        with waiting(f"{agent['name']} gets a new sandbox"):
            view |= {"status": client.wait_until_running(view["id"])["status"]}
    origin = "the server's setting" if view["egress"] is None else "the agent's own setting"
    line = f"{agent['name']}: egress {view['egress_in_force']} ({origin})"
    show_result(view, line, output=output)


@instances.command("export")
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.argument("target", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--all", "is_all", is_flag=True, help="All agents, each to a file in the folder.")
@yes_option
@pass_client
def export(
    client: Client, instance: str | None, target: Path | None, is_all: bool, yes: bool
) -> None:
    """Write an agent to TARGET ("-" is standard output), for another machine.

    The file has the agent's conversations and files, but no credentials: no keys, tokens, channels
    or other secrets of its configuration. TARGET is NAME.chowder.tar in the current folder by
    default. It asks before it overwrites a file. With --all, the only argument is a folder, by
    default the current one, which is made if it is missing.
    """
    if (is_all and target is not None) or not (is_all or instance):
        raise click.UsageError("Give INSTANCE [TARGET], or --all [FOLDER].")
    if is_all:
        _export_all(client, Path(instance or "."), yes=yes)
        return
    agent = find_instance(client, instance or "")
    path = Path(_export_name(agent["name"])) if target is None else target
    if str(path) != "-":
        ensure_writable(path, yes=yes)
        _export(client, agent, path)
        return
    with closing(client.export(agent["id"])) as chunks:
        say_bytes(chunks)


def _export_all(client: Client, folder: Path, *, yes: bool) -> None:
    agents: dict[str, dict[str, Any]] = {}
    for agent in client.instances():
        name = _export_name(agent["name"])
        # Some file systems do not distinguish capital letters.
        is_taken = name.lower() in map(str.lower, agents)
        agents[_export_name(f"{agent['name']}-{short_id(agent)}") if is_taken else name] = agent
    folder.mkdir(parents=True, exist_ok=True)
    if old := [name for name in agents if (folder / name).exists()]:
        confirm(f"{folder} has {', '.join(old)}. Overwrite?", yes=yes)
    with _each_failure_reported() as attempt:
        for name, agent in agents.items():
            with attempt(agent["name"]):
                _export(client, agent, folder / name)
    if not agents:
        note("There are no instances.")


def _export(client: Client, agent: dict[str, Any], path: Path) -> None:
    with closing(client.export(agent["id"])) as chunks:
        # Other users must not read the conversations.
        save(chunks, path, mode=0o600)
    note(f"{agent['name']} is exported to {path}.")


@instances.command("import")
@output_option
@click.argument("source", type=click.Path(exists=True, path_type=Path, allow_dash=True))
@click.argument("name", required=False)
@click.option("--all", "is_all", is_flag=True, help="SOURCE is a folder of such files.")
@jobs_option
@wait_option
@pass_client
def import_(
    client: Client,
    output: Output,
    source: Path,
    name: str | None,
    is_all: bool,
    jobs: str,
    wait: bool,
) -> None:
    """Create an agent from a file that `export` wrote ("-" is standard input).

    The agent has a new id. With --all, an agent is created from each file *.chowder.tar of the
    folder SOURCE, and its id is printed with its name.
    """
    if is_all is not source.is_dir() or (is_all and name):
        raise click.UsageError("Give a file and perhaps a NAME, or --all and a folder.")
    if is_all:
        _import_all(client, source, jobs, output=output, wait=wait)
        return
    with click.open_file(str(source), "rb") as file:
        instance = client.import_instance(cast("BinaryIO", file), name, jobs)
    show_created(client, instance, output=output, wait=wait)


def _import_all(client: Client, folder: Path, jobs: str, *, output: Output, wait: bool) -> None:
    files = sorted(folder.glob(f"*{EXPORT_SUFFIX}"))
    if not files:
        raise click.ClickException(f"{folder} has no files *{EXPORT_SUFFIX}.")
    created = []
    with _each_failure_reported() as attempt:
        for path in files:
            with attempt(path.name), path.open("rb") as file:
                created.append(client.import_instance(file, jobs=jobs))
                if output is not Output.JSON:
                    say(f"{created[-1]['id']}  {created[-1]['name']}")
        for number, agent in enumerate(created if wait else ()):
            with attempt(agent["name"]):
                created[number] = wait_until_running(client, agent, WAIT_TIMEOUT_S)
        if output is Output.JSON:
            show_json(created)
        note("Their ids are new: give them to clients and scoped keys that have the former ones.")


@contextmanager
def _each_failure_reported() -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """Yields a function for attempts: one that fails does not end the others.

    Raises ClickException at the end if any failed.
    """
    failed = []

    @contextmanager
    def attempt(name: str) -> Iterator[None]:
        try:
            yield
        except ApiRefused as refused:
            failed.append(name)
            note_text(f"{visible_line(name)}: {refused}")
        except BootFailed as late:
            failed.append(name)
            # The message has the instance's name.
            note_text(str(late))

    yield attempt
    if failed:
        raise click.ClickException(f"Not done: {', '.join(failed)}.")


def _export_name(name: str) -> str:
    file_name = "".join(each if each.isalnum() or each in "-_. " else "_" for each in name)
    return f"{file_name.lstrip('.')}{EXPORT_SUFFIX}"
