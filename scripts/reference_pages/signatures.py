"""Classes and functions with their signatures and docstrings."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from scripts.reference_pages.markdown import fence, prose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_LINE = 88


def members(owner: type, prefix: str = "") -> Iterator[str]:
    """The public methods and properties of a class without those of its bases, in order.

    `prefix` comes before each name in its heading.
    """
    for name, member in vars(owner).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            yield f"### {prefix}{name}"
            yield fence(
                "python", f"{name}: {_render(inspect.signature(member.fget).return_annotation)}"
            )
            yield prose(inspect.getdoc(member))
        elif inspect.isfunction(member):
            yield f"### {prefix}{name}"
            yield fence("python", signature(member))
            yield prose(inspect.getdoc(member))


def signature(function: Callable[..., Any]) -> str:
    """A function's stub, without `self`; on several lines if it is long."""
    spec = inspect.signature(function)
    parts = list(_parts([each for each in spec.parameters.values() if each.name != "self"]))
    head = f"def {function.__name__}("
    has_return = spec.return_annotation is not spec.empty
    tail = f") -> {_render(spec.return_annotation)}: ..." if has_return else "): ..."
    line = head + ", ".join(parts) + tail
    if len(line) <= LONGEST_LINE:
        return line
    return "\n".join([head, *(f"    {part}," for part in parts), tail])


def _parts(parameters: list[inspect.Parameter]) -> Iterator[str]:
    is_keyword_only = False
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            is_keyword_only = True
        if each.kind is each.KEYWORD_ONLY and not is_keyword_only:
            is_keyword_only = True
            yield "*"
        stars = "**" if each.kind is each.VAR_KEYWORD else ""
        if each.kind is each.VAR_POSITIONAL:
            stars = "*"
        default = "" if each.default is each.empty else f" = {_literal(each.default)}"
        yield f"{stars}{each.name}: {_render(each.annotation)}{default}"


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _render(annotation: object) -> str:
    return (
        annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", "Any"))
    )
