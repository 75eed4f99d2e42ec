"""`disk` with a real engine: volumes, images and the data directory."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from chowder_local.cli.main import run
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import engine_client
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels
from chowder_local.engine.store_resources import remove_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.docker


def test_disk_measures_agents_snapshots_images_and_the_build_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_id, image = f"test-{secrets.token_hex(4)}", expected_tag(Settings())
    (tmp_path / "store.id").write_text(store_id)
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "one").write_bytes(bytes(1_000_000))
    marks = sandbox_labels(store_id, "chowder-0123456789ab")
    try:
        with engine_client(os.environ, "test") as (client, _):
            volume = client.volumes.create(labels=marks)
            client.containers.run(
                image, ["-c", "head -c 3000000 /dev/zero >/stored/file"], entrypoint="sh",
                user="root", volumes=[f"{volume.name}:/stored"], labels=marks, remove=True,
            )  # fmt: skip
        env = {**os.environ, "CHOWDER_DATA_DIR": str(tmp_path)}
        assert run(["disk", "--output", "json"], env) == 0
    finally:
        remove_store(store_id, os.environ)
    rows = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    assert (
        rows["all agents and warm sandboxes (a running server names each)"]["size_bytes"]
        >= 3_000_000
    )
    assert rows["snapshots"]["size_bytes"] == 1_000_000
    assert rows[f"image {image}"]["size_bytes"] > 100_000_000
    assert rows[f"image {image}"]["free"] == f"chowder-local image rm {image}"
    assert "the engine's build cache" in rows
