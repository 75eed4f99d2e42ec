"""What a request's head says, looked through once for all who ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope


def fields_of(scope: Scope) -> Mapping[bytes, bytes]:
    """By name in small letters; of a field that comes twice both values, with a comma between.

    Nobody knows which of two that differ counts; together they are neither.
    """
    if (known := scope.get("fields")) is None:
        known = dict(scope["headers"])
        if len(known) < len(scope["headers"]):
            known = {}
            for name, value in scope["headers"]:
                known[name] = known[name] + b", " + value if name in known else value
        scope["fields"] = known
    return cast("Mapping[bytes, bytes]", known)
