"""Bodies of an agent's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from chowder_local.api.schemas.fields import Id, View
from chowder_local.core.domain import LARGEST_SEED, LATEST_CLOCK_MS, Egress
from chowder_local.core.strict_model import StrictModel
from chowder_local.core.wording import parse_duration
from chowder_local.features.clock.service import LONGEST_ADVANCE, MAX_RUNS
from chowder_local.instances.schedule.agent_times import MACHINE_CLOCK

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance

TRUSTED_DISTANCE = timedelta(hours=1)
FAR_AWAY = (
    "The agent reaches the outside (egress is on). Certificates of servers and signatures of "
    "channels are judged by its clock, and fail if that is too far from the machine's."
)
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime.fromtimestamp(LATEST_CLOCK_MS / 1000, UTC)


def _bounded(at: datetime) -> datetime:
    if not _EARLIEST <= at <= _LATEST:
        raise ValueError(f"It should be from {_EARLIEST.year} to {_LATEST.year}")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_bounded)]


def _checked(text: str) -> str:
    if not timedelta() < parse_duration(text) <= LONGEST_ADVANCE:
        raise ValueError(f"It should be more than nothing, and at most {LONGEST_ADVANCE.days} days")
    return text


Seed = Annotated[
    StrictInt | None,
    Field(
        ge=0,
        le=LARGEST_SEED,
        description="What the agent's random ids follow from, so that a second run has the same; "
        "null: they are random.",
        examples=[7],
    ),
]


class ClockSetting(StrictModel):
    """How an agent's clock is set. What is left out stays."""

    at: Annotated[
        Moment | None,
        Field(
            description="The agent's time, with its zone; by default, the time that it has.",
            examples=["2027-01-01T09:00:00Z"],
        ),
    ] = None
    frozen: Annotated[
        StrictBool | None, Field(description="Whether the clock stands still.", examples=[True])
    ] = None
    seed: Seed = None


class ClockView(BaseModel):
    """An agent's clock."""

    now: Annotated[
        datetime, Field(description="The agent's time.", examples=["2027-01-01T09:00:00Z"])
    ]
    offset_s: Annotated[
        float,
        Field(description="How far it is from the machine's time, in seconds.", examples=[86400]),
    ]
    is_frozen: Annotated[bool, Field(description="Whether it stands still.")]
    rate: Annotated[
        int, Field(description="Seconds of it in a second: 1, or 0 if it stands.", examples=[1])
    ]
    seed: Seed
    warning: Annotated[
        str | None,
        Field(
            description="What does not work with a clock that is so far from the machine's.",
            examples=[None],
        ),
    ]

    @classmethod
    def from_instance(cls, instance: Instance, machine_time: datetime, egress: Egress) -> Self:
        clock = instance.clock or MACHINE_CLOCK
        now = clock.at(machine_time)
        is_frozen = clock.frozen_ms is not None
        is_far = abs(now - machine_time) > TRUSTED_DISTANCE
        return cls(
            now=now,
            offset_s=round((now - machine_time) / timedelta(seconds=1), 3),
            is_frozen=is_frozen,
            rate=0 if is_frozen else 1,
            seed=clock.seed,
            warning=FAR_AWAY if is_far and egress is Egress.ON else None,
        )


class ClockAdvance(StrictModel):
    """How far an agent's clock is moved on: one of `by`, `until` and `to`."""

    by: Annotated[
        Annotated[str, AfterValidator(_checked)] | None,
        Field(description="For how long, such as `25h` or `1d12h30m`.", examples=["25h"]),
    ] = None
    until: Annotated[
        Moment | None,
        Field(
            description="To which time, with its zone; at most 366 days away.",
            examples=["2027-01-02T09:00:00Z"],
        ),
    ] = None
    to: Annotated[
        Literal["next_job"] | None, Field(description="To the next time at which a job is due.")
    ] = None
    limit: Annotated[
        StrictInt,
        Field(ge=1, le=MAX_RUNS, description="After how many runs it ends in any case."),
    ] = MAX_RUNS

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if [self.by, self.until, self.to].count(None) != 2:
            raise ValueError("Give one of by, until and to")
        return self

    def until_from(self, now: datetime) -> datetime | None:
        """The time to move on to; None for the next due moment."""
        return self.until if self.by is None else now + parse_duration(self.by)


class AdvancedRunView(View):
    """A run of a job that an advance has let happen; times are the agent's."""

    job_id: Id
    job: Annotated[str, Field(description="The job's name.", examples=["daily report"])]
    due_at: datetime
    began_at: datetime
    took_s: Annotated[float, Field(examples=[1.2])]
    outcome: Annotated[str | None, Field(description="As in the runs of a job.", examples=["ok"])]
    error: Annotated[str | None, Field(examples=[None])]
    answer: Annotated[str | None, Field(description="What the agent answered at last.")]
    session_key: Annotated[str | None, Field(description="OpenClaw's key of its conversation.")]


class AdvanceView(ClockView):
    """An agent's clock after an advance, and what has happened on the way."""

    has_arrived: Annotated[
        bool,
        Field(description="False if the limit or a cancellation has ended it before its time."),
    ]
    runs: Annotated[list[AdvancedRunView], Field(description="In the order of their beginnings.")]
