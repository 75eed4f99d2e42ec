"""Gives a node the sandbox image that it lacks: from a registry, or from the server's own node."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound

from chowder_local.engine.connection import open_client
from chowder_local.engine.error_translation import translated_errors

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

    from chowder_local.engine.connection import EngineAddress

log = logging.getLogger(__name__)

TIMEOUT_S = 600.0
CHUNK_BYTES = 1024 * 1024


def copy_missing_image(tag: str, source: EngineAddress, target: EngineAddress) -> None:
    """Copies an image, unless the target has it. Blocks.

    If the image has been pushed to a registry, the target pulls it from there, which goes on after
    an interruption with what is missing. Raises ImageMissing if the source lacks it, else
    EngineUnavailable.
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
        began_s = time.monotonic()
        if not any(_is_pulled(taker, image, tag, each) for each in in_registries(image)):
            log.info("copying the sandbox image %s to %s", tag, target.source)
            taker.images.load(image.save(CHUNK_BYTES, named=tag))  # type: ignore[arg-type]  # it streams
        log.info(
            "%s has the sandbox image, after %.0f s", target.source, time.monotonic() - began_s
        )


def in_registries(image: Image) -> list[str]:
    """The image's digests in registries that somebody has named, not in the default one.

    Engines with the containerd image store give a local image a digest in the default registry.
    """
    hosts = {each: each.split("/", 1)[0] for each in image.attrs.get("RepoDigests") or ()}
    return [each for each, host in hosts.items() if "." in host or ":" in host]


def _is_pulled(taker: DockerClient, image: Image, tag: str, digest: str) -> bool:
    log.info("pulling the sandbox image from %s", digest)
    try:
        pulled = taker.images.pull(digest)
    except APIError as failure:
        log.warning("the sandbox image cannot be pulled from %s: %s", digest, failure.explanation)
        return False
    if pulled.id != image.id:
        return False
    pulled.tag(tag)
    return True
