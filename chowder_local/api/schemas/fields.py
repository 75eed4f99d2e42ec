"""What bodies of several subjects share: fields with their bounds, and views of attributes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=128, examples=["my-first-agent"])]

ShortText = Annotated[str, Field(max_length=128)]

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
"""In a view; what a client names is looked up, and of what is no id there is nothing."""

OVERRIDES_DEPTH_MAX = 32
OVERRIDES_MAX_BYTES = 256 * 1024


def _bounded(overrides: dict[str, Any]) -> dict[str, Any]:
    for key, value in overrides.items():
        # A dot in a key is a level, too.
        if key.count(".") + 1 + _depth(value) > OVERRIDES_DEPTH_MAX:
            raise ValueError(f"It should be nested no deeper than {OVERRIDES_DEPTH_MAX} levels")
    if len(json.dumps(overrides)) > OVERRIDES_MAX_BYTES:
        raise ValueError(f"It should have at most {OVERRIDES_MAX_BYTES} bytes as JSON")
    return overrides


def _depth(value: Any) -> int:
    """How many levels a value has; bodies have no more than can be walked like this."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


Overrides = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""Settings by name or path, of a bounded size."""


class View(BaseModel):
    """An answer that is made from the attributes of what it shows."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True)

    @classmethod
    def of(cls, source: object) -> Self:
        """The view of a source that has each field as an attribute."""
        return cls.model_validate(source)
