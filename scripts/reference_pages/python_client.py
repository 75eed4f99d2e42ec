"""The page of the Python client, from its classes."""

from __future__ import annotations

import inspect
import re
from textwrap import indent
from typing import TYPE_CHECKING

from chowder_local import client, testing
from chowder_local.client import Client, transport, v1
from chowder_local.client.local import LocalCalls
from chowder_local.client.snapshots import SnapshotCalls
from chowder_local.client.test_support import SupportCalls
from chowder_local.client.transport import Transport
from chowder_local.client.v1 import V1Calls
from scripts.reference_pages.markdown import code, codes, fence, inline, prose, table
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.signatures import members, signature

if TYPE_CHECKING:
    from types import ModuleType

_ALIAS = re.compile(r"^ *(Json|Input) = (.+)$", re.MULTILINE)
CALLS: tuple[type, ...] = (V1Calls, LocalCalls, SupportCalls, SnapshotCalls)
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


def page() -> str:
    """The whole page."""
    pairs = [
        each for module in (transport, v1) for each in _ALIAS.findall(inspect.getsource(module))
    ]
    aliases = "; ".join(f"{code(name)} is {code(meaning)}" for name, meaning in pairs)
    parts = [
        fence("python", EXAMPLE),
        "## Client",
        fence("python", "class Client:\n" + indent(signature(Transport.__init__), "    ")),
        prose(Client.__doc__),
        f"In the signatures, {aliases}.",
        *members(Transport),
    ]
    parts += ["## Public names", PUBLIC, table(("Module", "Names"), map(_names, (client, testing)))]
    for calls in CALLS:
        parts += [f"## {inline(calls.__doc__ or '').rstrip('.')}", *members(calls)]
    return make_page("Python client", *parts)


def _names(module: ModuleType) -> tuple[str, str]:
    return code(module.__name__), codes(module.__all__)
