"""The page of errors, from their classes and the server's answers."""

from __future__ import annotations

import inspect
import json
from collections import defaultdict
from http import HTTPStatus
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from chowder_local import client
from chowder_local.core.errors import ChowderError, agents, process, requests, sandboxes, upstream
from chowder_local.features.feature import own_features
from chowder_local.http.error_rendering import SHOULD_RETRY_HEADER, error_response
from scripts.reference_pages.markdown import code, inline, paragraphs, table
from scripts.reference_pages.markdown import page as make_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SCOPE = {"type": "http", "path": "/"}
# Python before 3.13 has other names for these.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}
OWN_STATUS = "Status of a provider or a fault"
LEAD = """\
Every error of the server has a code, which is in the header `X-Error-Code` of the answer, and
`error.code` of the Python and JavaScript clients. The answer to a failed request is
`{"detail": "…"}`. If an agent's gateway or a model provider fails, it is
`{"detail": {"error": "…"}}`; if a part of the request is invalid, `detail` is a list with an entry
for each part. The two routes that send a message have OpenAI's `error` beside `detail`, whose
`code` is the same, or that of a model provider. An error of HTTP alone, such as a method that a
path does not have, has the code of its status: `method_not_allowed`. Names in
braces stand for values that differ."""
COMMAND_LINE = """\
These errors are of the command line and of the [Python client](python-client.md): a command
prints the message and ends with the exit code, and the client raises the class."""
RETRIES = """\
A conflict says by the header `x-should-retry` whether the same request may succeed later without
your doing: it is `true` where and while the table says so, and else `false`. [Which clients follow
it](../guides/messages.md#retry-safely)"""
RELAY = (
    "These errors are answers of the model relay to sandboxes. A client of the API never gets them."
)


class _Text(str):
    """A placeholder for a text, with any format."""

    __slots__ = ()

    def __format__(self, _: str) -> str:
        return str(self)


class _Number(int):
    """A placeholder for a number, with any format."""

    name: str

    def __format__(self, _: str) -> str:
        return self.name


def page() -> str:
    """The whole page."""
    by_status: defaultdict[str, list[type[ChowderError]]] = defaultdict(list)
    local: list[type[ChowderError]] = []
    relay: list[type[ChowderError]] = []
    for error in every_error():
        if error in (requests.FaultAnswered, upstream.ProviderFailed):
            by_status[OWN_STATUS].append(error)
        elif error.http_status is not None:
            by_status[status_heading(error.http_status)].append(error)
        else:
            is_local = error.__module__ in (sandboxes.__name__, process.__name__)
            (local if is_local else relay).append(error)
    groups = [(heading, by_status[heading]) for heading in sorted(by_status)]
    parts = [LEAD, table(("Status", "Codes"), (_row(*each) for each in groups))]
    for heading, errors in groups:
        parts.append(f"## {heading}")
        if heading == status_heading(HTTPStatus.CONFLICT):
            rows = ((_link(each), inline(meaning(each)), each.retry) for each in errors)
            parts += [RETRIES, table(("Code", "When", "Retry"), rows)]
        parts += [_section(each) for each in errors]
    parts += ["## Command line and Python client", COMMAND_LINE]
    parts += [_section(each, is_local=True) for each in local]
    parts += ["## Model relay", RELAY, *(_section(each) for each in relay)]
    return make_page("Errors", *parts)


def every_error() -> Iterator[type[ChowderError]]:
    """The classes of errors, in the order of their declarations."""
    for module in (requests, agents, *_of_features(), sandboxes, upstream, process):
        for value in vars(module).values():
            is_error = inspect.isclass(value) and issubclass(value, ChowderError)
            if is_error and value.__module__ == module.__name__:
                yield value


def _of_features() -> Iterator[ModuleType]:
    for each in own_features():
        if find_spec(f"{each.package}.errors") is not None:
            yield import_module(f"{each.package}.errors")


def meaning(error: type[ChowderError]) -> str:
    """The conditions of an error."""
    return paragraphs(error.__doc__)[0]


def anchor(error: type[ChowderError]) -> str:
    """The link to an error from another page."""
    return f"errors.md#{error.code}"


def status_heading(status: int) -> str:
    """The heading of the errors with a status."""
    return f"{status} {PHRASES.get(status) or HTTPStatus(status).phrase}"


def status_link(status: str) -> str:
    """A link from another page to the errors with a status; `4XX` is any of a provider's."""
    heading = OWN_STATUS if status.endswith("XX") else status_heading(int(status))
    return f"[{status}](errors.md#{_slug(heading)})"


def _slug(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _row(heading: str, errors: list[type[ChowderError]]) -> tuple[str, str]:
    return f"[{heading}](#{_slug(heading)})", ", ".join(map(_link, errors))


def _link(error: type[ChowderError]) -> str:
    return f"[{code(error.code)}](#{error.code})"


def _section(error: type[ChowderError], *, is_local: bool = False) -> str:
    example = _example(error)
    facts = [f"What to do: {inline(error.remedy)}"]
    if is_local:
        facts.insert(0, f"Message: {_message(str(example))}")
        facts += [
            f"Exit code: {code(error.exit_code)}",
            f"Class: {code(f'{_public_module(error)}.{error.__qualname__}')}",
        ]
    else:
        facts = [*_answer(example), *facts]
    lines = "\n".join(f"- {each}" for each in facts)
    return f"### {code(error.code)}\n\n{inline(meaning(error))}\n\n{lines}"


def _public_module(error: type[ChowderError]) -> str:
    is_public = error.__name__ in client.__all__
    return client.__name__ if is_public else error.__module__


def _answer(error: ChowderError) -> Iterator[str]:
    """The answer to a client, as list items."""
    response = error_response(error, SCOPE)
    detail = json.loads(bytes(response.body))["detail"]
    if isinstance(detail, list):
        yield "`detail`: a list of objects with `loc`, `msg` and `type`."
    elif isinstance(detail, dict):
        yield f"`detail.error`: {_message(detail['error'])}"
    else:
        yield f"`detail`: {_message(detail)}"
    for name, value in response.headers.items():
        if name not in {"content-type", "content-length", SHOULD_RETRY_HEADER}:
            yield f"Header: {code(f'{name}: {value}')}"


def _message(text: str) -> str:
    return "differs from case to case." if text == "{message}" else code(text)


def _example(error: type[ChowderError]) -> ChowderError:
    """An error whose message has the names of its values in braces."""
    required = {
        each.name: _placeholder(each)
        for each in inspect.signature(error).parameters.values()
        if each.default is each.empty
    }
    is_general = inspect.signature(error) == inspect.signature(ChowderError)
    has_own_message = hasattr(error, "message") or not is_general
    make: Any = error
    made: ChowderError = make(**required) if has_own_message else make("{message}")
    return made


def _placeholder(parameter: inspect.Parameter) -> Any:
    kind, placeholder = str(parameter.annotation), f"{{{parameter.name}}}"
    if kind.startswith("Sequence[Mapping"):
        return []
    if kind.startswith("Sequence"):
        return [_Text(placeholder)]
    if kind.startswith(("int", "float")):
        number = _Number(HTTPStatus.BAD_REQUEST)
        number.name = placeholder
        return number
    return _Text(placeholder)
