"""Nothing in the input of a call under `/local` is ignored, nor in the arguments of a tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from chowder_local.api.routes import OPERATIONS
from chowder_local.core.strict_model import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = {"HookBody"}
"""OpenClaw's own, which grow with its hooks."""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for each in annotation.model_fields.values():
            yield from _models(each.annotation)
    for each in get_args(annotation):
        yield from _models(each)


MODELS = {
    model.__name__: model
    for operation in OPERATIONS
    if operation.is_local
    for part in (operation.body, operation.query)
    for model in _models(part)
}


def _problems(model: type[BaseModel], content: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(content)
    return {each["loc"]: each["type"] for each in refused.value.errors()}


@pytest.mark.parametrize("name", sorted(MODELS.keys() - OPEN))
def test_an_unknown_member_is_refused(name: str) -> None:
    assert _problems(MODELS[name], {"sesion": "x"})["sesion",] == "extra_forbidden"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_boolean_is_no_number(name: str) -> None:
    model = MODELS[name]
    numbers = dict.fromkeys(numbers_of(model), False)
    if numbers:
        assert {loc[0] for loc in _problems(model, numbers)} >= numbers.keys()
