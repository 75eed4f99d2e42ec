"""OpenClaw's approvals of commands, and the policy by which it asks for them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from chowder_local.core.untrusted_json import (
    message_of,
    moment_of,
    object_at,
    object_of,
    objects_of,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

REQUESTED = "exec.approval.requested"
RESOLVED = "exec.approval.resolved"
LIST = "exec.approval.list"
RESOLVE = "exec.approval.resolve"
GET_POLICY = "exec.approvals.get"
SET_POLICY = "exec.approvals.set"

MAX_COMMAND = 20_000
"""More characters than OpenClaw shows to those who decide."""
MAX_WARNINGS = 20
AGENT = "main"


class Decision(StrEnum):
    """What a person decides about a command."""

    ALLOW_ONCE = "allow_once"
    ALLOW_ALWAYS = "allow_always"
    DENY = "deny"


class Outcome(StrEnum):
    """How an approval has ended."""

    ALLOW_ONCE = "allow_once"
    ALLOW_ALWAYS = "allow_always"
    DENY = "deny"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Security(StrEnum):
    """Which commands may run."""

    DENY = "deny"
    ALLOWLIST = "allowlist"
    FULL = "full"


class Ask(StrEnum):
    """When OpenClaw asks before it runs a command."""

    OFF = "off"
    ON_MISS = "on_miss"
    ALWAYS = "always"


@dataclass(frozen=True)
class Approval:
    """A command that waits for an approval; times are of the agent's clock."""

    id: str
    command: str
    cwd: str | None
    session_key: str | None
    since: datetime
    until: datetime
    warnings: tuple[str, ...]
    """What OpenClaw warns of, such as code on the command line."""
    decisions: tuple[Decision, ...]
    """Those that OpenClaw takes."""


@dataclass(frozen=True)
class AllowedCommand:
    """A program that needs no approval: its name, or a pattern of its path.

    `arg_pattern` limits it to some arguments, by a regular expression or as OpenClaw keeps those of
    a command that is always allowed.
    """

    pattern: str
    arg_pattern: str | None = None


@dataclass(frozen=True)
class ApprovalPolicy:
    """When an agent asks before it runs a command, and what runs if nobody answers."""

    security: Security
    ask: Ask
    ask_fallback: Security
    allowlist: tuple[AllowedCommand, ...]


def written(word: StrEnum) -> str:
    """A word as OpenClaw writes it."""
    return word.value.replace("_", "-")


def read_approval(raw: Mapping[str, Any]) -> Approval | None:
    """An approval in an event or a list of the gateway's; None if it cannot be read."""
    request = object_of(raw.get("request"))
    approval_id = message_of(raw.get("id"))
    since, until = moment_of(raw.get("createdAtMs")), moment_of(raw.get("expiresAtMs"))
    if not approval_id or since is None or until is None:
        return None
    warning = message_of(request.get("warningText")).splitlines()
    more = texts_of(object_at(request, "commandAnalysis").get("warningLines"))
    allowed = texts_of(request.get("allowedDecisions"))
    return Approval(
        id=approval_id,
        command=text_of(request.get("command"))[:MAX_COMMAND],
        cwd=message_of(request.get("cwd")) or None,
        session_key=message_of(request.get("sessionKey")) or None,
        since=since,
        until=until,
        warnings=tuple(map(message_of, (*warning, *more)[:MAX_WARNINGS])),
        decisions=tuple(each for each in Decision if written(each) in allowed),
    )


_NOBODY = (None, "approval-scope-closed")
"""By whom something is resolved whose time is over, or whose turn has ended."""


def read_outcome(raw: Mapping[str, Any], until: datetime) -> Outcome:
    """How an approval has ended that would have expired at `until`, in an event of the gateway's.

    OpenClaw calls each a denial that nobody has allowed.
    """
    decision = text_of(raw.get("decision")).replace("-", "_")
    if decision != Outcome.DENY:
        return Outcome(decision) if decision in set(Outcome) else Outcome.CANCELLED
    if raw.get("resolvedBy") not in _NOBODY:
        return Outcome.DENY
    at = moment_of(raw.get("ts"))
    return Outcome.EXPIRED if at is not None and at >= until else Outcome.CANCELLED


_MODES = {
    "deny": (Security.DENY, Ask.OFF),
    "allowlist": (Security.ALLOWLIST, Ask.OFF),
    "ask": (Security.ALLOWLIST, Ask.ON_MISS),
    "auto": (Security.ALLOWLIST, Ask.ON_MISS),
    "full": (Security.FULL, Ask.OFF),
}
"""What the values of `tools.exec.mode` stand for."""


def read_policy(answer: Mapping[str, Any], config: Mapping[str, Any]) -> ApprovalPolicy:
    """The policy of an answer to GET_POLICY, or of the configuration where that is stricter."""
    file = object_of(answer.get("file"))
    agents = object_of(file.get("agents"))
    agent, others = object_of(agents.get(AGENT)), object_of(agents.get("*"))
    own = {**object_of(file.get("defaults")), **others, **agent}
    configured = object_at(config, "tools", "exec")
    security, ask = _MODES.get(text_of(configured.get("mode"))) or (
        _read(Security, configured.get("security"), Security.FULL),
        _read(Ask, configured.get("ask"), Ask.OFF),
    )
    strictness = list(Security).index
    return ApprovalPolicy(
        security=min(_read(Security, own.get("security"), security), security, key=strictness),
        ask=max(_read(Ask, own.get("ask"), ask), ask, key=list(Ask).index),
        ask_fallback=_read(Security, own.get("askFallback"), Security.DENY),
        allowlist=tuple(
            _allowed(each)
            for level in (others, agent)
            for each in objects_of(level.get("allowlist"))
        ),
    )


def changed_policy(
    answer: Mapping[str, Any],
    words: Mapping[str, StrEnum],
    allowlist: Sequence[AllowedCommand] | None,
) -> dict[str, Any]:
    """The file for SET_POLICY with other `words`, by OpenClaw's names, and perhaps another list."""
    file = object_of(answer.get("file"))
    agents = object_of(file.get("agents"))
    agent = object_of(agents.get(AGENT)) | {name: written(each) for name, each in words.items()}
    if allowlist is not None:
        # Those that stay keep what OpenClaw has noted of them.
        known = {_allowed(each): each for each in objects_of(agent.get("allowlist"))}
        agent["allowlist"] = [known.get(each) or _written_allowed(each) for each in allowlist]
    return {**file, "version": 1, "agents": {**agents, AGENT: agent}}


def _allowed(raw: Mapping[str, Any]) -> AllowedCommand:
    return AllowedCommand(text_of(raw.get("pattern")), text_of(raw.get("argPattern")) or None)


def _written_allowed(command: AllowedCommand) -> dict[str, Any]:
    arguments = {} if command.arg_pattern is None else {"argPattern": command.arg_pattern}
    return {"pattern": command.pattern, **arguments}


Word = TypeVar("Word", bound=StrEnum)


def _read(words: type[Word], value: Any, default: Word) -> Word:
    word = text_of(value).replace("-", "_")
    return words(word) if word in set(words) else default
