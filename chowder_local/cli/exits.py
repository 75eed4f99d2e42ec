"""Which exit code a failure gets: the one table, for scripts to rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_CODES: Mapping[type[errors.ChowderError], int] = {
    errors.SettingsInvalid: USAGE,
    errors.PortTaken: 3,
    errors.DataDirLocked: 4,
    errors.DataDirUnusable: 5,
    errors.EngineUnavailable: 6,
    errors.EngineRemote: 6,
    errors.ImageMissing: 7,
    errors.ImageBuildFailed: 7,
    errors.ChowderError: FAILURE,
}
"""Looked up along the class's bases; what has no row of its own is an ordinary failure."""


def exit_code_of(failure: errors.ChowderError) -> int:
    """The exit code that a failure ends the command with."""
    return next(EXIT_CODES[kind] for kind in type(failure).__mro__ if kind in EXIT_CODES)
