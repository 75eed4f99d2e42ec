"""Bodies: scheduled jobs and their runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from chowder_local.api.schemas.fields import Overrides
from chowder_local.core.domain import OTHER_PROVIDERS
from chowder_local.core.strict_model import StrictModel
from chowder_local.openclaw.jobs import Delivery, Job, JobDefinition, JobKind, Schedule
from chowder_local.relay.turn_steps import StepKind, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.features.jobs.service import TracedRun

    FindName = Callable[[str | None], str | None]

NAME_MAX = 200
MESSAGE_MAX = 32_000
SESSION_MAX = 1_000
EVERY_MAX_S = 10 * 366 * 24 * 3600
RUNS_MAX = 200

Session = Annotated[
    str,
    Field(
        min_length=1,
        max_length=SESSION_MAX,
        description="Name of the session in which it runs; `main` is the main one. Without one, "
        "each run has a session of its own.",
        examples=["reports"],
    ),
]
Model = Annotated[
    str,
    Field(max_length=NAME_MAX, description="Id of a model, as in messages.", examples=["gpt-4o"]),
]
Openclaw = Annotated[
    Overrides,
    Field(
        description="Other members of OpenClaw's job, by its own names; they are merged over those "
        "that the server sends.",
        examples=[{"payload": {"timeoutSeconds": 60}}],
    ),
]


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"There is no time zone {name!r}. Use a name such as Europe/Berlin")
    return name


ZoneName = Annotated[
    str,
    Field(
        max_length=100,
        description="Name of a time zone; UTC without one.",
        examples=["Europe/Berlin"],
    ),
    AfterValidator(_zone),
]


class AtSchedule(StrictModel):
    """Due once."""

    kind: Literal["at"]
    at: Annotated[
        datetime,
        Field(
            description="The time; without an offset it is in `timezone`.",
            examples=["2026-12-24T09:00:00+01:00"],
        ),
    ]
    timezone: ZoneName | None = None

    def schedule(self) -> Schedule:
        zone = ZoneInfo(self.timezone) if self.timezone else UTC
        return Schedule(self.kind, at=self.at if self.at.tzinfo else self.at.replace(tzinfo=zone))


class EverySchedule(StrictModel):
    """Due again and again."""

    kind: Literal["every"]
    every_s: Annotated[
        float,
        Field(ge=1, le=EVERY_MAX_S, description="Seconds between two due times.", examples=[3600]),
    ]

    def schedule(self) -> Schedule:
        return Schedule(self.kind, every_s=self.every_s)


class CronSchedule(StrictModel):
    """Due at times of the calendar."""

    kind: Literal["cron"]
    cron: Annotated[
        str,
        Field(
            min_length=1,
            max_length=NAME_MAX,
            description="Minute, hour, day, month, day of the week; with six fields the first is "
            "the second.",
            examples=["0 9 * * 1-5"],
        ),
    ]
    timezone: ZoneName | None = None

    def schedule(self) -> Schedule:
        return Schedule(self.kind, cron=self.cron, timezone=self.timezone)


ScheduleBody = Annotated[
    AtSchedule | EverySchedule | CronSchedule, Field(discriminator="kind", description="When.")
]


class UrlDelivery(StrictModel):
    """Answers of runs are posted to a URL."""

    url: Annotated[
        str,
        Field(min_length=1, max_length=2_000, examples=["http://relay.local:2470/inbox/reports"]),
    ]

    def delivery(self) -> Delivery:
        return Delivery(url=self.url)


class ChannelDelivery(StrictModel):
    """Answers of runs go to somebody in a messenger."""

    channel: Annotated[
        str,
        Field(min_length=1, max_length=NAME_MAX, description="A channel.", examples=["telegram"]),
    ]
    to: Annotated[
        str | None,
        Field(max_length=NAME_MAX, description="Who gets them there.", examples=["12345"]),
    ] = None

    def delivery(self) -> Delivery:
        return Delivery(channel=self.channel, to=self.to)


DeliveryBody = UrlDelivery | ChannelDelivery


class JobCreation(StrictModel):
    """A job to create."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_MAX, examples=["morning report"])]
    schedule: Annotated[ScheduleBody, Field(examples=[{"kind": "every", "every_s": 3600}])]
    message: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MESSAGE_MAX,
            description="What the agent is told when the job is due.",
            examples=["Write the report of the day."],
        ),
    ]
    session: Session | None = None
    model: Model | None = None
    deliver: Annotated[
        DeliveryBody | None, Field(description="Without it, an answer goes nowhere.")
    ] = None
    is_enabled: bool = True
    openclaw: Openclaw | None = None

    def definition(self) -> JobDefinition:
        return JobDefinition(
            name=self.name,
            schedule=self.schedule.schedule(),
            message=self.message,
            deliver=None if self.deliver is None else self.deliver.delivery(),
            is_enabled=self.is_enabled,
        )


class JobChange(StrictModel):
    """The members of a job to change; null takes away a session, model or delivery."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_MAX)] | None = None
    schedule: ScheduleBody | None = None
    message: Annotated[str, Field(min_length=1, max_length=MESSAGE_MAX)] | None = None
    session: Session | None = None
    model: Model | None = None
    deliver: DeliveryBody | None = None
    is_enabled: bool | None = None
    openclaw: Openclaw | None = None

    @model_validator(mode="after")
    def _no_null(self) -> Self:
        for name in ("name", "schedule", "message", "is_enabled"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self

    def fields(self) -> dict[str, Any]:
        """The changed fields, as `Jobs.change` takes them."""
        names = self.model_fields_set - {"openclaw"}
        changed = {name: getattr(self, name) for name in sorted(names)}
        if self.schedule is not None:
            changed["schedule"] = self.schedule.schedule()
        if self.deliver is not None:
            changed["deliver"] = self.deliver.delivery()
        return changed


class WakeBody(StrictModel):
    """What an agent is woken for."""

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MESSAGE_MAX,
            description="What the agent is told.",
            examples=["The build is done."],
        ),
    ] = "Wake up."


class RunQuery(StrictModel):
    """The runs to list."""

    limit: int = Field(20, ge=1, le=RUNS_MAX, description="How many of the latest, at most.")


class ScheduleView(BaseModel):
    """When a job is due."""

    model_config = ConfigDict(from_attributes=True)

    kind: Annotated[
        str,
        Field(
            description="`at`, `every` or `cron`; an agent may have made one of another kind, such "
            "as `on-exit`, which is under `openclaw`.",
            examples=["cron"],
        ),
    ]
    at: Annotated[datetime | None, Field(examples=[None])]
    every_s: Annotated[float | None, Field(examples=[None])]
    cron: Annotated[str | None, Field(examples=["0 9 * * 1-5"])]
    timezone: Annotated[str | None, Field(examples=["Europe/Berlin"])]


class DeliveryView(BaseModel):
    """Where the answers of runs go."""

    model_config = ConfigDict(from_attributes=True)

    url: str | None
    channel: str | None
    to: str | None


class LastRunView(BaseModel):
    """The latest run."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    outcome: Annotated[str | None, Field(description="As in runs.", examples=["ok"])]
    error: Annotated[str | None, Field(examples=[None])]
    took_s: Annotated[float | None, Field(examples=[1.2])]


class JobView(BaseModel):
    """A scheduled job. All times are on the agent's clock."""

    id: Annotated[str, Field(examples=["9c30d9b1-e0de-444f-8d87-2460278236cd"])]
    name: Annotated[str, Field(examples=["morning report"])]
    kind: Annotated[
        JobKind,
        # In its place, as turns have a kind `heartbeat`, too, and some generators have one name
        # for a value.
        WithJsonSchema({"type": "string", "enum": [*JobKind]}),
        Field(
            description="`user`: made by a client or by the agent itself; `system`: OpenClaw's own "
            "upkeep; `heartbeat`.",
            examples=["user"],
        ),
    ]
    schedule: ScheduleView
    message: Annotated[str | None, Field(examples=["Write the report of the day."])]
    session: Annotated[
        str | None,
        Field(description="Name of its session; null: each run has its own.", examples=[None]),
    ]
    session_key: Annotated[
        str | None, Field(description="OpenClaw's key of that session.", examples=[None])
    ]
    model: Annotated[str | None, Field(description="Null: the agent's own.", examples=[None])]
    deliver: DeliveryView | None
    is_enabled: bool
    next_run_at: Annotated[datetime | None, Field(description="When it is due next.")]
    running_since: Annotated[datetime | None, Field(description="If it runs now.", examples=[None])]
    last_run: LastRunView | None
    openclaw: Annotated[
        dict[str, Any], Field(description="OpenClaw's own job, without its id, name and `enabled`.")
    ]

    @classmethod
    def from_job(cls, job: Job, find_name: FindName) -> Self:
        return cls.model_validate(
            {
                **vars(job),
                "schedule": ScheduleView.model_validate(job.schedule),
                "deliver": job.deliver and DeliveryView.model_validate(job.deliver),
                "last_run": job.last_run and LastRunView.model_validate(job.last_run),
                "session": find_name(job.session_key),
                "model": job.openclaw_model and _client_model(job.openclaw_model),
            }
        )


class RunView(BaseModel):
    """A run of a job that has ended. All times are on the agent's clock."""

    id: Annotated[str, Field(examples=["9c30d9b1-e0de-444f-8d87-2460278236cd:1796094119021"])]
    job_id: str
    began_at: datetime
    ended_at: datetime
    took_s: Annotated[float, Field(examples=[1.2])]
    outcome: Annotated[
        str | None,
        Field(
            description="`ok`, `failed` or `skipped`; null if OpenClaw names another.",
            examples=["ok"],
        ),
    ]
    answer: Annotated[str | None, Field(examples=["All is well."])]
    error: Annotated[str | None, Field(examples=[None])]
    is_forced: Annotated[
        bool,
        Field(description="Whether a `run` call began it, which passes OpenClaw's scheduler by."),
    ]
    session: Annotated[str | None, Field(description="Name of its session.", examples=[None])]
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's key of its session, for its transcript.",
            examples=["agent:main:cron:9c30d9b1-e0de-444f-8d87-2460278236cd"],
        ),
    ]
    input_tokens: Annotated[int | None, Field(examples=[12_932])]
    output_tokens: Annotated[int | None, Field(examples=[9])]
    cost_usd: Annotated[
        float | None,
        Field(
            description="Of its model calls, at list price; null if it is not known, or if they "
            "are not in memory any more.",
            examples=[0.0],
        ),
    ]
    model_calls: Annotated[
        list[str], Field(description="Ids of those that are in memory.", examples=[["ex-1"]])
    ]
    trace_id: Annotated[
        str | None, Field(description="Id of its trace; null if it is gone.", examples=[None])
    ]
    openclaw: Annotated[dict[str, Any], Field(description="OpenClaw's own record of the run.")]

    @classmethod
    def from_run(cls, traced: TracedRun, find_name: FindName) -> Self:
        run, calls = traced.run, list(traced.calls)
        steps = steps_of(calls, calls[0].at) if calls else []
        costs = [each.cost_usd for each in steps if each.kind is StepKind.MODEL]
        return cls.model_validate(
            {
                **vars(run),
                "took_s": (run.ended_at - run.began_at).total_seconds(),
                "session": find_name(run.session_key),
                "cost_usd": _total(costs),
                "model_calls": [each.id for each in calls],
                "trace_id": traced.trace_id,
            }
        )


class BegunRunView(BaseModel):
    """A run that was forced."""

    job_id: str
    path: Annotated[
        Literal["forced"],
        Field(
            description="A forced run is begun past OpenClaw's scheduler: at once, whether the job "
            "is enabled or not, and without a change of its next due time. To try the path of a "
            "due run, give the job a near `at`, or move the agent's clock to its next due time."
        ),
    ]


def _total(costs: list[float | None]) -> float | None:
    known = [each for each in costs if each is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _client_model(model: str) -> str:
    """A model's id as clients write it."""
    provider, _, rest = model.partition("/")
    name = provider.removeprefix("chowder-")
    return rest if name == OTHER_PROVIDERS else f"{name}/{rest}"
