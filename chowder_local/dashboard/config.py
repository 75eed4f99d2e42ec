"""An instance's configuration in an editor, with OpenClaw's validation errors by line."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import OVERRIDES_DEPTH_MAX
from chowder_local.api.schemas.instances import InstanceChange
from chowder_local.core.errors.agents import ConfigProblem, ConfigRefused, FileTooLarge
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.untrusted_json import is_deeper
from chowder_local.dashboard.pages import agent_part, instance_page, notice, parse_form, part, parts
from chowder_local.http.bodies import json_of, validated
from chowder_local.http.services import instance_of, running_instance_of, services
from chowder_local.openclaw.config.agent_config import CONFIG_FILE
from chowder_local.openclaw.config.edits import HIDDEN, difference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

    Action = Callable[[Request, Instance, dict[str, Any]], Awaitable[Response]]

MACROS = "_config.html"
FORM_MAX_BYTES = 2 * 1024 * 1024
"""The form holds two documents, and its encoding takes three bytes for some characters."""
DOCUMENT_MAX_CHARS = 256 * 1024
"""Also the limit of one change."""
LOCATED_MAX_CHARS = 1000
"""A longer path has the line of its nearest parent."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_UNKNOWN_KEYS = re.compile(r"Unrecognized keys?: (.+)", re.DOTALL)


class ConfigForm(BaseModel):
    """The document as typed, and as the page had loaded it."""

    document: str = Field(min_length=1)
    before: str = "{}"


@dataclass(frozen=True)
class LocatedProblem:
    """A problem, with its line in the typed document if the line is known."""

    message: str
    path: str = ""
    line: int | None = None


async def show(request: Request) -> Response:
    return await instance_page(request, "config.html", await instance_of(request), tab="/config")


async def edit(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        document = await _document(request, instance)
        return parts(part(request, MACROS, "editor_panel", instance, document, HIDDEN))

    return await agent_part(request, "/config/editor", render)


async def check(request: Request) -> Response:
    """Validates the typed document, and changes nothing."""
    return await _with_patch(request, _check)


async def save(request: Request) -> Response:
    """Applies the typed document; if OpenClaw refuses it, nothing changes."""
    return await _with_patch(request, _save)


async def _with_patch(request: Request, action: Action) -> Response:
    instance = await running_instance_of(request)
    sent = await parse_form(request, ConfigForm, FORM_MAX_BYTES)
    # A thread finds the lines, because that takes a while for many members.
    before, document = await asyncio.to_thread(
        lambda: (read_document(sent.before), read_document(sent.document))
    )
    if isinstance(before, LocatedProblem):
        problem = {"loc": ["body", "before"], "msg": before.message, "type": "value_error"}
        raise InputInvalid([problem])
    if isinstance(document, LocatedProblem):
        return _refused(request, [document])
    try:
        patch = difference(before, document)
        validated(InstanceChange, {"openclaw_config": patch}, "body")
        return await action(request, instance, patch)
    except ConfigRefused as refused:
        problems = refused.problems or (ConfigProblem("", str(refused)),)
        return _refused(request, locate(sent.document, problems))


async def _check(request: Request, instance: Instance, patch: dict[str, Any]) -> Response:
    verdict = await services(request).config_editing.check(instance, patch)
    return parts(part(request, MACROS, "checked", verdict))


async def _save(request: Request, instance: Instance, patch: dict[str, Any]) -> Response:
    has_restarted = await services(request).config_editing.save(instance, patch)
    text = "Saved and applied." if patch else "Nothing was saved, because nothing has changed."
    if has_restarted:
        text = "Saved. OpenClaw has restarted, and takes messages again."
    document = await _document(request, instance)
    return notice(request, text, part(request, MACROS, "saved", instance, document, text))


async def _document(request: Request, instance: Instance) -> str:
    document = await services(request).config_editing.read(instance)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if len(text) > DOCUMENT_MAX_CHARS:
        raise FileTooLarge(CONFIG_FILE, DOCUMENT_MAX_CHARS)
    return text


def _refused(request: Request, problems: Sequence[LocatedProblem]) -> Response:
    return parts(part(request, MACROS, "refused", problems))


def read_document(text: str) -> dict[str, Any] | LocatedProblem:
    """The typed object, or the problem that makes it invalid."""
    if len(text) > DOCUMENT_MAX_CHARS:
        return LocatedProblem(f"It may have at most {DOCUMENT_MAX_CHARS} characters.")
    try:
        document = json_of(text.encode())
    except InputInvalid as invalid:
        (problem,) = invalid.problems
        position = next((each for each in problem["loc"] if isinstance(each, int)), 0)
        return LocatedProblem(problem["msg"], line=_line(text, position))
    if not isinstance(document, dict):
        return LocatedProblem("The configuration must be one JSON object, in braces.", line=1)
    if is_deeper(document, OVERRIDES_DEPTH_MAX):
        return LocatedProblem(f"It may be nested no deeper than {OVERRIDES_DEPTH_MAX} levels.")
    seen: set[tuple[str, ...]] = set()
    for path, line in _members(text):
        # Python's JSON parser silently keeps the last value.
        if path in seen:
            return LocatedProblem("This key occurs twice.", ".".join(path), line)
        seen.add(path)
    return document


def locate(text: str, problems: Iterable[ConfigProblem]) -> list[LocatedProblem]:
    """Problems with their lines, in order; a missing member gets its parent's line."""
    lines: dict[str, int] = {}
    for path, line in _members(text):
        # A long name of a parent would be copied for each member below it.
        if sum(map(len, path)) <= LOCATED_MAX_CHARS:
            lines.setdefault(".".join(path), line)
    located = [LocatedProblem(each.text, each.path, _line_of(lines, each)) for each in problems]
    return sorted(located, key=lambda each: each.line or 0)


def _line_of(lines: dict[str, int], problem: ConfigProblem) -> int | None:
    path = problem.path
    for key in _unknown_keys(problem.text):
        key_path = f"{path}.{key}" if path else key
        if key_path in lines:
            return lines[key_path]
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)


def _unknown_keys(message: str) -> Sequence[str]:
    match = _UNKNOWN_KEYS.match(message)
    return re.findall(r'"([^"]*)"', match[1]) if match else ()


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _members(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path and line of each member and item of a valid JSON document."""
    path: list[Any] = []
    line, at, is_key = 1, 0, False
    for match in _TOKEN.finditer(text):
        symbol = match[0]
        line += text.count("\n", at, match.start())
        at = match.start()
        is_in_list = bool(path) and isinstance(path[-1], int)
        if (is_key and symbol.startswith('"')) or (is_in_list and symbol not in "],"):
            path[-1] = json.loads(symbol) if is_key else path[-1]
            yield tuple(map(str, path)), line
        is_key = symbol == "{" or (symbol == "," and not is_in_list)
        if symbol in {"{", "["}:
            path.append("" if symbol == "{" else 0)
        elif symbol in {"}", "]"}:
            path.pop()
        elif symbol == "," and is_in_list:
            path[-1] += 1
