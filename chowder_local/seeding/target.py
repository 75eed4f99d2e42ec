"""The server that is seeded: its current state, and what earlier seedings remember of it."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from tempfile import TemporaryFile
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.client import Client
from chowder_local.client.transport import if_found
from chowder_local.core.data_dir import write_private
from chowder_local.core.domain import ModelProvider, Permission, Tier
from chowder_local.core.errors.process import ApiRefused, DataDirUnusable
from chowder_local.openclaw.config import agent_config
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.home import FileIndex, Home, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization

    Json = dict[str, Any]


class StoredKey(BaseModel):
    """A scoped key that a seeding made."""

    id: str
    raw_key: str


class StoredOrganization(BaseModel):
    """A seeded organization; `key` is None for the default one, whose key is in a file.

    `model_keys` has the digests of the keys that were set. `started_at` is the start of the server
    that they were set on, because each start sets those of the default organization again.
    """

    id: str
    key: str | None = None
    model_keys: dict[ModelProvider, str] = Field(default_factory=dict)
    started_at: str | None = None
    keys: dict[str, StoredKey] = Field(default_factory=dict)


ORGANIZATIONS = TypeAdapter(
    dict[str, StoredOrganization], config=ConfigDict(hide_input_in_errors=True)
)


@dataclass(eq=False, repr=False)
class Memory:
    """A file in the data directory with mode 0600."""

    file: Path

    def __post_init__(self) -> None:
        self.organizations = self._read()

    def write(self) -> None:
        """Writes the file. Raises DataDirUnusable if it cannot be written."""
        write_private(self.file, ORGANIZATIONS.dump_json(self.organizations, indent=2))

    def _read(self) -> dict[str, StoredOrganization]:
        try:
            return ORGANIZATIONS.validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as failure:
            raise DataDirUnusable(
                f"{self.file} cannot be read: {failure}. It has the keys of seeded organizations. "
                "Correct it, or remove it to have the organizations made again."
            ) from None


MARKER = ".chowder-seed.json"
"""Beside the workspace, because an agent reads the workspace by itself."""

Sent = dict[str | None, tuple[str, ...]]


def serialize_marker(sent: Mapping[str | None, tuple[str, ...]]) -> bytes:
    """The file's content, from digests of messages by session name."""
    sessions = [{"name": name, "messages": list(digests)} for name, digests in sent.items()]
    return json.dumps({"sessions": sessions}, indent=2).encode()


def parse_marker(content: bytes | None) -> Sent:
    """Digests of messages by session name. Raises ValueError if the file is invalid."""
    if content is None:
        return {}
    try:
        sessions = json.loads(content)["sessions"]
        return {each["name"]: tuple(map(str, each["messages"])) for each in sessions}
    except (ValueError, TypeError, KeyError) as broken:
        raise ValueError(f"{MARKER} in its home cannot be read") from broken


@dataclass(frozen=True)
class CurrentInstance:
    """An existing agent with a declared name.

    `files` has the digests of its declared files, and `sent` the digests of the messages that were
    seeded, by session.
    """

    id: str
    model_provider: ModelProvider
    openclaw_config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    jobs: Mapping[str, Json] = field(default_factory=dict)
    """Its jobs by name, if some are declared."""
    budget: Json | None = None
    """None if it has none, or if none is declared."""
    breakpoint: Json | None = None
    """None if it has none, or if none is declared."""
    approvals: Json | None = None
    """When it asks before it runs a command; None if that is not declared."""


@dataclass(frozen=True)
class CurrentKey:
    """An active scoped key of an earlier seeding; `grants` has permissions by instance id."""

    id: str
    grants: Mapping[str, frozenset[Permission]]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class CurrentOrganization:
    """An organization; `tier` is None if it does not exist yet.

    `model_keys` has the digests of the keys that it was last seeded with and still has.
    """

    tier: Tier | None = None
    model_keys: Mapping[ModelProvider, str] = field(default_factory=dict)
    instances: Mapping[str, CurrentInstance] = field(default_factory=dict)
    keys: Mapping[str, CurrentKey] = field(default_factory=dict)
    budget: Json | None = None
    """None if it has none, or if none is declared."""


BOOT_TIMEOUT_S = 600.0
"""For many agents, which boot two at a time."""


@dataclass(frozen=True)
class SeededAgent:
    """A running agent, whose files can be read and written."""

    client: Client
    instance_id: str
    home: Home

    def read(self, path: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        try:
            with closing(self.client.download(self.instance_id, path)) as chunks:
                return b"".join(chunks)
        except ApiRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def write(self, path: str, content: bytes | Path) -> None:
        """Creates or replaces a file. Raises ApiRefused if it is a folder."""
        if (entry := self.home.entry(path)) is not None and entry["is_dir"]:
            # An upload would add a file to it.
            raise ApiRefused(HTTPStatus.BAD_REQUEST, f"{path} is a directory.")
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            if isinstance(file, io.BytesIO):
                # An upload needs a name.
                file.name = path.rsplit("/", 1)[-1]
            self.client.upload(self.instance_id, path, file)
        self.home.wrote(path, digest(content))


class SeedTarget(ExitStack):
    """A context manager: at its end, stopped agents that it has started are stopped again."""

    may_delete = True
    """Whether a scoped key that a step replaces is revoked."""
    takes_homes = True
    """Whether an instance is created with the files of its home, by an import in one call."""

    def __init__(
        self,
        base_url: str,
        default_key: str,
        memory: Memory,
        report: Callable[[str], None],
        *,
        public_url: str,
        removal: Callable[[str, str], str],
        index: FileIndex | None = None,
    ) -> None:
        """`public_url` is the server's URL for clients, with `/v1`.

        `removal` returns the command that removes an agent of an organization, by its id. With an
        `index`, files that their listings show unchanged are not read again.
        """
        super().__init__()
        self.public_url = public_url
        self.removal = removal
        self.memory = memory
        self._base_url = base_url
        self._default_key = default_key
        self.report = report
        self._clients: dict[str, Client] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._agents: dict[tuple[str, str], SeededAgent] = {}
        self.index = index or FileIndex()
        self._lock = Lock()
        self._imported: list[tuple[str, DesiredInstance, str]] = []

    def client(self, organization: str) -> Client:
        """The client of an existing organization."""
        return self._clients[organization]

    def sign_up(self, organization: str) -> None:
        """Signs up an organization, and stores its key at once."""
        with Client(self._base_url) as client:
            answer = client.signup(organization)
        stored = StoredOrganization(id=answer["organization"]["id"], key=answer["api_key"])
        self.memory.organizations[organization] = stored
        self.memory.write()
        self._connect(organization, answer["api_key"])

    def instance_id(self, organization: str, name: str) -> str:
        return self._ids[organization, name]

    def add_instance(self, organization: str, name: str, instance_id: str) -> None:
        self._ids[organization, name] = instance_id

    def key(self, organization: str) -> str:
        """The key of an existing organization."""
        return self.memory.organizations[organization].key or self._default_key

    def started_at(self) -> str:
        """The start time of the server, as text."""
        with Client(self._base_url) as client:
            return str(client.health()["started_at"])

    def create(self, organization: str, desired: DesiredInstance) -> None:
        """Creates an instance. Raises ApiRefused."""
        client, config = self.client(organization), desired.openclaw_config
        name, provider = desired.name, desired.model_provider
        if desired.home and self.takes_homes:
            manifest = {"name": name, "model_provider": provider, "overrides": config}
            with TemporaryFile() as archive:
                write_archive(archive, manifest, desired.home)
                instance = client.import_instance(archive)
            self._imported.append((organization, desired, client.server_time))
        else:
            instance = client.create_instance(name, provider, config or None)
        self.add_instance(organization, name, instance["id"])

    def running_agent(self, organization: str, name: str) -> SeededAgent:
        """The agent once it runs; a stopped one is started, and stopped again at the end.

        Raises BootFailed if it does not run.
        """
        # Steps for files are taken by several threads.
        with self._lock:
            if (organization, name) not in self._agents:
                self._agents[organization, name] = self._run(organization, name)
            return self._agents[organization, name]

    def _run(self, organization: str, name: str) -> SeededAgent:
        client, instance_id = self.client(organization), self.instance_id(organization, name)
        status = client.status(instance_id)["status"]
        if status == "stopped":
            self._start(client, instance_id, name)
        elif status != "running":
            client.wait_until_running(
                instance_id, BOOT_TIMEOUT_S, on_status=lambda now: self.report(f"{name} is {now}")
            )
        return SeededAgent(client, instance_id, Home(client, instance_id, self.index))

    def _start(self, client: Client, instance_id: str, name: str) -> None:
        self.report(f"starting {name}")
        client.start(instance_id)
        self.callback(client.stop, instance_id)

    def settle(self) -> None:
        """Lists again what was written, for the next comparison."""
        for organization, desired, at in self._imported if self.index.file else ():
            home = self.running_agent(organization, desired.name).home
            for path, file in desired.home.items():
                home.wrote(path, digest(file), at)
        for agent in self._agents.values():
            agent.home.settle()
        self.index.write()

    def current_state(
        self, desired: Iterable[DesiredOrganization]
    ) -> dict[str, CurrentOrganization]:
        """The state of the desired organizations that exist.

        Raises SettingsInvalid if an agent cannot be seeded.
        """
        organizations = {}
        for each in desired:
            stored = self._stored(each.name)
            if stored is not None:
                organizations[each.name] = self._organization(each, stored)
        return organizations

    def _connect(self, organization: str, key: str) -> Client:
        client = self.enter_context(self._client_of(key))
        self._clients[organization] = client
        return client

    def _client_of(self, key: str) -> Client:
        return Client(self._base_url, key)

    def _stored(self, name: str) -> StoredOrganization | None:
        """The memory of an organization, if the organization still exists."""
        stored = self.memory.organizations.get(name)
        key = self._default_key if name == DEFAULT else stored and stored.key
        if not key:
            return None
        client = self._connect(name, key)
        try:
            organization_id = client.organization()["id"]
        except ApiRefused as refused:
            if name == DEFAULT or refused.status != HTTPStatus.UNAUTHORIZED:
                raise
            # The server was reset since the last seeding.
            del self._clients[name], self.memory.organizations[name]
            return None
        if stored is None or stored.id != organization_id:
            stored = StoredOrganization(id=organization_id, key=None if name == DEFAULT else key)
            self.memory.organizations[name] = stored
        return stored

    def _organization(
        self, desired: DesiredOrganization, stored: StoredOrganization
    ) -> CurrentOrganization:
        client = self.client(desired.name)
        organization = client.organization()
        instances = client.instances()
        # A start of the server may have replaced the keys of the default organization.
        is_set = desired.name != DEFAULT or stored.started_at == self.started_at()
        return CurrentOrganization(
            Tier(organization["subscription_tier"]),
            {
                provider: digest
                for provider, digest in stored.model_keys.items()
                if is_set and provider in organization["model_providers"]
            },
            {
                each.name: self._instance(desired.name, each, instance)
                for each in desired.instances
                if (instance := find_by_name(instances, each)) is not None
            },
            _keys(client, stored),
            None if desired.budget is None else if_found(client.budget),
        )

    def _instance(
        self,
        organization: str,
        desired: DesiredInstance,
        instance: Json,
    ) -> CurrentInstance:
        instance_id = instance["id"]
        client = self.client(organization)
        self.add_instance(organization, desired.name, instance_id)
        if instance["status"] == "error":
            desired.location.fail(
                f"{desired.name} is in error: {instance['error_message']} Remove it and seed again "
                f"with: {self.removal(organization, instance_id)}",
            )
        files: dict[str, str] = {}
        sent: Sent = {}
        jobs: dict[str, Json] = {}
        approvals = None
        if desired.needs_running:
            agent = self.running_agent(organization, desired.name)
            if desired.jobs:
                jobs = {each["name"]: each for each in agent.client.jobs(instance_id)}
            if desired.approvals:
                approvals = agent.client.approval_policy(instance_id)
            files = _digests(agent, desired)
            if desired.sessions:
                sent = _sent_messages(agent, desired)
        return CurrentInstance(
            instance_id,
            ModelProvider(instance["model_provider"]),
            agent_config.nested(instance["openclaw_config"] or {}),
            files,
            sent,
            jobs,
            None if desired.budget is None else if_found(client.budget, instance_id),
            None if desired.breakpoint is None else if_found(client.breakpoint, instance_id),
            approvals,
        )


def _digests(agent: SeededAgent, desired: DesiredInstance) -> dict[str, str]:
    declared, digests = desired.home_files(), {}
    for path, found in agent.home.digests(declared).items():
        if isinstance(found, ApiRefused):
            declared[path][1].fail(f"{desired.name}: {found}")
        digests[path] = found
    return digests


def _sent_messages(agent: SeededAgent, desired: DesiredInstance) -> Sent:
    try:
        return parse_marker(agent.read(MARKER))
    except ValueError as invalid:
        (desired.location / "sessions").fail(
            f"{desired.name}: {invalid}. It lists the messages that were sent. Remove the file to "
            "have all messages sent again.",
        )


def find_by_name(instances: list[Json], desired: DesiredInstance) -> Json | None:
    named = [each for each in instances if each["name"] == desired.name]
    if len(named) > 1:
        ids = ", ".join(each["id"] for each in named)
        (desired.location / "name").fail(
            f"There are several agents called {desired.name} ({ids}). Rename or remove all but "
            "one.",
        )
    return named[0] if named else None


def _keys(client: Client, stored: StoredOrganization) -> Mapping[str, CurrentKey]:
    """The active keys that seedings made; other keys of the same names do not count."""
    listed = client.keys()
    active = {each["id"]: each for each in listed if each["is_active"]}
    return {
        name: current_key(client.key(each.id), active[each.id]["expires_at"])
        for name, each in stored.keys.items()
        if each.id in active
    }


def current_key(key: Json, expires_at: str | None) -> CurrentKey:
    grants = {
        grant["instance_id"]: frozenset(map(Permission, grant["permissions"]))
        for grant in key["instances"]
    }
    expiry = None if expires_at is None else datetime.fromisoformat(expires_at)
    return CurrentKey(key["id"], grants, expiry)
