"""Which instance, key, fault or snapshot a person means by an id, its beginning, or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.output import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chowder_local.client import Client

SHOWN_ID_LENGTH = 8


def short_id(resource: dict[str, Any]) -> str:
    return str(resource["id"])[:SHOWN_ID_LENGTH]


def find_instance(client: Client, wanted: str) -> dict[str, Any]:
    """The one instance meant by `wanted`. Raises click.ClickException if it is none or several."""
    return choose_instance(client.instances(), wanted)


def find_instance_id(client: Client, wanted: str | None) -> str | None:
    """The id of the one instance meant, or None if none is named."""
    return None if wanted is None else str(find_instance(client, wanted)["id"])


def choose_instance(instances: Sequence[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """A whole id wins over a name, and a name over the beginning of an id."""
    return _choose(instances, wanted, "instance")


def find_key(client: Client, wanted: str) -> dict[str, Any]:
    """The one scoped key meant by `wanted`. Raises click.ClickException if it is none or several.

    A revoked or expired one is meant only if no active one can be.
    """
    found = client.keys()
    active = [each for each in found if each["is_active"] or each["id"] == wanted]
    return _choose(active if any(_matches(active, wanted)) else found, wanted, "key")


def find_fault(client: Client, wanted: str) -> dict[str, Any]:
    """The one fault meant by `wanted`. Raises click.ClickException if it is none or several."""
    named = [{**each, "name": each["kind"]} for each in client.faults()]
    return _choose(named, wanted, "fault")


def find_snapshot(client: Client, wanted: str, instance_id: str | None = None) -> dict[str, Any]:
    """The one snapshot meant by `wanted`. Raises click.ClickException if it is none or several.

    Those of the instance win, if one is given.
    """
    found = client.snapshots()
    own = [each for each in found if each["instance_id"] == instance_id]
    chosen = own if any(_matches(own, wanted)) else found
    return _choose(chosen, wanted, "snapshot", describe_snapshot)


def describe_snapshot(snapshot: dict[str, Any]) -> str:
    """What tells snapshots of one name apart."""
    return f"{snapshot['id']}, of {format_time(snapshot['created_at'])}"


def _matches(found: Sequence[dict[str, Any]], wanted: str) -> Iterator[list[dict[str, Any]]]:
    """Those that may be meant, the likeliest kind first."""
    yield [each for each in found if each["id"] == wanted]
    yield [each for each in found if each["name"] == wanted]
    yield [each for each in found if wanted and each["id"].startswith(wanted.lower())]


def _choose(
    found: Sequence[dict[str, Any]],
    wanted: str,
    kind: str,
    describe: Callable[[dict[str, Any]], str] = lambda each: f"{each['id']} ({each['name']})",
) -> dict[str, Any]:
    for matches in _matches(found, wanted):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = "; ".join(map(describe, matches))
            raise click.ClickException(f"{wanted!r} may be any of {several}: give more of the id.")
    raise click.ClickException(
        f"No {kind} is called {wanted!r}, by name or id. '{kind}s ls' shows all there are."
    )
