"""Fields with their bounds, and a base class, that bodies of several subjects share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chowder_local.core.untrusted_json import is_deeper

Name = Annotated[str, Field(min_length=1, max_length=128, examples=["my-first-agent"])]

ShortText = Annotated[str, Field(max_length=128)]

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
"""An id; its format is not validated, because an unknown or malformed one is a 404."""

SessionField = Annotated[
    str | None,
    Field(
        description="The session's name; null for the main session and OpenClaw's own.",
        examples=["project-alpha"],
    ),
]

SessionKeyField = Annotated[
    str | None, Field(description="OpenClaw's key of the session.", examples=["agent:main:main"])
]

OVERRIDES_DEPTH_MAX = 32
OVERRIDES_MAX_BYTES = 256 * 1024


def _bounded(overrides: dict[str, Any]) -> dict[str, Any]:
    for key, value in overrides.items():
        # A dot in a key adds a level.
        levels = OVERRIDES_DEPTH_MAX - 1 - key.count(".")
        if levels < 0 or is_deeper(value, levels):
            raise ValueError(f"It should be nested no deeper than {OVERRIDES_DEPTH_MAX} levels")
    if len(json.dumps(overrides)) > OVERRIDES_MAX_BYTES:
        raise ValueError(f"It should have at most {OVERRIDES_MAX_BYTES} bytes as JSON")
    return overrides


Overrides = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""Settings by name or path, of a bounded size."""


class View(BaseModel):
    """A body that `model_validate` makes from an object with its fields as attributes."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True)
