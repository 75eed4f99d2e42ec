"""What OpenClaw does detached from a turn: sub-agents, runs of jobs, commands in the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors.agents import RpcRefused
from chowder_local.core.untrusted_json import message_of, moment_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.sandbox_exec import Control

MAX_TASKS = 200
OPEN = frozenset({"queued", "running"})
AGENTS = frozenset({"subagent", "acp"})
"""The kinds of tasks that are turns of other agents than the main one."""
_UNDELIVERED = frozenset({"pending"})


@dataclass(frozen=True)
class Task:
    """A task of an agent. Its times are on the agent's clock."""

    id: str
    kind: str
    """`subagent`, `cron` for the run of a job, `cli`, `acp`, or what else OpenClaw has."""
    title: str
    status: str
    """`queued`, `running`, `completed`, `failed`, `cancelled` or `timed_out`."""
    session_key: str | None
    """OpenClaw's key of the session that asked for it."""
    own_session_key: str | None
    """That of the session in which it runs; None if it runs in none."""
    at: datetime | None
    updated_at: datetime | None
    error: str | None
    is_reported: bool
    """Whether nobody is still to be told of its end."""

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


async def list_tasks(gateway: Gateway) -> list[Task]:
    """The latest tasks, the latest change first. Raises GatewayUnavailable, RpcRefused."""
    return read_tasks(await gateway.call("tasks.list", {"limit": MAX_TASKS}))


async def cancel_task(gateway: Gateway, task_id: str) -> str | None:
    """Cancels a task; why that did not work, or None. Raises GatewayUnavailable, RpcRefused."""
    answer = await gateway.call("tasks.cancel", {"taskId": task_id})
    return None if answer.get("cancelled") is True else message_of(answer.get("reason"))


async def find_other_work(control: Control, sandbox_id: SandboxId) -> list[str]:
    """What OpenClaw waits for before it restarts, such as a report that is still to be delivered.

    Empty if this release does not tell it. Raises GatewayUnavailable, EngineUnavailable,
    SandboxMissing, SandboxPaused.
    """
    try:
        answer = await control.call(sandbox_id, "gateway.restart.preflight", {})
    except RpcRefused:
        return []
    return [
        message_of(each.get("message"))
        for each in untrusted_json.objects_of(answer.get("blockers"))
    ]


def read_tasks(answer: Mapping[str, Any]) -> list[Task]:
    """The tasks in an answer to `tasks.list`."""
    return list(_tasks(untrusted_json.objects_of(answer.get("tasks"))))


def _tasks(listed: Sequence[Mapping[str, Any]]) -> Iterator[Task]:
    for each in listed[:MAX_TASKS]:
        yield Task(
            id=text_of(each.get("id")),
            kind=text_of(each.get("runtime")) or text_of(each.get("kind")),
            title=message_of(each.get("title")),
            status=text_of(each.get("status")),
            session_key=text_of(each.get("sessionKey")) or None,
            own_session_key=text_of(each.get("childSessionKey")) or None,
            at=moment_of(each.get("startedAt") or each.get("createdAt")),
            updated_at=moment_of(each.get("updatedAt")),
            error=message_of(each.get("error")) or None,
            is_reported=each.get("deliveryStatus") not in _UNDELIVERED,
        )
