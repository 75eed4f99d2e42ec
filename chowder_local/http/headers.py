"""The header fields of a request, as one mapping that is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope


def fields_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The fields by name in lower case; the values of a repeated field are joined by a comma.

    Of two values that differ it is unclear which one counts, so that neither is taken.
    """
    if (fields := scope.get("fields")) is None:
        fields = dict(scope["headers"])
        if len(fields) < len(scope["headers"]):
            fields = {}
            for name, value in scope["headers"]:
                fields[name] = fields[name] + b", " + value if name in fields else value
        scope["fields"] = fields
    return cast("Mapping[bytes, bytes]", fields)
