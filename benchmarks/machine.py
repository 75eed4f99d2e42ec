"""The machine and the versions of a measurement."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from chowder_local import __version__
from chowder_local.engine.image_recipe import openclaw_version

if TYPE_CHECKING:
    import docker

GIB = 1024**3


def facts(client: docker.DockerClient, image: str) -> dict[str, Any]:
    """The facts that a reader needs to judge a figure."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu_count": psutil.cpu_count(),
        "cpu_model": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / GIB),
        "kernel": platform.release(),
        "system": platform.platform(),
        "engine": f"Docker {client.version().get('Version', '?')}",
        "load_before": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        "version": __version__,
        "openclaw": openclaw_version(),
        "image": image,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
