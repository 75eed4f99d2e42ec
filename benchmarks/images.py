"""The benchmarks' own images, built from folders beside this module if they are missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

from benchmarks.waiting import NotMeasured
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine
from chowder_local.engine.images import (
    build_command,
    command_env,
    find_ca_bundle,
    format_progress,
    relevant_lines,
    run_command,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Bench


def has_image(bench: Bench, tag: str) -> bool:
    """Whether the engine has the image."""
    try:
        bench.client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def build(bench: Bench, name: str, tag: str, arguments: Mapping[str, str]) -> None:
    """Builds the image of a folder. Raises NotMeasured if the build fails."""
    command = build_command(
        folder=Path(__file__).with_name(name),
        tag=tag,
        arguments=arguments,
        ca_bundle=find_ca_bundle(Settings.read(bench.env).ca_bundle, bench.env),
        no_cache=False,
    )

    def hear(line: str) -> None:
        if (step := format_progress(line)) is not None:
            bench.progress(step)

    code, lines = run_command(command, command_env(find_engine(bench.env), bench.env), hear)
    if code != 0:
        raise NotMeasured(f"the image {tag}: {' | '.join(relevant_lines(lines))}")
