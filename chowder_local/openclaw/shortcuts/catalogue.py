"""Every shortcut: a use of OpenClaw's inside that its documentation does not offer.

The image build makes what a shortcut needs, or notes why it cannot, and observes one run of the
gateway. `misfit` judges by that whether the server may take the shortcut. Without it the plain way
does the same work, or an error says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.openclaw.shortcuts import misfits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.openclaw.shortcuts.observations import Observations

    Allows = Callable[..., Awaitable[bool]]
    """Whether the server may take a shortcut, with the OpenClaw of its own image or with that of
    the `openclaw_version` or the sandbox that follows."""

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
    relies_on="constants in OpenClaw's code (idle.mjs)",
    plain_way="worker threads end after a minute without work",
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
    misfit=misfits.of_state_transfer,
)
WARM_UP = Shortcut(
    "warm-up",
    relies_on="columns of OpenClaw's databases, to erase a conversation (erase_session.py)",
    plain_way="warm sandboxes are booted only, so that first messages take longer",
    misfit=misfits.of_warm_up,
)
TRANSCRIPTS = Shortcut(
    "transcripts",
    relies_on="tables of OpenClaw's database of conversations (transcripts.mjs)",
    plain_way="OpenClaw is asked for conversations: of running agents only, without counts",
    misfit=misfits.of_transcripts,
)
HIBERNATION = Shortcut(
    "hibernation",
    relies_on="answers of control calls and names of processes (standing_work.py)",
    plain_way="running agents stay in memory",
    misfit=misfits.of_hibernation,
)
EXPORTS = Shortcut(
    "exports",
    relies_on="where OpenClaw keeps secrets and its log of runs (sanitize.py, scrub.py)",
    plain_way="an export has the workspace only",
    misfit=misfits.of_exports,
)
PAIRINGS = Shortcut(
    "pairings",
    relies_on="a table of OpenClaw's database of state (pairings.py)",
    plain_way="OpenClaw's command line lists who waits for an approval, which takes seconds",
    misfit=misfits.of_pairings,
)
PROMPT_TEXTS = Shortcut(
    "prompt texts",
    relies_on="texts that OpenClaw writes into prompts (prompt_format)",
    plain_way="model calls belong to no conversation: no traces, no cost by conversation; the "
    "offline model and reply scripts see what OpenClaw adds to messages",
    misfit=misfits.of_prompt_texts,
)
FAILURE_MARKERS = Shortcut(
    "failure markers",
    relies_on="OpenClaw passing on what a model provider says of a failure",
    plain_way="a failed message gets the failure of the agent's latest model call",
    misfit=misfits.of_failure_markers,
)

SHORTCUTS = (
    FLAT_PACKAGES,
    FLAT_WORKERS,
    IDLE_WORKERS,
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
