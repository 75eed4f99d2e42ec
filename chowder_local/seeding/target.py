"""A server that is seeded: a client for each organization of the file, and what is there."""

from __future__ import annotations

import io
from contextlib import ExitStack, closing
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.client import Client
from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.process import ApiRefused
from chowder_local.openclaw.config import agent_config
from chowder_local.seeding import marker
from chowder_local.seeding.memory import KeptOrganization, Memory
from chowder_local.seeding.plan import FoundInstance, FoundKey, FoundOrganization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from chowder_local.seeding.desired_state import WantedInstance, WantedOrganization
    from chowder_local.seeding.source_locations import SourceLocations

    Json = dict[str, Any]

BOOT_TIMEOUT_S = 600.0
"""Agents of a file boot two at a time, and the last of them waits for all others."""


class Server:
    """Use it as a context manager: agents that it had to wake sleep again at its end."""

    def __init__(
        self,
        base_url: str,
        default_key: str,
        memory: Memory,
        say: Callable[[str], None],
        *,
        told_url: str,
        removal: Callable[[str, str], str],
    ) -> None:
        """`told_url` is what clients are told.

        `removal` gives a command that removes an organization's agent, by its id.
        """
        self.base_url = base_url
        self.told_url = told_url
        self.removal = removal
        self.memory = memory
        self._default_key = default_key
        self._say = say
        self._clients: dict[str, Client] = {}
        self._closing = ExitStack()
        self._ids: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def client(self, organization: str) -> Client:
        """The client of an organization that is there."""
        return self._clients[organization]

    def connect(self, organization: str, key: str) -> Client:
        """Calls with that key from now on."""
        client = self._closing.enter_context(Client(self.base_url, key))
        self._clients[organization] = client
        return client

    def sign_up(self, organization: str) -> None:
        """Makes an organization, and remembers its key before anything else is done."""
        with Client(self.base_url) as client:
            made = client.signup(organization)
        key = made["api_key"]
        kept = KeptOrganization(id=made["organization"]["id"], key=key)
        self.memory.organizations[organization] = kept
        self.memory.write()
        self.connect(organization, key)

    def instance_id(self, organization: str, name: str) -> str:
        """The id of an agent of the file."""
        return self._ids[organization, name]

    def note_instance(self, organization: str, name: str, instance_id: str) -> None:
        """An agent of the file is there."""
        self._ids[organization, name] = instance_id

    def key(self, organization: str) -> str:
        """The key of an organization that is there."""
        return self.memory.organizations[organization].key or self._default_key

    def started_at(self) -> str:
        """Which life of the server this is."""
        with Client(self.base_url) as client:
            return str(client.health()["started_at"])

    def look(
        self, wanted: Iterable[WantedOrganization], places: SourceLocations
    ) -> dict[str, FoundOrganization]:
        """What there is of what is wanted. Raises SettingsInvalid for what is in its way."""
        found = {}
        for each in wanted:
            kept = self._kept(each.name)
            if kept is not None:
                found[each.name] = self._organization(each, kept, places)
        return found

    def _kept(self, name: str) -> KeptOrganization | None:
        """What is remembered of an organization, if that still is there."""
        kept = self.memory.organizations.get(name)
        key = self._default_key if name == DEFAULT else kept and kept.key
        if not key:
            return None
        client = self.connect(name, key)
        try:
            organization_id = client.organization()["id"]
        except ApiRefused as refused:
            if name == DEFAULT or refused.status != HTTPStatus.UNAUTHORIZED:
                raise
            # The server's data is another by now.
            del self._clients[name], self.memory.organizations[name]
            return None
        if kept is None or kept.id != organization_id:
            kept = KeptOrganization(id=organization_id, key=None if name == DEFAULT else key)
            self.memory.organizations[name] = kept
        return kept

    def _organization(
        self, wanted: WantedOrganization, kept: KeptOrganization, places: SourceLocations
    ) -> FoundOrganization:
        client = self.client(wanted.name)
        known = client.organization()
        listed = client.instances()
        # What `up` may have set since then is to be set again.
        is_set = wanted.name != DEFAULT or kept.started_at == self.started_at()
        return FoundOrganization(
            Tier(known["subscription_tier"]),
            {
                provider: digest
                for provider, digest in kept.model_keys.items()
                if is_set and provider in known["model_providers"]
            },
            {
                each.name: self._instance(wanted.name, each, one, places)
                for each in wanted.instances
                if (one := _only(listed, each, places)) is not None
            },
            _keys(client, kept),
        )

    def _instance(
        self, organization: str, wanted: WantedInstance, there: Json, places: SourceLocations
    ) -> FoundInstance:
        client, instance_id = self.client(organization), there["id"]
        self.note_instance(organization, wanted.name, instance_id)
        if there["status"] == "error":
            places.wrong(
                wanted.way,
                f"{wanted.name} is in error: {there['error_message']} Remove it, and seed again: "
                f"{self.removal(organization, instance_id)}",
            )
        files: dict[str, str] = {}
        sent: marker.Sent = {}
        if wanted.files or wanted.sessions:
            self.ensure_running(organization, wanted.name)
            files = self._files(client, instance_id, wanted, places)
        if wanted.sessions:
            try:
                sent = marker.read(content_of(client, instance_id, marker.PATH))
            except ValueError as spoilt:
                places.wrong(
                    (*wanted.way, "sessions"),
                    f"{wanted.name}: {spoilt}. It tells what was sent; remove the file, and all "
                    "messages are sent again.",
                )
        return FoundInstance(
            instance_id,
            ModelProvider(there["model_provider"]),
            agent_config.to_merge_patch(there["openclaw_config"] or {}),
            files,
            sent,
        )

    def _files(
        self, client: Client, instance_id: str, wanted: WantedInstance, places: SourceLocations
    ) -> dict[str, str]:
        found = {}
        for path in wanted.files:
            try:
                digest = digest_of(client, instance_id, path)
            except ApiRefused as refused:
                places.wrong(wanted.ways[path], f"{wanted.name}: {refused}")
            if digest is not None:
                found[path] = digest
        return found

    def ensure_running(self, organization: str, name: str) -> None:
        """Waits for an agent that boots; one that is stopped is woken until the end."""
        client, instance_id = self.client(organization), self.instance_id(organization, name)
        status = client.status(instance_id)["status"]
        if status == "stopped":
            client.start(instance_id)
            self._closing.callback(client.stop, instance_id)
        elif status != "running":
            client.wait_until_running(
                instance_id, BOOT_TIMEOUT_S, on_status=lambda now: self._say(f"{name} is {now}")
            )


def content_of(client: Client, instance_id: str, path: str) -> bytes | None:
    """A file's content; None if there is no such file."""
    try:
        with closing(client.download(instance_id, path)) as chunks:
            return b"".join(chunks)
    except ApiRefused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def write(client: Client, instance_id: str, path: str, content: bytes) -> None:
    """Makes or replaces a file."""
    file = io.BytesIO(content)
    # What is uploaded has a name, which counts only where the path is a folder's.
    file.name = path.rsplit("/", 1)[-1]
    client.upload(instance_id, path, file)


def digest_of(client: Client, instance_id: str, path: str) -> str | None:
    """What tells a file's content apart; None if there is none. Raises ApiRefused for a folder."""
    taken = sha256()
    try:
        with closing(client.download(instance_id, path)) as chunks:
            for chunk in chunks:
                taken.update(chunk)
    except ApiRefused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return taken.hexdigest()


def _only(listed: list[Json], wanted: WantedInstance, places: SourceLocations) -> Json | None:
    named = [each for each in listed if each["name"] == wanted.name]
    if len(named) > 1:
        ids = ", ".join(each["id"] for each in named)
        places.wrong(
            (*wanted.way, "name"),
            f"There are several agents called {wanted.name} ({ids}). Rename or remove all but one.",
        )
    return named[0] if named else None


def _keys(client: Client, kept: KeptOrganization) -> Mapping[str, FoundKey]:
    """Those that were made by a seeding: others of the same name are somebody else's."""
    listed = client.keys()
    good = {each["id"]: each for each in listed if each["is_active"]}
    return {
        name: FoundKey(
            each.id,
            {
                grant["instance_id"]: frozenset(map(Permission, grant["permissions"]))
                for grant in client.key(each.id)["instances"]
            },
            _moment(good[each.id]["expires_at"]),
        )
        for name, each in kept.keys.items()
        if each.id in good
    }


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)
