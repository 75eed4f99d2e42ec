"""Budgets: what model calls may take, reserved before each call and settled after it."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cachetools import LRUCache

from chowder_local.core.events import ChangeSignal, EventType
from chowder_local.core.tasks import logging_errors
from chowder_local.features.budgets.errors import BudgetExceeded, BudgetNotFound, PriceMissing
from chowder_local.features.budgets.model import BudgetLimits, BudgetPeriod, Spent
from chowder_local.features.budgets.store import StoredBudget
from chowder_local.store.usage import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from chowder_local.accounts.cost_report import CostReports
    from chowder_local.core.domain import InstanceId, OrganizationId, SandboxId
    from chowder_local.core.events import Events
    from chowder_local.features.budgets.store import BudgetQueries
    from chowder_local.relay.calls import Credential, RelayRequest
    from chowder_local.relay.prices import Price, Prices
    from chowder_local.relay.wire.wire_format import Usage

log = logging.getLogger(__name__)

WAIT_S = 30.0
"""For so long a call waits while what is left of a budget is reserved for calls in progress."""
BYTES_PER_TOKEN = 3
"""Of a request: fewer than models take for nearly all texts, so that more is reserved than used."""
MAX_OUTPUT_TOKENS = 32_768
"""The most output of a call that sets no maximum itself."""
TURNS_KEPT = 10_000
_MAXIMUM = re.compile(
    rb'"(?:max_tokens|max_output_tokens|max_completion_tokens|maxOutputTokens)"\s*:\s*(\d{1,9})'
)
_FREE = re.compile(r"(?:count_tokens|input_tokens|countTokens|moderations)\Z")
"""How the paths of calls end that no provider bills."""
_LIMITS = ("usd", "tokens", "model_calls")
_OPTIONS = {"usd": "--usd", "tokens": "--tokens", "model_calls": "--model-calls"}


@dataclass(eq=False, repr=False)
class Budget:
    """A budget of an organization or an instance, with what has been spent in its period."""

    organization_id: OrganizationId
    instance_id: InstanceId | None
    limits: BudgetLimits
    since: datetime
    """The beginning of the period."""
    spent: Spent = field(default_factory=Spent)
    refused_at: datetime | None = None
    """When a call was last refused in this period."""
    refusal: str | None = None
    """What that call was told."""

    def __post_init__(self) -> None:
        self.reservations: set[BudgetReservation] = set()

    @property
    def owner_id(self) -> str:
        return self.instance_id or self.organization_id

    @property
    def reserved(self) -> Spent:
        """The most that the calls in progress can take."""
        return sum((each.amount for each in self.reservations), Spent())

    @property
    def until(self) -> datetime | None:
        """The end of the period, after which nothing of the next is spent; None for a total."""
        return self.limits.per.end(self.since)

    def stored(self) -> StoredBudget:
        return StoredBudget(
            self.organization_id,
            self.instance_id,
            self.limits,
            self.since,
            self.spent,
            self.reserved,
        )

    def begin_period(self, now: datetime) -> None:
        """Begins the period of now, if this one is over, or a clock that was ahead began it."""
        if self.until is not None and not self.since <= now < self.until:
            self.since, self.spent = self.limits.per.begin(now), Spent()
            self.refused_at = self.refusal = None

    def exhausted(self, amount: Spent, *, with_reserved: bool = False) -> str | None:
        """The name of a limit that leaves nothing for a call that takes some of it."""
        taken = self.spent + self.reserved if with_reserved else self.spent
        for name in _LIMITS:
            limit = getattr(self.limits, name)
            if limit is not None and getattr(amount, name) and getattr(taken, name) >= limit:
                return name
        return None

    def describe(self, name: str, *, with_reserved: bool = False) -> str:
        """Which budget it is, how much is spent, until when, and how to raise it."""
        limit, spent = getattr(self.limits, name), getattr(self.spent, name)
        period = self.limits.per
        whose, path, option = "The organization's", "/local/budget", ""
        if self.instance_id is not None:
            whose, path = "The agent's", f"/local/instances/{self.instance_id}/budget"
            option = f" --instance {self.instance_id}"
        a_time = "" if period is BudgetPeriod.TOTAL else f" a {period}"
        state = f"is spent: {_quantity(name, spent)} since {_moment(self.since)}"
        until = "" if self.until is None else f"at {_moment(self.until)}, or "
        if with_reserved:
            state = f"is reserved for calls in progress, which have not ended within {WAIT_S:g} s"
            until = "when they end, or "
        # The command sets all limits.
        for each in _LIMITS:
            kept = "MORE" if each == name else getattr(self.limits, each)
            option += "" if kept is None else f" {_OPTIONS[each]} {kept}"
        return (
            f"{whose} budget of {_quantity(name, limit)}{a_time} {state}. Model calls go on "
            f"{until}when you raise it: chowder-local budget set{option} --per {period} "
            f"(PUT {path})."
        )


@dataclass(eq=False, repr=False)
class BudgetReservation:
    """The most that a call in progress can take, in each of its budgets."""

    budgets: Sequence[Budget] = ()
    amount: Spent = field(default_factory=Spent)
    price: Price | None = None
    """None for a call that costs nothing, or that is under no budget in USD."""
    on_end: Callable[[Iterable[Budget]], None] = lambda _: None

    def settle(self, usage: Usage | None) -> None:
        """Takes what the call has cost: all that is reserved if its usage is not known."""
        if usage is None:
            self._end(self.amount)
            return
        tokens = usage.input_tokens + usage.output_tokens if self.amount.tokens else 0
        usd = 0.0 if self.price is None else self.price.cost_usd(usage)
        self._end(Spent(usd, tokens, self.amount.model_calls))

    def release(self) -> None:
        """Takes nothing: the provider has not done the call."""
        self._end(Spent())

    def _end(self, spent: Spent) -> None:
        # A call may end by several ways, of which the first one knows what it has cost.
        open_ = [each for each in self.budgets if self in each.reservations]
        for each in open_:
            each.reservations.remove(self)
            each.spent += spent
        if open_:
            self.on_end(open_)


@dataclass(eq=False, repr=False, kw_only=True)
class Budgets:
    """The budgets of all organizations and instances, in memory and stored.

    What calls reserve is stored before they are sent, so that a server that is killed does not
    forget them: they count as spent at the next start.
    """

    queries: BudgetQueries
    prices: Prices
    cost_reports: CostReports
    events: Events
    clock: Callable[[], datetime]
    max_calls_per_message: int

    def __post_init__(self) -> None:
        self._budgets: dict[str, Budget] = {}
        self._calls: LRUCache[tuple[SandboxId, str], int] = LRUCache(TURNS_KEPT)
        self._unwritten: set[Budget] = set()
        self._writing = asyncio.Lock()
        self._news = asyncio.Event()
        self.changes = ChangeSignal()
        """A budget is set, spent from or removed."""

    async def open(self, organization_id: OrganizationId, usd: float | None) -> None:
        """Reads the stored budgets, and gives an organization the total of the settings, if any.

        What was reserved when the server ended counts as spent.
        """
        for each in await self.queries.all():
            budget = self._budgets[each.owner_id] = Budget(
                each.organization_id,
                each.instance_id,
                each.limits,
                each.since,
                each.spent + each.reserved,
            )
            if each.reserved != Spent():
                log.warning(
                    "the server ended during model calls: their maximum of %s counts as spent",
                    _quantity("usd", each.reserved.usd),
                )
                self._unwritten.add(budget)
        await self.write()
        if usd is not None:
            await self.put(organization_id, None, BudgetLimits(BudgetPeriod.TOTAL, usd))

    async def put(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None,
        limits: BudgetLimits,
    ) -> Budget:
        """Sets a budget. What is spent in its period stays counted if it has the same period.

        A new day or month has what is known of its usage, a new total begins with nothing.
        """
        owner_id, now = instance_id or organization_id, self.clock()
        async with self._writing:
            former = self._budgets.get(owner_id)
            budget = former or Budget(organization_id, instance_id, limits, limits.per.begin(now))
            budget.begin_period(now)
            since, before = budget.since, budget.spent
            carried = Spent()
            if former is None or former.limits.per is not limits.per:
                since = limits.per.begin(now)
                known = await self._spent_since(organization_id, instance_id, limits.per, since)
                carried = known - before
            # Calls that end meanwhile are in `budget.spent`, and those in progress are reserved.
            changed = replace(budget.stored(), limits=limits, since=since)
            await self.queries.save([replace(changed, spent=changed.spent + carried)])
            budget.limits, budget.since, budget.spent = limits, since, budget.spent + carried
            budget.refused_at = budget.refusal = None
            self._budgets[owner_id] = budget
        self._note([budget])
        self.events.publish(
            EventType.BUDGET_SET, organization_id, instance_id, **_members(budget.limits)
        )
        return budget

    def get(self, owner_id: str) -> Budget:
        """The budget of an organization or instance. Raises BudgetNotFound if it has none."""
        if (budget := self.find(owner_id)) is None:
            raise BudgetNotFound
        return budget

    def find(self, owner_id: str) -> Budget | None:
        """The budget of an organization or instance; None if it has none."""
        budget = self._budgets.get(owner_id)
        if budget is not None:
            budget.begin_period(self.clock())
        return budget

    async def remove(self, owner_id: str) -> None:
        """Removes a budget, if there is one, with what was spent of it."""
        async with self._writing:
            await self.queries.remove(owner_id)
            budget = self._budgets.pop(owner_id, None)
        if budget is not None:
            self.changes.notify()
            self.events.publish(
                EventType.BUDGET_REMOVED, budget.organization_id, budget.instance_id
            )

    def forget(self, instance_id: InstanceId) -> None:
        """Drops the budget of an instance that is deleted."""
        self._budgets.pop(instance_id, None)

    async def reserve(
        self,
        request: RelayRequest,
        credential: Credential,
        turn_id: str | None,
        *,
        is_local: bool,
        is_billed: bool,
    ) -> BudgetReservation:
        """Reserves the most that a call can cost.

        If what is left of a budget is reserved for other calls, it waits for their end. So calls
        at the same time exceed a budget by no more than one of them. Raises BudgetExceeded, also
        if the message has made too many calls, and PriceMissing under a budget in USD.
        """
        if request.method != "POST" or _FREE.search(request.path):
            return BudgetReservation()
        if turn_id is not None:
            self._count(credential.sandbox_id, turn_id)
        owners = (credential.organization_id, credential.instance_id)
        budgets = [each for owner in owners if owner and (each := self._budgets.get(owner))]
        if not budgets:
            return BudgetReservation()
        amount, price = Spent(model_calls=1), None
        if not is_local:
            amount, price = self._maximum(request, budgets, is_billed=is_billed)
        await self._wait_until_free(budgets, amount)
        reservation = BudgetReservation(budgets, amount, price, self._note)
        for each in budgets:
            each.reservations.add(reservation)
        self._unwritten.update(budgets)
        try:
            await self.write()
        # A call that is cancelled here is not sent either.
        except BaseException:
            reservation.release()
            raise
        return reservation

    async def run(self) -> None:
        """Writes what has been spent as soon as it is known, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            with logging_errors("writing budgets"):
                await self.write()

    async def write(self) -> None:
        """Writes all changes in one transaction. Raises DataDirUnusable, and keeps them then."""
        async with self._writing:
            writing = {each for each in self._unwritten if self._is_set(each)}
            self._unwritten = set()
            if not writing:
                return
            try:
                await self.queries.save([each.stored() for each in writing])
            # What a cancelled caller has not written is written by the next one.
            except BaseException:
                self._unwritten |= writing
                raise

    def _count(self, sandbox_id: SandboxId, turn_id: str) -> None:
        count = self._calls.get((sandbox_id, turn_id), 0)
        if count >= self.max_calls_per_message:
            raise BudgetExceeded(
                f"The agent has made {count} model calls for this message, the most that it may "
                f"make (CHOWDER_MAX_CALLS_PER_MESSAGE), so its turn was ended. Its trace shows "
                "what it did: chowder-local trace INSTANCE. If it needs more, raise the setting "
                "and start the server again."
            )
        self._calls[sandbox_id, turn_id] = count + 1

    def _maximum(
        self, request: RelayRequest, budgets: Sequence[Budget], *, is_billed: bool
    ) -> tuple[Spent, Price | None]:
        """The most that a call of a provider can take, and the price of its tokens."""
        maxima = [int(each) for each in _MAXIMUM.findall(request.body)]
        input_tokens = -(-len(request.body) // BYTES_PER_TOKEN)
        output_tokens = max(maxima, default=MAX_OUTPUT_TOKENS)
        price = self.prices.find(request.model_id) if is_billed else None
        if is_billed and price is None and any(each.limits.usd is not None for each in budgets):
            raise PriceMissing(request.model_id or "")
        usd = 0.0 if price is None else price.most_usd(input_tokens, output_tokens)
        return Spent(usd, input_tokens + output_tokens, 1), price

    async def _wait_until_free(self, budgets: Sequence[Budget], amount: Spent) -> None:
        """Waits until each budget has something left that no call in progress has reserved."""
        try:
            async with asyncio.timeout(WAIT_S):
                with self.changes.watching() as news:
                    while self._find_full(budgets, amount) is not None:
                        await news.wait()
                        news.clear()
        except TimeoutError:
            if (full := self._find_full(budgets, amount)) is not None:
                raise self._refusal(*full, with_reserved=True) from None

    def _find_full(self, budgets: Sequence[Budget], amount: Spent) -> tuple[Budget, str] | None:
        """A budget whose rest is reserved, and its limit. Raises BudgetExceeded if one is spent."""
        now = self.clock()
        # One that is removed meanwhile limits nothing any more.
        budgets = [each for each in budgets if self._is_set(each)]
        for each in budgets:
            each.begin_period(now)
            if (name := each.exhausted(amount)) is not None:
                raise self._refusal(each, name)
        for each in budgets:
            if (name := each.exhausted(amount, with_reserved=True)) is not None:
                return each, name
        return None

    def _refusal(self, budget: Budget, name: str, *, with_reserved: bool = False) -> BudgetExceeded:
        if budget.refused_at is None:
            self.events.publish(
                EventType.BUDGET_EXCEEDED,
                budget.organization_id,
                budget.instance_id,
                limit=name,
                **_members(budget.limits),
            )
        budget.refused_at = self.clock()
        budget.refusal = budget.describe(name, with_reserved=with_reserved)
        return BudgetExceeded(budget.refusal)

    async def _spent_since(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None,
        period: BudgetPeriod,
        since: datetime,
    ) -> Spent:
        if period is BudgetPeriod.TOTAL:
            return Spent()
        span = Span(since.date(), self.clock().date())
        report = await self.cost_reports.over_time(organization_id, span, instance_id)
        tokens = sum(
            tally.counts.input_tokens + tally.counts.output_tokens
            for model, tally in report.models.items()
            if model.is_billed
        )
        return Spent(report.total.cost_usd, tokens, report.total.counts.calls)

    def _note(self, budgets: Iterable[Budget]) -> None:
        self._unwritten.update(budgets)
        self._news.set()
        self.changes.notify()

    def _is_set(self, budget: Budget) -> bool:
        return self._budgets.get(budget.owner_id) is budget


def _members(limits: BudgetLimits) -> dict[str, object]:
    return {"per": limits.per, **{name: getattr(limits, name) for name in _LIMITS}}


def _quantity(name: str, value: float) -> str:
    if name == "usd":
        return f"{value:,.4f}".rstrip("0").rstrip(".") + " USD"
    noun = name.replace("_", " ")
    return f"{value:,} {noun[:-1] if value == 1 else noun}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
