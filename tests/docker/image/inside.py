"""Looks into a container of the sandbox image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker.models.containers import Container

ENV = dict(os.environ)


def inside(container: Container, script: str) -> str:
    """What a shell in it says."""
    code, output = container.exec_run(["sh", "-c", script])
    assert isinstance(output, bytes)
    assert code == 0, output
    return output.decode().strip()
