"""Finds an instance, key, fault or snapshot by its id, the beginning of its id, or its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.output import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chowder_local.client import Client

SHORT_ID_LENGTH = 8


def short_id(resource: dict[str, Any]) -> str:
    return str(resource["id"])[:SHORT_ID_LENGTH]


def find_instance(client: Client, reference: str) -> dict[str, Any]:
    """An instance. Raises click.ClickException if no instance or several match."""
    return choose_instance(client.instances(), reference)


def find_instance_id(client: Client, reference: str | None) -> str | None:
    """The id of an instance; None if `reference` is None."""
    return None if reference is None else str(find_instance(client, reference)["id"])


def choose_instance(instances: Sequence[dict[str, Any]], reference: str) -> dict[str, Any]:
    """Chooses by id, then by name, then by the beginning of an id."""
    return _choose(instances, reference, "instance")


def find_key(client: Client, reference: str) -> dict[str, Any]:
    """A scoped key; an active one wins over those that are revoked or expired.

    Raises click.ClickException if no key or several match.
    """
    keys = client.keys()
    active = [each for each in keys if each["is_active"] or each["id"] == reference]
    return _choose(active if any(_matches(active, reference)) else keys, reference, "key")


def find_fault(client: Client, reference: str) -> dict[str, Any]:
    """A fault, by id or kind. Raises click.ClickException if no fault or several match."""
    named = [{**each, "name": each["kind"]} for each in client.faults()]
    return _choose(named, reference, "fault")


def find_snapshot(client: Client, reference: str, instance_id: str | None = None) -> dict[str, Any]:
    """A snapshot; one of the instance wins over those of other instances.

    Raises click.ClickException if no snapshot or several match.
    """
    snapshots = client.snapshots()
    own = [each for each in snapshots if each["instance_id"] == instance_id]
    candidates = own if any(_matches(own, reference)) else snapshots
    return _choose(candidates, reference, "snapshot", describe_snapshot)


def describe_snapshot(snapshot: dict[str, Any]) -> str:
    """The id and time of a snapshot, to tell snapshots of one name apart."""
    return f"{snapshot['id']}, of {format_time(snapshot['created_at'])}"


def _matches(resources: Sequence[dict[str, Any]], reference: str) -> Iterator[list[dict[str, Any]]]:
    """The matches by id, then those by name, then those by the beginning of an id."""
    yield [each for each in resources if each["id"] == reference]
    yield [each for each in resources if each["name"] == reference]
    yield [each for each in resources if reference and each["id"].startswith(reference.lower())]


def _choose(
    resources: Sequence[dict[str, Any]],
    reference: str,
    kind: str,
    describe: Callable[[dict[str, Any]], str] = lambda each: f"{each['id']} ({each['name']})",
) -> dict[str, Any]:
    for matches in _matches(resources, reference):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = "; ".join(map(describe, matches))
            raise click.ClickException(
                f"{reference!r} matches several: {several}. Give more of the id."
            )
    raise click.ClickException(
        f"No {kind} is called {reference!r}, by name or id. '{kind}s ls' lists them all."
    )
