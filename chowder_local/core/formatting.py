"""Formats numbers for people."""

from __future__ import annotations


def size_of(size_bytes: float) -> str:
    """A number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
