"""Builds, lists and removes images on a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import ImageBuildFailed, ImageKept, ImageUnknown
from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.image_recipe import read_versions, recipe_dir
from tests.docker.image.inside import ENV

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = pytest.mark.docker

BLANK_FILE = "/opt/openclaw/blank.sqlite"
VERSIONS = read_versions(recipe_dir())


@pytest.fixture
def scratch_tag(client: docker.DockerClient, tag: str) -> Iterator[str]:
    """Another name of the image, which a test may take away."""
    scratch = "chowder-local/sandbox:test-scratch"
    client.images.get(tag).tag(scratch)
    yield scratch
    if images.is_there(scratch, ENV):
        client.images.remove(scratch)


def test_the_image_is_listed_with_its_version(tag: str) -> None:
    (info,) = [info for info in images.list_images(ENV) if info.tag == tag]
    assert info.openclaw_version == VERSIONS["OPENCLAW_VERSION"]
    assert info.size_bytes > 100_000_000
    assert info.created_at.tzinfo is not None


def test_a_second_build_gives_the_same_tag_from_the_cache(tag: str) -> None:
    heard: list[str] = []
    assert images.build(Settings(), heard.append, env=ENV) == tag
    assert any(tag in line for line in heard)


def test_an_image_of_ours_can_be_removed(scratch_tag: str) -> None:
    images.remove(scratch_tag, ENV)
    assert not images.is_there(scratch_tag, ENV)
    with pytest.raises(ImageUnknown):
        images.remove(scratch_tag, ENV)


def test_an_image_that_a_container_uses_is_kept(client: docker.DockerClient, tag: str) -> None:
    container = client.containers.create(tag)
    # By its id, because a tag alone could go while another one holds the image.
    try:
        with pytest.raises(ImageKept, match="container"):
            images.remove(str(client.images.get(tag).id), ENV)
    finally:
        container.remove()
    assert images.is_there(tag, ENV)


def test_an_image_that_is_not_ours_is_kept(client: docker.DockerClient) -> None:
    ours = {info.tag for info in images.list_images(ENV)}
    others = {name for image in client.images.list() for name in image.tags} - ours
    with pytest.raises(ImageKept, match="not built by"):
        images.remove(others.pop(), ENV)


def test_an_image_of_the_operators_own_is_not_built() -> None:
    with pytest.raises(ImageBuildFailed, match="CHOWDER_IMAGE"):
        images.build(Settings(image="mine:1"), print, env=ENV)


def test_a_chosen_base_that_cannot_be_had_is_told_with_a_cure() -> None:
    settings = Settings(base_image="localhost:9/no-such-base:1")
    with pytest.raises(ImageBuildFailed, match=r"no-such-base.*docker load"):
        images.build(settings, print, env=ENV)
