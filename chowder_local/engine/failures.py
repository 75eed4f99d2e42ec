"""What the Docker SDK raises, turned into words for a person."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from chowder_local.errors.sandboxes import EngineUnavailable, SandboxMissing

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turns what the SDK raises into EngineUnavailable with words for a person."""
    try:
        yield
    except NotFound as gone:
        raise SandboxMissing(f"Could not {doing}: {gone.explanation or gone}.") from gone
    except APIError as refused:
        reason = refused.explanation or str(refused)
        raise EngineUnavailable(f"The engine could not {doing}: {reason}.") from refused
    except (DockerException, RequestException, OSError) as failure:
        raise EngineUnavailable(
            f"The container engine does not answer (could not {doing}). Is it running?"
        ) from failure
