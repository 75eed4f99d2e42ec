"""Which instance or key a person means by an id, the beginning of one, or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.client import Client

SHOWN_ID_LENGTH = 8


def find_instance(client: Client, wanted: str) -> dict[str, Any]:
    """The one instance meant by `wanted`. Raises click.ClickException if it is none or several."""
    return choose_instance(client.instances(), wanted)


def choose_instance(instances: Sequence[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """A whole id wins over a name, and a name over the beginning of an id."""
    return _choose(instances, wanted, "instance")


def find_key(client: Client, wanted: str) -> dict[str, Any]:
    """The one scoped key meant by `wanted`. Raises click.ClickException if it is none or several.

    A revoked or expired one, whose name another may have by now, is meant by its whole id only.
    """
    found = client.keys()
    meant = [each for each in found if each["is_active"] or each["id"] == wanted]
    return _choose(meant, wanted, "key")


def find_fault(client: Client, wanted: str) -> dict[str, Any]:
    """The one fault meant by `wanted`. Raises click.ClickException if it is none or several."""
    named = [{**each, "name": each["kind"]} for each in client.faults()]
    return _choose(named, wanted, "fault")


def find_snapshot(client: Client, wanted: str) -> dict[str, Any]:
    """The one snapshot meant by `wanted`. Raises click.ClickException if it is none or several."""
    return _choose(client.snapshots(), wanted, "snapshot")


def _choose(found: Sequence[dict[str, Any]], wanted: str, kind: str) -> dict[str, Any]:
    for matches in (
        [each for each in found if each["id"] == wanted],
        [each for each in found if each["name"] == wanted],
        [each for each in found if wanted and each["id"].startswith(wanted.lower())],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = ", ".join(f"{each['id']} ({each['name']})" for each in matches)
            raise click.ClickException(f"{wanted!r} may be any of {several}: give more of the id.")
    raise click.ClickException(
        f"No {kind} is called {wanted!r}, by name or id. '{kind}s ls' shows all there are."
    )
