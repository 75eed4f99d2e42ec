"""The parts of a server for model calls: the relay, its metering and its logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.accounts.credentials import ModelCredentials
from chowder_local.app.accounts import Accounts
from chowder_local.instances.conversations.session_names import SessionNames
from chowder_local.relay.call_log import CallLog
from chowder_local.relay.catalogue import Catalogue
from chowder_local.relay.compaction import Compactions
from chowder_local.relay.journal import CallJournal
from chowder_local.relay.local_model import LocalModel
from chowder_local.relay.metering import Metering
from chowder_local.relay.prompt_format.failure_markers import FailureMarkers
from chowder_local.relay.service import Relay
from chowder_local.relay.session_watch import SessionWatch
from chowder_local.relay.upstreams import Upstreams

if TYPE_CHECKING:
    from chowder_local.relay.recordings.registry import RecordingRegistry
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.upstream.forward import Forwarder


@dataclass(frozen=True, kw_only=True)
class ModelCalls(Accounts):
    """`providers` forwards to the model providers, through a proxy if the environment names one."""

    providers: Forwarder
    scripts: ScriptRegistry
    recordings: RecordingRegistry
    model_failures: FailureMarkers = field(default_factory=FailureMarkers)
    session_watch: SessionWatch = field(default_factory=SessionWatch)

    @cached_property
    def call_log(self) -> CallLog:
        return CallLog(prices=self.prices)

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.providers)

    @cached_property
    def session_names(self) -> SessionNames:
        return SessionNames(self.sessions, self.clock)

    @cached_property
    def relay(self) -> Relay:
        settings, recorder = self.settings, self.recordings.recorder
        return Relay(
            resolver=ModelCredentials(self.box, self.instances, self.warm_queries, self.model_keys),
            upstreams=Upstreams(
                settings.model_base_urls, self.endpoints, self.providers, settings.relay_paths
            ),
            journal=CallJournal(
                self.call_log, self.model_failures, self.events, self.metrics, recorder
            ),
            metering=Metering(self.usage, self.clock),
            local_model=LocalModel(self.scripts, self.recordings, self.session_names.find),
            session_watch=self.session_watch,
            compactions=Compactions(settings.compaction_timeout_s, self.model_failures),
        )
