"""The command `notes`."""

from typing import Any

from chowder_local.cli.commands import Row, noun
from chowder_local.client import Client


def _list(client: Client, instance_id: str) -> list[dict[str, Any]]:
    return list(client.request("GET", f"/local/instances/{instance_id}/notes"))


def _add(client: Client, instance_id: str, text: str) -> Any:
    return client.request("POST", f"/local/instances/{instance_id}/notes", json={"text": text})


notes = noun("notes", "List and add notes about agents.", {
    "ls": Row(_list, "instance", "List the notes about an agent.",
        columns={"AT": "at", "NOTE": "text"}),
    "add": Row(_add, "instance text", "Add a note about an agent.", line="Note {id} is added."),
})  # fmt: skip
