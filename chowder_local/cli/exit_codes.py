"""The exit codes of errors, which scripts may rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError, process, sandboxes

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_CODES: Mapping[type[ChowderError], int] = {
    process.SettingsInvalid: USAGE,
    process.ServerElsewhere: USAGE,
    process.PortTaken: 3,
    process.DataDirLocked: 4,
    process.DataDirUnusable: 5,
    sandboxes.EngineUnavailable: 6,
    sandboxes.EngineRemote: 6,
    sandboxes.ImageMissing: 7,
    sandboxes.ImageBuildFailed: 7,
    sandboxes.BootFailed: 8,
    sandboxes.BootTimedOut: 9,
    ChowderError: FAILURE,
}
"""The row of the nearest base class counts; an error without one of its own is 1."""


def exit_code_of(failure: ChowderError) -> int:
    return next(EXIT_CODES[kind] for kind in type(failure).__mro__ if kind in EXIT_CODES)
