"""Every failure the product has words for: one shallow tree, each a fact with a stable code.

Which HTTP status a fact gets is the edge's business (web/failures.py), which exit code the CLI's.
"""

from __future__ import annotations

from typing import ClassVar


class ChowderError(Exception):
    """Something went wrong in a way that we can explain; `str()` is one sentence for a person."""

    code: ClassVar[str] = "error"
