"""Translates the Docker SDK's errors into the server's own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException, Timeout

from chowder_local.core.errors.sandboxes import (
    EngineDiskFull,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import SandboxId

_NO_SPACE = "no space left"
CURES = {
    _NO_SPACE: " Free space on its disk: 'docker system df' shows what uses it.",
    "pool overlaps": " Another network uses the addresses of the sandboxes' network now: 'down' "
    "and 'up' choose others.",
    "runtime name": " 'docker info' lists the engine's runtimes; add it to the engine's "
    "daemon.json, or unset CHOWDER_CONTAINER_RUNTIME.",
}
"""What to do about some errors, by a part of the engine's text."""


@contextmanager
def translated_errors(
    doing: str, *, sandbox_id: SandboxId | None = None, image: str | None = None
) -> Iterator[None]:
    """Translates errors within the block; `doing` is a verb phrase for their messages.

    Raises ImageMissing if the engine lacks `image`, SandboxMissing if it lacks the sandbox,
    EngineSilent if it does not answer, EngineDiskFull if it has no space left, and
    EngineUnavailable for all other errors.
    """
    if sandbox_id is not None:
        doing = f"{doing} sandbox {sandbox_id}"
    try:
        yield
    except APIError as refused:
        if image is not None and isinstance(refused, ImageNotFound):
            raise ImageMissing(image) from None
        if sandbox_id is not None and isinstance(refused, NotFound):
            raise SandboxMissing(
                f"Could not {doing}: {refused.explanation or refused}."
            ) from refused
        reason = str(refused.explanation or refused).rstrip(".")
        sign = next((sign for sign in CURES if sign in reason.lower()), "")
        kind = EngineDiskFull if sign == _NO_SPACE else EngineUnavailable
        raise kind(f"The engine could not {doing}: {reason}.{CURES.get(sign, '')}") from refused
    except Timeout as silence:
        raise EngineSilent(
            f"The container engine did not answer in time (could not {doing}). If it hangs, "
            "restart it; 'chowder-local doctor' checks it."
        ) from silence
    except (DockerException, RequestException, OSError) as failure:
        raise EngineSilent(
            f"The container engine does not answer (could not {doing}). Is it running? "
            "Agents that have run before boot again by themselves once it is."
        ) from failure
