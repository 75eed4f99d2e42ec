"""Whether the server's shortcuts fit a release of OpenClaw, by what the image build has seen.

Each function returns the reason why one does not fit, or None if it does (pure).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chowder_local.core import untrusted_json
from chowder_local.openclaw.home.sanitize import is_exported
from chowder_local.openclaw.programs import erase_session, pairings, transfer_state
from chowder_local.openclaw.standing_work import GATEWAY_PROCESS
from chowder_local.openclaw.transcripts import tables as transcript_tables
from chowder_local.relay.calls import ModelCall
from chowder_local.relay.prompt_format.system_prompt import HANDED_OVER, own_tools
from chowder_local.relay.prompt_format.user_messages import ModelRequest
from chowder_local.relay.wire.conversation import ToolResult
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chowder_local.openclaw.shortcuts.observations import Columns, Observations

OWN_TOOL = "exec"
"""A tool that every agent has."""
PUBLIC = {
    "agents",
    "canvas",
    "media",
    "plugin-skills",
    "workspace",
    "worktrees",
}
"""What an export may have of the state directory of an agent as OpenClaw starts it."""
VERSION_COLUMNS = {"schema_meta": ("meta_key", "app_version")}


def of_state_transfer(seen: Observations) -> str | None:
    shared = dict.fromkeys((*transfer_state.COPIED, *transfer_state.OF_THE_SANDBOX), ())
    return _missing("conversations", seen.tables.conversations, VERSION_COLUMNS) or _missing(
        "state", seen.tables.state, {**shared, **transfer_state.NAMED, **VERSION_COLUMNS}
    )


def of_warm_up(seen: Observations) -> str | None:
    conversations, state = seen.tables.conversations, seen.tables.state
    if conversations is None or state is None:
        return "a database is not where it was"
    columns = {name for table in (conversations | state).values() for name in table}
    missing = sorted(erase_session.LINKS - columns)
    return f"no table has a column {missing[0]}" if missing else None


def of_transcripts(seen: Observations) -> str | None:
    missing = _missing("conversations", seen.tables.conversations, transcript_tables.READ)
    if missing is not None:
        return missing
    roles = {each.get("role") for each in seen.messages}
    return None if {"user", "assistant"} <= roles else "messages are stored in another form"


def of_hibernation(seen: Observations) -> str | None:
    config, health, jobs = (
        untrusted_json.object_of(seen.answers.get(method))
        for method in ("config.get", "health", "cron.list")
    )
    if not untrusted_json.object_at(config, "sourceConfig", "gateway"):
        return "config.get does not return the configuration as it is written"
    beats = [each.get("heartbeat") for each in untrusted_json.objects_of(health.get("agents"))]
    if not beats or not all("enabled" in untrusted_json.object_of(each) for each in beats):
        return "health does not tell heartbeats"
    own = untrusted_json.objects_of(jobs.get("jobs"))
    if not own or not all(each.get("declarationKey") and "enabled" in each for each in own):
        return "cron.list does not tell OpenClaw's own jobs from others"
    if not any(GATEWAY_PROCESS in each for each in seen.processes):
        return "the gateway's process has another name"
    return None


def of_exports(seen: Observations) -> str | None:
    tables = seen.tables.conversations or {}
    if not any(name.startswith("trajectory_") for name in tables):
        return "its log of runs is not where it was"
    unknown = [each for each in seen.home if is_exported(f".openclaw/{each}")]
    return next((f"it also keeps {each}" for each in unknown if each not in PUBLIC), None)


def of_pairings(seen: Observations) -> str | None:
    return _missing("state", seen.tables.state, {pairings.TABLE: pairings.COLUMNS})


def of_prompt_texts(seen: Observations) -> str | None:
    body = json.dumps(seen.prompt.model_dump(), ensure_ascii=False).encode()
    call = ModelCall("anthropic", "POST", "v1/messages", "", (), body)
    if call.session is None:
        return "prompts do not name the conversation as before"
    parsed = call.parse()
    if not isinstance(parsed, ParsedRequest):
        return "the prompt cannot be read"
    if OWN_TOOL not in (own_tools(parsed.conversation.system) or ()):
        return "prompts do not list the agent's tools as before"
    turns = parsed.conversation.turns
    if not any(isinstance(each, ToolResult) and HANDED_OVER in each.text for each in turns):
        return "a client's function has another result until the client returns its own"
    request = ModelRequest.of(parsed.conversation)
    if (request.turn, request.text_before, request.text) != (2, "first", "look"):
        return "a client's history is told to the model in another way"
    if (request.result, request.round) != ("found", 1):
        return "the result of a client's function is told to the model in another way"
    return None


def of_failure_markers(seen: Observations) -> str | None:
    if seen.failures and all(seen.marker in each for each in seen.failures):
        return None
    return "its errors do not quote the model provider's"


def _missing(name: str, tables: Columns | None, wanted: Mapping[str, Iterable[str]]) -> str | None:
    """The first table or column that a database does not have."""
    if tables is None:
        return f"the database of {name} is not where it was"
    for table, columns in wanted.items():
        if table not in tables:
            return f"the database of {name} has no table {table}"
        for column in columns:
            if column not in tables[table]:
                return f"{table} has no column {column}"
    return None
