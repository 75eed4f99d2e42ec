"""The server that is seeded: a client for each organization of the file, and what is there."""

from __future__ import annotations

import io
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.client import Client
from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.process import ApiRefused
from chowder_local.openclaw.config import agent_config
from chowder_local.seeding import marker
from chowder_local.seeding.current_state import CurrentInstance, CurrentKey, CurrentOrganization
from chowder_local.seeding.memory import KeptOrganization, Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization
    from chowder_local.seeding.source_locations import SourceLocations

    Json = dict[str, Any]

BOOT_TIMEOUT_S = 600.0
"""Agents of a file boot two at a time, and the last of them waits for all others."""


@dataclass(frozen=True)
class Agent:
    """An agent whose files can be read and written, since it runs."""

    client: Client
    instance_id: str

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        chunks: list[bytes] = []
        return b"".join(chunks) if self._download(path, chunks.append) else None

    def digest_of(self, path: str) -> str | None:
        """A file's digest; None if there is no such file. Raises ApiRefused for a folder."""
        taken = sha256()
        return taken.hexdigest() if self._download(path, taken.update) else None

    def write(self, path: str, content: bytes) -> None:
        file = io.BytesIO(content)
        # What is uploaded has a name, which counts only where the path is a folder's.
        file.name = path.rsplit("/", 1)[-1]
        self.client.upload(self.instance_id, path, file)

    def _download(self, path: str, receive: Callable[[bytes], None]) -> bool:
        try:
            with closing(self.client.download(self.instance_id, path)) as chunks:
                for chunk in chunks:
                    receive(chunk)
        except ApiRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True


class SeedTarget(ExitStack):
    """Use it as a context manager: agents that it had to wake are stopped again at its end."""

    def __init__(
        self,
        base_url: str,
        default_key: str,
        memory: Memory,
        report: Callable[[str], None],
        *,
        public_url: str,
        removal: Callable[[str, str], str],
    ) -> None:
        """`public_url` is where clients find the server, with `/v1`.

        `removal` gives a command that removes an organization's agent, by its id.
        """
        super().__init__()
        self.public_url = public_url
        self.removal = removal
        self.memory = memory
        self._base_url = base_url
        self._default_key = default_key
        self._report = report
        self._clients: dict[str, Client] = {}
        self._ids: dict[tuple[str, str], str] = {}

    def client(self, organization: str) -> Client:
        """The client of an organization that is there."""
        return self._clients[organization]

    def sign_up(self, organization: str) -> None:
        """Makes an organization, and remembers its key before anything else is done."""
        with Client(self._base_url) as client:
            made = client.signup(organization)
        kept = KeptOrganization(id=made["organization"]["id"], key=made["api_key"])
        self.memory.organizations[organization] = kept
        self.memory.write()
        self._connect(organization, made["api_key"])

    def instance_id(self, organization: str, name: str) -> str:
        return self._ids[organization, name]

    def add_instance(self, organization: str, name: str, instance_id: str) -> None:
        self._ids[organization, name] = instance_id

    def key(self, organization: str) -> str:
        """The key of an organization that is there."""
        return self.memory.organizations[organization].key or self._default_key

    def started_at(self) -> str:
        """Which life of the server this is."""
        with Client(self._base_url) as client:
            return str(client.health()["started_at"])

    def running_agent(self, organization: str, name: str) -> Agent:
        """An agent that takes calls: one that boots is waited for, and a stopped one is woken
        until the end. Raises BootFailed."""
        client, instance_id = self.client(organization), self.instance_id(organization, name)
        status = client.status(instance_id)["status"]
        if status == "stopped":
            client.start(instance_id)
            self.callback(client.stop, instance_id)
        elif status != "running":
            client.wait_until_running(
                instance_id, BOOT_TIMEOUT_S, on_status=lambda now: self._report(f"{name} is {now}")
            )
        return Agent(client, instance_id)

    def current_state(
        self, desired: Iterable[DesiredOrganization], locations: SourceLocations
    ) -> dict[str, CurrentOrganization]:
        """What is there of what is desired. Raises SettingsInvalid for what is in its way."""
        found = {}
        for each in desired:
            kept = self._kept(each.name)
            if kept is not None:
                found[each.name] = self._organization(each, kept, locations)
        return found

    def _connect(self, organization: str, key: str) -> Client:
        client = self.enter_context(Client(self._base_url, key))
        self._clients[organization] = client
        return client

    def _kept(self, name: str) -> KeptOrganization | None:
        """What is remembered of an organization, if that still is there."""
        kept = self.memory.organizations.get(name)
        key = self._default_key if name == DEFAULT else kept and kept.key
        if not key:
            return None
        client = self._connect(name, key)
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
        self, desired: DesiredOrganization, kept: KeptOrganization, locations: SourceLocations
    ) -> CurrentOrganization:
        client = self.client(desired.name)
        known = client.organization()
        listed = client.instances()
        # What `up` may have set since then is to be set again.
        is_set = desired.name != DEFAULT or kept.started_at == self.started_at()
        return CurrentOrganization(
            Tier(known["subscription_tier"]),
            {
                provider: digest
                for provider, digest in kept.model_keys.items()
                if is_set and provider in known["model_providers"]
            },
            {
                each.name: self._instance(desired.name, each, there, locations)
                for each in desired.instances
                if (there := _find_by_name(listed, each, locations)) is not None
            },
            _keys(client, kept),
        )

    def _instance(
        self, organization: str, desired: DesiredInstance, there: Json, locations: SourceLocations
    ) -> CurrentInstance:
        instance_id = there["id"]
        self.add_instance(organization, desired.name, instance_id)
        if there["status"] == "error":
            locations.fail(
                desired.location,
                f"{desired.name} is in error: {there['error_message']} Remove it, and seed again: "
                f"{self.removal(organization, instance_id)}",
            )
        files: dict[str, str] = {}
        sent: marker.Sent = {}
        if desired.files or desired.skills or desired.sessions:
            agent = self.running_agent(organization, desired.name)
            files = _digests(agent, desired, locations)
            if desired.sessions:
                sent = _sent_messages(agent, desired, locations)
        return CurrentInstance(
            instance_id,
            ModelProvider(there["model_provider"]),
            agent_config.to_merge_patch(there["openclaw_config"] or {}),
            files,
            sent,
        )


def _digests(agent: Agent, desired: DesiredInstance, locations: SourceLocations) -> dict[str, str]:
    found = {}
    for path, (_, location) in desired.home_files().items():
        try:
            digest = agent.digest_of(path)
        except ApiRefused as refused:
            locations.fail(location, f"{desired.name}: {refused}")
        if digest is not None:
            found[path] = digest
    return found


def _sent_messages(
    agent: Agent, desired: DesiredInstance, locations: SourceLocations
) -> marker.Sent:
    try:
        return marker.parse(agent.read(marker.PATH))
    except ValueError as spoilt:
        locations.fail(
            (*desired.location, "sessions"),
            f"{desired.name}: {spoilt}. It tells what was sent; remove the file, and all messages "
            "are sent again.",
        )


def _find_by_name(
    listed: list[Json], desired: DesiredInstance, locations: SourceLocations
) -> Json | None:
    named = [each for each in listed if each["name"] == desired.name]
    if len(named) > 1:
        ids = ", ".join(each["id"] for each in named)
        locations.fail(
            (*desired.location, "name"),
            f"There are several agents called {desired.name} ({ids}). Rename or remove all but "
            "one.",
        )
    return named[0] if named else None


def _keys(client: Client, kept: KeptOrganization) -> Mapping[str, CurrentKey]:
    """Those that were made by a seeding: others of the same name are somebody else's."""
    listed = client.keys()
    active = {each["id"]: each for each in listed if each["is_active"]}
    return {
        name: _key(client.key(each.id), active[each.id]["expires_at"])
        for name, each in kept.keys.items()
        if each.id in active
    }


def _key(found: Json, expires_at: str | None) -> CurrentKey:
    grants = {
        grant["instance_id"]: frozenset(map(Permission, grant["permissions"]))
        for grant in found["instances"]
    }
    expiry = None if expires_at is None else datetime.fromisoformat(expires_at)
    return CurrentKey(found["id"], grants, expiry)
