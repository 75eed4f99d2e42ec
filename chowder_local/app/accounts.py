"""The parts of a server for organizations, keys and subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.accounts.authentication import Authentication
from chowder_local.accounts.cost_report import CostReports
from chowder_local.accounts.credentials import ModelKeys
from chowder_local.accounts.dashboard_sessions import DashboardSessions
from chowder_local.accounts.keys import Keys
from chowder_local.accounts.organizations import Organizations
from chowder_local.accounts.subscriptions import Subscriptions
from chowder_local.app.foundation import Foundation
from chowder_local.core.fault_injection import Faults
from chowder_local.relay.prices import Price, Prices

if TYPE_CHECKING:
    from chowder_local.core.domain import OrganizationId


@dataclass(frozen=True, kw_only=True)
class Accounts(Foundation):
    """`store_id` identifies the data directory on the engine and in browsers."""

    store_id: str
    default_organization_id: OrganizationId

    @cached_property
    def organizations(self) -> Organizations:
        return Organizations(self.organization_queries, self.box, self.clock)

    @cached_property
    def authentication(self) -> Authentication:
        return Authentication(self.keys, self.clock)

    @cached_property
    def scoped_keys(self) -> Keys:
        return Keys(self.keys, self.instances, self.clock)

    @cached_property
    def model_keys(self) -> ModelKeys:
        return ModelKeys(self.organizations, self.endpoints, self.default_organization_id)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(self.organizations, self.box, self.clock)

    @cached_property
    def prices(self) -> Prices:
        return Prices({name: Price(*usd) for name, usd in self.settings.prices.items()})

    @cached_property
    def cost_reports(self) -> CostReports:
        return CostReports(self.usage, self.prices)

    @cached_property
    def faults(self) -> Faults:
        return Faults(self.events, self.clock)

    @cached_property
    def dashboard_sessions(self) -> DashboardSessions:
        return DashboardSessions(
            authentication=self.authentication,
            keys=self.keys,
            sessions=self.dashboard_session_queries,
            box=self.box,
            store_id=self.store_id,
            clock=self.clock,
        )
