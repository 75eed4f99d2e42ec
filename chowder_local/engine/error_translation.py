"""What the Docker SDK raises, turned into the server's errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException, Timeout

from chowder_local.core.errors.sandboxes import (
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    SandboxMissing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import SandboxId

CURES = {
    "no space left": " Make room on its disk: 'docker system df' shows what takes it.",
    "pool overlaps": " The addresses of the sandboxes' network are another's now: 'down' and 'up' "
    "choose others.",
}
"""What to do about some of an engine's own words."""


@contextmanager
def translated_errors(
    doing: str, *, sandbox_id: SandboxId | None = None, image: str | None = None
) -> Iterator[None]:
    """Raises EngineUnavailable, or EngineSilent if the engine gave no answer at all.

    What is not found is a SandboxMissing where the call is one of a sandbox, whose id then ends
    what `doing` says; and an ImageMissing where it is the image.
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
        cure = next((text for sign, text in CURES.items() if sign in reason.lower()), "")
        raise EngineUnavailable(f"The engine could not {doing}: {reason}.{cure}") from refused
    except Timeout as silence:
        raise EngineSilent(
            f"The container engine has not answered in time (could not {doing}). Does it hang? "
            "'chowder-local doctor' tells."
        ) from silence
    except (DockerException, RequestException, OSError) as failure:
        raise EngineSilent(
            f"The container engine does not answer (could not {doing}). Is it running? "
            "Agents boot again by themselves once it is."
        ) from failure
