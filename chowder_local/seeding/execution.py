"""Taking the steps of a plan, each remembered as soon as it is taken."""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING

from chowder_local.accounts.bootstrap import NAME as DEFAULT
from chowder_local.core.errors.process import ApiRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.seeding import marker
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.memory import KeptKey, KeptOrganization
from chowder_local.seeding.plan import (
    Configure,
    Create,
    MakeKey,
    Move,
    Send,
    SetModelKeys,
    SignUp,
    Step,
    WriteFile,
)
from chowder_local.seeding.target import content_of, digest_of, write

if TYPE_CHECKING:
    from chowder_local.client import Client
    from chowder_local.seeding.source_locations import SourceLocations
    from chowder_local.seeding.target import Server


class PlanExecution:
    """Takes steps on a server."""

    def __init__(self, server: Server, places: SourceLocations) -> None:
        self._server = server
        self._places = places
        self._created: dict[tuple[str, str], Create] = {}

    def take(self, step: Step) -> None:
        """Takes one. Raises SettingsInvalid with the server's words, if it does not want to."""
        try:
            self._take(step)
        except (ApiRefused, BootFailed) as refused:
            self._places.wrong(step.way, f"Could not {step.words}: {refused}")

    def finish(self) -> None:
        """Waits for agents that were created. Raises SettingsInvalid with what they say."""
        for (organization, name), step in self._created.items():
            try:
                self._server.ensure_running(organization, name)
            except BootFailed as failed:
                self._places.wrong(step.way, f"{name} was created, but does not run: {failed}")

    def _kept(self, organization: str) -> KeptOrganization:
        return self._server.memory.organizations[organization]

    def _agent(self, organization: str, name: str) -> tuple[Client, str]:
        """An agent once it takes calls, and whom to ask about it."""
        self._server.ensure_running(organization, name)
        return self._server.client(organization), self._server.instance_id(organization, name)

    @singledispatchmethod
    def _take(self, step: Step) -> None:
        raise NotImplementedError(type(step))

    @_take.register
    def _(self, step: SignUp) -> None:
        self._server.sign_up(step.organization)

    @_take.register
    def _(self, step: Move) -> None:
        self._server.client(step.organization).move(step.tier)

    @_take.register
    def _(self, step: SetModelKeys) -> None:
        self._server.client(step.organization).set_model_keys(
            {str(each): key for each, key in step.model_keys.items()}
        )
        kept = self._kept(step.organization)
        kept.model_keys |= {each: digest(key) for each, key in step.model_keys.items()}
        if step.organization == DEFAULT:
            kept.started_at = self._server.started_at()
        self._server.memory.write()

    @_take.register
    def _(self, step: Create) -> None:
        wanted = step.instance
        made = self._server.client(step.organization).create_instance(
            wanted.name, wanted.model_provider, wanted.openclaw_config or None
        )
        self._server.note_instance(step.organization, wanted.name, made["id"])
        self._created[step.organization, wanted.name] = step

    @_take.register
    def _(self, step: Configure) -> None:
        client, instance_id = self._agent(step.organization, step.instance.name)
        client.configure(instance_id, step.instance.openclaw_config)

    @_take.register
    def _(self, step: WriteFile) -> None:
        client, instance_id = self._agent(step.organization, step.instance)
        # An upload to a folder would go into it.
        digest_of(client, instance_id, step.path)
        write(client, instance_id, step.path, step.content)

    @_take.register
    def _(self, step: Send) -> None:
        client, instance_id = self._agent(step.organization, step.instance)
        client.respond(instance_id, step.message, step.session.model, step.session.name)
        # After the answer: a message that broke off was not taken in by the agent.
        sent = marker.read(content_of(client, instance_id, marker.PATH))
        sent[step.session.name] = (*step.before, digest(step.message))
        write(client, instance_id, marker.PATH, marker.written(sent))

    @_take.register
    def _(self, step: MakeKey) -> None:
        client, wanted = self._server.client(step.organization), step.key
        ids = [self._server.instance_id(step.organization, name) for name in wanted.instances]
        made = client.create_key(
            wanted.name, sorted(ids), sorted(wanted.permissions), wanted.expires_at
        )
        kept = KeptKey(id=made["id"], raw_key=made["raw_key"])
        self._kept(step.organization).keys[wanted.name] = kept
        self._server.memory.write()
        if step.former_id is not None:
            client.revoke_key(step.former_id)
