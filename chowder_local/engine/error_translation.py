"""What the Docker SDK raises, turned into words for a person."""

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

CURES = {
    "no space left": " Make room on its disk: 'docker system df' shows what takes it.",
    "pool overlaps": " The addresses of the sandboxes' network are another's now: 'down' and 'up' "
    "choose others.",
}
"""What to do about some of an engine's own words."""


@contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turns what the SDK raises into EngineUnavailable with words for a person.

    It is an EngineSilent if the engine gave no answer at all.
    """
    try:
        yield
    except NotFound as gone:
        raise SandboxMissing(f"Could not {doing}: {gone.explanation or gone}.") from gone
    except APIError as refused:
        reason = str(refused.explanation or refused).rstrip(".")
        cure = next((words for sign, words in CURES.items() if sign in reason.lower()), "")
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


@contextmanager
def needing(image: str) -> Iterator[None]:
    """Raises ImageMissing, which has its cure, where the engine only says what it has not found."""
    try:
        yield
    except ImageNotFound:
        raise ImageMissing(image) from None
