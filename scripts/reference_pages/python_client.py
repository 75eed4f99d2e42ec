"""The page of the Python client, from its classes."""

from __future__ import annotations

import inspect
import re
from textwrap import indent
from typing import TYPE_CHECKING

from chowder_local import client, testing
from chowder_local.client import Client, calls, transport
from chowder_local.client.transport import Transport
from chowder_local.features.front import all_operations
from scripts.reference_pages.client_methods import plain_calls
from scripts.reference_pages.markdown import anchor_of, code, codes, fence, prose, table
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.signatures import members, signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

_ALIAS = re.compile(r"^ *(Json|Input) = (.+)$", re.MULTILINE)
EXAMPLE = """\
import os

from chowder_local.client import Client

with Client(os.environ["CHOWDER_BASE_URL"], os.environ["CHOWDER_KEY"]) as client:
    for instance in client.instances():
        print(instance["name"], instance["status"])"""


PUBLIC = """\
Import these. Other modules and names of the package are its own, and change without notice. Each
error is a subclass of `ChowderError`; [Errors](errors.md#command-line-and-python-client) says when
it is raised."""

NULL_MEMBER = """\
A member that is None is not sent; `NULL` sends null, which takes a value away:
`client.update_job(instance_id, job_id, session=NULL)`."""

PLAIN = """\
Each is one call of the [HTTP API](http-api.md), which says what its answer has."""


def page() -> str:
    """The whole page."""
    pairs = [
        each for module in (transport, calls) for each in _ALIAS.findall(inspect.getsource(module))
    ]
    aliases = "; ".join(f"{code(name)} is {code(meaning)}" for name, meaning in pairs)
    parts = [
        fence("python", EXAMPLE),
        "## Client",
        fence("python", "class Client:\n" + indent(signature(Transport.__init__), "    ")),
        prose(Client.__doc__),
        f"In the signatures, {aliases}. {NULL_MEMBER}",
        *members(Transport),
    ]
    parts += ["## Public names", PUBLIC, table(("Module", "Names"), map(_names, (client, testing)))]
    parts += ["## Streams, files, waiting and messages", *members(Client)]
    parts += ["## Plain calls", PLAIN, *_linked(members(plain_calls()))]
    return make_page("Python client", *parts)


def _linked(parts: Iterable[str]) -> Iterator[str]:
    """The parts, with links from each method to its calls."""
    summaries: dict[str, list[str]] = {}
    for each in all_operations():
        summaries.setdefault(f"### {each.method_name}", []).append(each.summary)
    for part in parts:
        yield part
        if part in summaries:
            links = (f"[{each}](http-api.md#{anchor_of(each)})" for each in summaries[part])
            yield f"HTTP: {', '.join(links)}"


def _names(module: ModuleType) -> tuple[str, str]:
    return code(module.__name__), codes(module.__all__)
