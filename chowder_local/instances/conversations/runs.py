"""Runs: finding the turns that a name stands for, and what the agent did in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import OFFLINE_KEY, ModelProvider
from chowder_local.core.errors.agents import RunNotFound
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.core.secrets import secret_values
from chowder_local.openclaw.session_keys import session_key
from chowder_local.relay.runs import Run, RunTurn, run_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chowder_local.accounts.organizations import ModelKeys
    from chowder_local.core.domain import Caller, Instance
    from chowder_local.core.secrets import SecretBox
    from chowder_local.instances.conversations.sessions import SessionNames
    from chowder_local.instances.conversations.trace_log import TracedTurn, TraceLog
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.relay.call_log import CallLog, ModelCall
    from chowder_local.relay.recordings import RecordingRegistry

RECORDING = "recording:"
"""How the name of a recording begins that an agent replays."""


@dataclass(eq=False, repr=False, kw_only=True)
class Runs:
    """Finds runs of an organization's agents."""

    directory: InstanceDirectory
    traces: TraceLog
    call_log: CallLog
    recordings: RecordingRegistry
    session_names: SessionNames
    model_keys: ModelKeys
    secret_box: SecretBox

    async def prepare(
        self, caller: Caller, name: str, *, earlier: bool = False, redact: bool = False
    ) -> Callable[[], Run]:
        """A function that makes the run, which takes long enough for a thread.

        `earlier` adds to a single turn the earlier ones of its session. Raises RunNotFound.
        """
        if name.startswith(RECORDING):
            instance = await self._instance(caller, name.removeprefix(RECORDING))
            entries = self.recordings.entries(instance.id)
            if entries is None:
                raise RunNotFound(name, "replays no recording, and is no agent or session")
            secrets = await self._secrets(instance) if redact else None
            recording = Run.from_recording(f"recording of {instance.name}", entries)
            return lambda: recording if secrets is None else recording.redacted(secrets)
        instance, turns, title = await self._find(caller, name, earlier=earlier)
        secrets = await self._secrets(instance) if redact else None
        found = [(each, self._session(each), self._calls(each)) for each in turns]

        def make() -> Run:
            run = Run(
                title=title,
                instance_id=instance.id,
                model_provider=instance.model_provider,
                openclaw_version=instance.openclaw_version,
                turns=[
                    RunTurn(
                        id=turn.id,
                        response_id=turn.response_id,
                        kind=turn.kind,
                        session=session,
                        session_key=turn.session_key,
                        at=turn.at,
                        took_s=turn.took_s,
                        status=turn.status,
                        error=turn.error,
                        request=None if turn.request is None else dict(turn.request),
                        missing_calls=len(turn.model_call_ids) - len(calls),
                        calls=run_calls(calls, secrets),
                    )
                    for turn, session, calls in found
                ],
            )
            return run if secrets is None else run.redacted(secrets)

        return make

    async def _find(
        self, caller: Caller, name: str, *, earlier: bool
    ) -> tuple[Instance, list[TracedTurn], str]:
        if found := self.traces.find(caller.organization_id, name):
            if len(found) > 1:
                raise RunNotFound(name, "is the beginning of several ids of turns")
            (turn,) = found
            instance = await self.directory.get(caller.organization_id, turn.instance_id)
            own = [*self.traces.of_instance(instance.id)][::-1]
            before = [each for each in own if each.session_key == turn.session_key]
            turns = before[: before.index(turn) + 1] if earlier else [turn]
            return instance, turns, f"{instance.name}, {turn.response_id or turn.id}"
        try:
            instance = await self._instance(caller, name)
            of_session = None
        except RunNotFound:
            agent, colon, session = name.partition(":")
            if not colon:
                raise
            instance = await self._instance(caller, agent)
            of_session = {session, session_key(session)}
        turns = [
            each
            for each in self.traces.of_instance(instance.id)
            if of_session is None or each.session_key in of_session
        ][::-1]
        if not turns:
            raise RunNotFound(name)
        return instance, turns, name if of_session else instance.name

    async def _instance(self, caller: Caller, name: str) -> Instance:
        """An instance by its id or name. Raises RunNotFound if there is none, or several."""
        ids = await self.directory.ids_of(caller, name)
        if len(ids) > 1:
            raise RunNotFound(name, "is the name of several agents: take an id of one")
        try:
            return await self.directory.get(caller.organization_id, ids[0] if ids else name)
        except InstanceNotFound:
            raise RunNotFound(name) from None

    def _session(self, turn: TracedTurn) -> str | None:
        if turn.session_key is None:
            return None
        found = self.session_names.find(turn.instance_id, turn.session_key)
        return None if found is None else found.name

    def _calls(self, turn: TracedTurn) -> Sequence[ModelCall]:
        found = map(self.call_log.find, turn.model_call_ids)
        return [each for each in found if each is not None]

    async def _secrets(self, instance: Instance) -> set[str]:
        """The secrets that the agent, its provider's calls and its sandbox may have."""
        box, sandbox_id = self.secret_box, instance.sandbox_id
        secrets = {
            box.gateway_token(sandbox_id),
            box.relay_token(sandbox_id),
            box.hook_token(instance.id),
            box.inbox_token(instance.id),
            *_config_secrets(instance.openclaw_config or {}),
        }
        for provider in (*ModelProvider, *self.model_keys.endpoints):
            key = await self.model_keys.find(instance.organization_id, provider)
            if key and key != OFFLINE_KEY:
                secrets.add(key)
        return secrets


def _config_secrets(config: Mapping[str, Any]) -> Iterator[str]:
    """The values of settings with names of secrets."""
    for name, value in config.items():
        if isinstance(value, str):
            yield from secret_values({name: value})
        elif isinstance(value, dict):
            yield from _config_secrets(value)
