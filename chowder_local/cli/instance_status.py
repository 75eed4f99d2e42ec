"""Waits for, changes and prints the status of an instance."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.cli.options import WAIT_TIMEOUT_S
from chowder_local.cli.output import Output, note, say, show_json, waiting
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed, BootTimedOut
from chowder_local.core.wording import MOMENT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.client import Client


def show_created(
    client: Client,
    instance: dict[str, Any],
    *,
    output: Output,
    wait: bool,
    timeout: float = WAIT_TIMEOUT_S,
) -> None:
    """Prints a new instance, after waiting until it runs if `wait`.

    The id is printed before the wait, because the wait may fail or be interrupted.
    """
    if output is not Output.JSON:
        say(instance["id"])
    if wait:
        instance = wait_until_running(client, instance, timeout)
    if output is Output.JSON:
        show_json(instance)


def wait_until_running(client: Client, agent: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The instance once it is running.

    Raises BootFailed if it fails or is stopped, and BootTimedOut if it is late; the message says
    what to do next.
    """
    name, instance_id = agent["name"], agent["id"]

    def describe(status: str) -> str:
        boots = " (without a warm sandbox, OpenClaw boots now)"
        return f"{name} is {status}{boots if status == InstanceStatus.PROVISIONING else ''}"

    try:
        with waiting(describe(agent["status"]), after_s=MOMENT_S) as update:
            return client.wait_until_running(
                instance_id, timeout, on_status=lambda status: update(describe(status))
            )
    except KeyboardInterrupt:
        note(
            f"{name} continues to boot. Wait for it with: chowder-local instances wait "
            f"{instance_id}\nRemove it with: chowder-local instances rm {instance_id}"
        )
        raise
    except BootTimedOut as late:
        cure = f"It continues to boot. Wait for it with: chowder-local instances wait {instance_id}"
        raise BootTimedOut(f"{name}: {late}\n{cure}") from None
    except BootFailed as failed:
        cure = f"\nSee its log with: chowder-local logs {instance_id}"
        if client.status(instance_id)["status"] == InstanceStatus.STOPPED:
            cure = f"\nStart it with: chowder-local instances start {instance_id}"
        elif "chowder-local" in str(failed):
            # The message already says what to do.
            cure = ""
        raise BootFailed(f"{name}: {failed}{cure}") from None


def change_status(
    client: Client,
    agent: dict[str, Any],
    call: Callable[[str], dict[str, Any]],
    status: InstanceStatus,
    *,
    output: Output,
) -> None:
    """Starts or stops an instance and prints its status, even if it has that status already."""
    now, is_changed = call_for_status(client, agent, call, status)
    show_status(now, output, "" if is_changed else " already")


def call_for_status(
    client: Client,
    agent: dict[str, Any],
    call: Callable[[str], dict[str, Any]],
    status: InstanceStatus,
) -> tuple[dict[str, Any], bool]:
    """The instance with the status, and whether the call was needed for that."""
    try:
        return call(agent["id"]), True
    except ApiRefused as refused:
        if refused.status != HTTPStatus.CONFLICT:
            raise
        now = client.instance(agent["id"])
        if now["status"] != status:
            raise
        return now, False


def show_status(instance: dict[str, Any], output: Output, already: str = "") -> None:
    if output is Output.JSON:
        show_json(instance)
    else:
        note(f"{instance['name']} is {instance['status']}{already}.")
