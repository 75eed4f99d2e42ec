"""Replies that are made of what was asked, by Jinja."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment


class TemplateInvalid(Exception):
    """A template cannot be read, or names something that there is not; the words say what."""


def checked(template: str) -> str:
    """The template, if it can be read. Raises TemplateInvalid."""
    _compiled(template, _environment())
    return template


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """What a template says of these values. Raises TemplateInvalid."""
    from jinja2 import TemplateError

    made = _compiled(template, _environment())
    try:
        text: str = made.render(values)
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise TemplateInvalid(f"the template {template!r} fails: {error}") from None
    return text


def _environment() -> Environment:
    # Few servers are given a template, and it takes as long to import as the store.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # No file is read and nothing is run, whoever wrote it; and it is text, not a page.
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )


def _compiled(template: str, environment: Environment) -> Any:
    from jinja2 import TemplateError

    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise TemplateInvalid(f"is no template: {error}") from None
