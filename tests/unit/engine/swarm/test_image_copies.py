"""From where a node takes an image."""

from __future__ import annotations

from docker.models.images import Image

from chowder_local.engine.swarm.image_copies import in_registries

DIGEST = f"sha256:{'0' * 64}"


def test_only_registries_that_somebody_has_named_are_asked() -> None:
    named = [f"registry.example/sandbox@{DIGEST}", f"localhost:5000/sandbox@{DIGEST}"]
    # An engine with the containerd image store gives it to an image that never left it.
    image = Image({"RepoDigests": [*named, f"chowder-local/sandbox@{DIGEST}"]})
    assert in_registries(image) == named


def test_an_image_that_was_built_here_is_in_none() -> None:
    assert in_registries(Image({"RepoDigests": []})) == []
