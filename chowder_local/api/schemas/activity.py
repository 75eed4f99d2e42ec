"""Bodies: what an agent is doing, and changes of its sessions."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import SessionField, SessionKeyField
from chowder_local.core.strict_model import StrictModel
from chowder_local.instances.conversations.trace_log import first_text
from chowder_local.relay.prompt_format import TurnKind, client_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chowder_local.instances.conversations.activity import Activity
    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.openclaw.tasks import Task

    FindName = Callable[[str | None], str | None]

MAX_WAIT_S = 600.0
TEXT_MAX = 1000
ARGUMENTS_MAX = 4000


class IdleWait(StrictModel):
    """What to wait for, and for how long."""

    until: Literal["idle"] = "idle"
    timeout_s: float = Field(
        60.0, ge=0, le=MAX_WAIT_S, description="So many seconds the answer waits, at most."
    )


class TurnState(StrEnum):
    """What a turn does at the moment."""

    WAITING = "waiting"
    MODEL_CALL = "calling_model"
    HELD = "held"
    TOOLS = "running_tools"
    ANSWERING = "answering"


class RunningToolView(BaseModel):
    """A tool that runs."""

    name: Annotated[str, Field(examples=["exec"])]
    call_id: Annotated[str, Field(examples=["toolu_1"])]
    arguments: Annotated[
        str,
        Field(description="JSON; cut at 4,000 characters.", examples=['{"command": "npm test"}']),
    ]


class TurnActivityView(BaseModel):
    """A turn in progress."""

    trace_id: Annotated[
        str,
        Field(
            description="Id of its trace, by which it is cancelled.",
            examples=["5bf024d133589c269a9492149020d5fe"],
        ),
    ]
    kind: Annotated[
        TurnKind, Field(description="What began it, as in traces.", examples=["message"])
    ]
    job: Annotated[str | None, Field(description="Name of the job that began it.", examples=[None])]
    channel: Annotated[
        str | None, Field(description="The messenger that it came from.", examples=[None])
    ]
    session: SessionField
    session_key: SessionKeyField
    text: Annotated[
        str,
        Field(
            description="What began it, cut at 1,000 characters; empty if that is unknown.",
            examples=["Run the tests."],
        ),
    ]
    at: datetime
    state: Annotated[
        TurnState,
        Field(
            description="`waiting` for its first model call, behind another turn of its session or "
            "a boot; `calling_model`; `held`: a breakpoint holds its model call; `running_tools`; "
            "or `answering`: the model has given the answer, and OpenClaw ends the turn.",
            examples=["running_tools"],
        ),
    ]
    since: Annotated[datetime, Field(description="Since when it is in this state.")]
    model_calls: Annotated[int, Field(description="How many it made.", examples=[2])]
    model_call_id: Annotated[
        str | None, Field(description="The latest model call.", examples=["ex-2"])
    ]
    model: Annotated[str | None, Field(description="Its model.", examples=["gpt-4o"])]
    tools: Annotated[list[RunningToolView], Field(description="The tools that run.")]
    tasks: Annotated[
        list[TaskView], Field(description="Tasks that its session has asked for.", examples=[[]])
    ]


class TaskView(BaseModel):
    """A task in progress: work of the agent beside its turns."""

    task_id: Annotated[
        str,
        Field(
            description="OpenClaw's id, by which it is cancelled.",
            examples=["0f8fad5b-d9cb-469f-a165-70867728950e"],
        ),
    ]
    kind: Annotated[
        str,
        Field(
            description="`subagent`, `cron` for the run of a job, `cli`, `acp`, or what else "
            "OpenClaw has.",
            examples=["subagent"],
        ),
    ]
    title: Annotated[str, Field(examples=["Look at the moon closely"])]
    status: Annotated[str, Field(description="`queued` or `running`.", examples=["running"])]
    session_key: Annotated[
        str | None,
        Field(description="The session that asked for it.", examples=["agent:main:main"]),
    ]
    own_session_key: Annotated[
        str | None,
        Field(
            description="The session in which it runs.",
            examples=["agent:main:subagent:5bf024d1-3358-4c26-9a94-92149020d5fe"],
        ),
    ]
    at: Annotated[datetime | None, Field(description="When it began, on the agent's clock.")]
    turns: Annotated[
        list[TurnActivityView], Field(description="The turns of its own session.", examples=[[]])
    ]
    tasks: Annotated[
        list[TaskView], Field(description="Tasks that it has asked for itself.", examples=[[]])
    ]


class ActivityView(BaseModel):
    """What an agent is doing, as a tree: turns, their tasks, and the turns of these."""

    status: Annotated[Literal["idle", "busy"], Field(examples=["busy"])]
    since: Annotated[
        datetime | None,
        Field(description="Since when; null if nothing has happened since the server started."),
    ]
    turns: list[TurnActivityView]
    tasks: Annotated[
        list[TaskView], Field(description="Tasks of sessions in which no turn is in progress.")
    ]
    other: Annotated[
        list[str],
        Field(
            description="What OpenClaw does besides, in its own words, such as a report that it is "
            "still to deliver.",
            examples=[[]],
        ),
    ]
    problem: Annotated[
        str | None, Field(description="Why tasks are unknown, if they are.", examples=[None])
    ]

    @classmethod
    def from_activity(cls, activity: Activity, find_name: FindName) -> Self:
        """Reads model calls, which may take time."""
        tree = _Tree(activity, find_name)
        turns = tree.turns(lambda turn: tree.task_of(turn) is None)
        return cls(
            status="idle" if activity.is_idle else "busy",
            since=activity.since,
            turns=turns,
            # What no turn has is left.
            tasks=tree.tasks(lambda _: True),
            other=list(activity.other),
            problem=activity.problem,
        )


class CancelledView(BaseModel):
    """What a call has ended."""

    cancelled: Annotated[
        list[str],
        Field(
            description="Ids of the turns' traces and of the tasks.",
            examples=[["5bf024d133589c269a9492149020d5fe"]],
        ),
    ]


class SessionRewind(StrictModel):
    """The message before which a session is to be."""

    position: int = Field(
        ge=0,
        le=(1 << 53) - 1,
        description="The `position` of a user's message in the transcript.",
        examples=[3],
    )


class CompactionView(BaseModel):
    """What came of compacting a session."""

    is_compacted: Annotated[bool, Field(examples=[True])]
    reason: Annotated[
        str | None, Field(description="OpenClaw's reason, if it has one.", examples=[None])
    ]


class _Tree:
    """Finds the place of each turn and task; each has one."""

    def __init__(self, activity: Activity, find_name: FindName) -> None:
        self._turns = list(activity.turns)
        self._tasks = list(activity.tasks)
        self._all_tasks: Sequence[Task] = activity.tasks
        self._find_name = find_name

    def task_of(self, turn: TracedTurn) -> Task | None:
        """The task whose own session a turn is in."""
        return next((each for each in self._all_tasks if _is_turn_of(each, turn)), None)

    def turns(self, belongs: Callable[[TracedTurn], bool]) -> list[TurnActivityView]:
        found = [each for each in self._turns if belongs(each)]
        self._turns = [each for each in self._turns if each not in found]
        return [self._turn(each) for each in found]

    def tasks(self, belongs: Callable[[Task], bool]) -> list[TaskView]:
        found = [each for each in self._tasks if belongs(each)]
        self._tasks = [each for each in self._tasks if each not in found]
        return [self._task(each) for each in found]

    def _turn(self, turn: TracedTurn) -> TurnActivityView:
        call = turn.running_calls[-1] if turn.running_calls else None
        state, since = TurnState.WAITING, turn.at
        tools: list[RunningToolView] = []
        if call is not None and call.took_s is None:
            state, since = TurnState.HELD if call.is_held else TurnState.MODEL_CALL, call.at
        elif call is not None and call.took_s is not None:
            since = call.at + timedelta(seconds=call.took_s)
            tools = [
                RunningToolView(
                    name=client_name(each.name),
                    call_id=each.id,
                    arguments=each.arguments_json[:ARGUMENTS_MAX],
                )
                for each in call.output.calls
            ]
            state = TurnState.TOOLS if tools else TurnState.ANSWERING
        return TurnActivityView(
            trace_id=turn.id,
            kind=turn.kind,
            job=turn.job,
            channel=turn.channel,
            session=self._find_name(turn.session_key),
            session_key=turn.session_key,
            text=first_text(turn)[:TEXT_MAX],
            at=turn.at,
            state=state,
            since=since,
            model_calls=len(turn.running_calls),
            model_call_id=None if call is None else call.id,
            model=None if call is None else call.model,
            tools=tools,
            tasks=self.tasks(lambda task: _is_asked_in(task, turn)),
        )

    def _task(self, task: Task) -> TaskView:
        own_key = task.own_session_key
        return TaskView(
            task_id=task.id,
            kind=task.kind,
            title=task.title,
            status=task.status,
            session_key=task.session_key,
            own_session_key=own_key,
            at=task.at,
            turns=self.turns(lambda turn: _is_turn_of(task, turn)),
            tasks=self.tasks(lambda other: own_key is not None and other.session_key == own_key),
        )


def _is_turn_of(task: Task, turn: TracedTurn) -> bool:
    # The key of a job's run has that of the job's session in front.
    return bool(
        task.own_session_key
        and turn.session_key
        and turn.kind is not TurnKind.MESSAGE
        and task.own_session_key.startswith(turn.session_key)
    )


def _is_asked_in(task: Task, turn: TracedTurn) -> bool:
    return task.session_key == turn.session_key is not None and not _is_turn_of(task, turn)
