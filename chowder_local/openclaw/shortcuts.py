"""Every shortcut: a use of OpenClaw's inside that its documentation does not offer.

The image build makes what a shortcut needs, or notes why it cannot, and observes one run of the
gateway. `misfit` judges by that whether the server may take the shortcut. Without it the plain way
does the same work, or an error says what is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from chowder_local.core import untrusted_json
from chowder_local.openclaw.home.sanitize import is_exported
from chowder_local.openclaw.programs import erase_session, pairings, transfer_state
from chowder_local.openclaw.standing_work import GATEWAY_PROCESS
from chowder_local.openclaw.transcripts import program_output
from chowder_local.relay.calls import RelayRequest
from chowder_local.relay.prompt_format import HANDED_OVER, ModelRequest, own_tools
from chowder_local.relay.wire.conversation import ToolResult
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from chowder_local.core.domain import SandboxId


UNKNOWN = "the image does not say what its OpenClaw is like"


@dataclass(frozen=True)
class Shortcut:
    """A use of OpenClaw's inside."""

    name: str
    relies_on: str
    plain_way: str
    """What happens without it."""
    proved_for: tuple[str, ...] = ("2026.9.6",)
    """The versions of OpenClaw with which all tests have passed."""
    misfit: Callable[[Observations], str | None] | None = None
    """Why the server may not take it; None for one that is the image's alone."""


class MayTake(Protocol):
    """Whether the server may take a shortcut with a release of OpenClaw, by default its own."""

    async def __call__(self, shortcut: Shortcut, version: str = ..., /) -> bool: ...


class MayTakeIn(Protocol):
    """Whether the server may take a shortcut with the OpenClaw of a sandbox."""

    async def __call__(self, shortcut: Shortcut, sandbox_id: SandboxId, /) -> bool: ...


OBSERVATIONS_FILE = "/opt/openclaw/observations.json"
"""Its path in the sandbox image, where `docker/sandbox/warm` writes it."""

Columns = dict[str, list[str]]
"""The columns of each table."""


class Tables(BaseModel):
    """The tables of the two databases; None for one that OpenClaw does not keep there."""

    conversations: Columns | None = None
    state: Columns | None = None


class Prompt(BaseModel):
    """The last model call of a conversation, in Anthropic's format, without its tools.

    The user has said `first`, was answered, and has said `look`. The agent has called a function of
    the client's, which returned `found`.
    """

    system: Any
    messages: list[dict[str, Any]]


class Observations(BaseModel):
    """One run of the gateway: what it wrote, asked, answered, and which files it had."""

    model_config = ConfigDict(frozen=True)

    openclaw: str
    """The release's version."""
    unfit: dict[str, str]
    """The shortcuts of the image itself that it was built without, with the reasons."""
    home: list[str]
    """What is in the state directory."""
    tables: Tables
    messages: list[dict[str, Any]]
    """Stored messages of a conversation."""
    prompt: Prompt
    marker: str
    """The message of a model call that failed."""
    failures: list[str]
    """The gateway's answers to turns whose model calls failed so."""
    answers: dict[str, Any]
    """The payloads of control calls, by method."""
    processes: list[str]
    """Command lines."""


def read_observations(content: bytes | None) -> Observations | None:
    """The observations in an image's file; None if the image has none that can be read."""
    if content is None:
        return None
    try:
        return Observations.model_validate_json(content)
    except ValidationError:
        return None


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
    names = (*transfer_state.COPIED, *transfer_state.OF_THE_SANDBOX)
    shared = {each: () for each in names if each not in transfer_state.OF_LATER_RELEASES}
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
    missing = _missing("conversations", seen.tables.conversations, program_output.TABLES)
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
    call = RelayRequest("anthropic", "POST", "v1/messages", "", (), body)
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
    request = ModelRequest.from_conversation(parsed.conversation)
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


FLAT_PACKAGES = Shortcut(
    "flat packages",
    relies_on="the packages from which OpenClaw imports single files (flatten.mjs)",
    plain_way="packages stay as npm installs them",
)
FLAT_WORKERS = Shortcut(
    "flat workers",
    relies_on="the files of OpenClaw's worker threads (workers.mjs)",
    plain_way="worker threads load up to 900 modules each",
)
IDLE_WORKERS = Shortcut(
    "idle workers",
    relies_on="constants in OpenClaw's code (edits.mjs)",
    plain_way="worker threads end after a minute without work",
)
CHEAPER_TURNS = Shortcut(
    "cheaper turns",
    relies_on="expressions in OpenClaw's code (edits.mjs)",
    plain_way="each turn writes a second log and computes rows of lists that nobody has asked for",
)
JOB_HISTORY = Shortcut(
    "job history",
    relies_on="an expression in OpenClaw's code (edits.mjs)",
    plain_way="the runs of a job are listed for seven days of the agent's clock",
)
SUBAGENT_APPROVALS = Shortcut(
    "sub-agents' approvals",
    relies_on="an expression in OpenClaw's code (edits.mjs)",
    plain_way="commands of sub-agents, and of turns that report their results, fail where an "
    "approval is asked for",
)
COMPACT_MODULES = Shortcut(
    "compact modules",
    relies_on="OpenClaw's code being ES modules (compact.mjs)",
    plain_way="modules keep comments and indentation",
)
SLIM_PACKAGES = Shortcut(
    "slim packages",
    relies_on="files that no agent reads (slim.py)",
    plain_way="the image is larger",
)
BUNDLED_CHANNELS = Shortcut(
    "bundled channels",
    relies_on="the folder of the plugins that OpenClaw brings along",
    plain_way="those channels must be installed with OpenClaw's own command",
)
SINGLE_PROCESS = Shortcut(
    "single process",
    relies_on="a variable of OpenClaw's launcher",
    plain_way="a second Node waits beside the gateway",
)
FOUND_MODULES = Shortcut(
    "found modules",
    relies_on="names of OpenClaw's modules (chunks.cjs)",
    plain_way="Node looks for modules in the file system",
)
PREPARED_DATABASE = Shortcut(
    "prepared database",
    relies_on="how OpenClaw notes its migrations (begin.mjs)",
    plain_way="each agent's first boot makes its database",
)
STATE_TRANSFER = Shortcut(
    "state transfer",
    relies_on="tables and paths of OpenClaw's databases (transfer_state.py)",
    plain_way="forks, restores and agents that left memory boot with their home",
    misfit=of_state_transfer,
)
WARM_UP = Shortcut(
    "warm-up",
    relies_on="columns of OpenClaw's databases, to erase a conversation (erase_session.py)",
    plain_way="warm sandboxes are booted only, so that first messages take longer",
    misfit=of_warm_up,
)
TRANSCRIPTS = Shortcut(
    "transcripts",
    relies_on="tables of OpenClaw's database of conversations (transcripts.mjs)",
    plain_way="OpenClaw is asked for conversations: of running agents only, without counts",
    misfit=of_transcripts,
)
HIBERNATION = Shortcut(
    "hibernation",
    relies_on="answers of control calls and names of processes (standing_work.py)",
    plain_way="running agents stay in memory",
    misfit=of_hibernation,
)
EXPORTS = Shortcut(
    "exports",
    relies_on="where OpenClaw keeps secrets and its log of runs (sanitize.py, scrub.py)",
    plain_way="an export has the workspace only",
    misfit=of_exports,
)
PAIRINGS = Shortcut(
    "pairings",
    relies_on="a table of OpenClaw's database of state (pairings.py)",
    plain_way="OpenClaw's command line lists who waits for an approval, which takes seconds",
    misfit=of_pairings,
)
PROMPT_TEXTS = Shortcut(
    "prompt texts",
    relies_on="texts that OpenClaw writes into prompts (prompt_format)",
    plain_way="model calls belong to no conversation: no traces, no cost by conversation; the "
    "offline model and reply scripts see what OpenClaw adds to messages",
    misfit=of_prompt_texts,
)
FAILURE_MARKERS = Shortcut(
    "failure markers",
    relies_on="OpenClaw passing on what a model provider says of a failure",
    plain_way="a failed message gets the failure of the agent's latest model call",
    misfit=of_failure_markers,
)

PROGRAM_CLOCK = Shortcut(
    "program clock",
    relies_on="a C library that programs load first (docker/sandbox/native)",
    plain_way="an agent's clock is moved for its gateway only: commands that it runs, as date, "
    "have the machine's time",
)

SHORTCUTS = (
    FLAT_PACKAGES,
    FLAT_WORKERS,
    IDLE_WORKERS,
    CHEAPER_TURNS,
    JOB_HISTORY,
    SUBAGENT_APPROVALS,
    COMPACT_MODULES,
    SLIM_PACKAGES,
    BUNDLED_CHANNELS,
    SINGLE_PROCESS,
    FOUND_MODULES,
    PREPARED_DATABASE,
    STATE_TRANSFER,
    WARM_UP,
    TRANSCRIPTS,
    HIBERNATION,
    EXPORTS,
    PAIRINGS,
    PROMPT_TEXTS,
    FAILURE_MARKERS,
    PROGRAM_CLOCK,
)


def find_misfits(observations: Observations | None) -> Mapping[str, str]:
    """The names of the shortcuts that are not taken, with the reasons."""
    if observations is None:
        return {each.name: UNKNOWN for each in SHORTCUTS if each.misfit is not None}
    reasons = {
        each.name: observations.unfit.get(each.name) or (each.misfit and each.misfit(observations))
        for each in SHORTCUTS
    }
    return {name: reason for name, reason in reasons.items() if reason}


def unproved(openclaw_version: str) -> list[Shortcut]:
    """The shortcuts that nobody has tested with a version."""
    return [each for each in SHORTCUTS if openclaw_version not in each.proved_for]
