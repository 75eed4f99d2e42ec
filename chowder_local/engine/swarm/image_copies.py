"""Gives a node the sandbox image that it lacks, from the engine of the server's own node."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

from chowder_local.engine.connection import open_client
from chowder_local.engine.error_translation import translated_errors

if TYPE_CHECKING:
    from chowder_local.engine.connection import EngineAddress

log = logging.getLogger(__name__)

TIMEOUT_S = 600.0
CHUNK_BYTES = 1024 * 1024


def copy_missing_image(tag: str, source: EngineAddress, target: EngineAddress) -> None:
    """Copies an image, unless the target has it. Blocks.

    Raises ImageMissing if the source lacks it, else EngineUnavailable.
    """
    doing = f"copy the sandbox image to {target.source}"
    with (
        closing(open_client(source, TIMEOUT_S)) as giver,
        closing(open_client(target, TIMEOUT_S)) as taker,
        translated_errors(doing, image=tag),
    ):
        image = giver.images.get(tag)
        try:
            if taker.images.get(tag).id == image.id:
                return
        except ImageNotFound:
            pass
        log.info("copying the sandbox image %s to %s", tag, target.source)
        began_s = time.monotonic()
        taker.images.load(image.save(CHUNK_BYTES, named=tag))  # type: ignore[arg-type]  # it streams
        log.info(
            "%s has the sandbox image, after %.0f s", target.source, time.monotonic() - began_s
        )
