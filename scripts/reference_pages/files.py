"""The pages of seed files and reply scripts, from their models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.relay.scripts import rules
from chowder_local.relay.scripts.expressions import LENGTH_MAX, RENDERED_MAX, SIZE_MAX, TEMPLATE_MAX
from chowder_local.seeding.desired_state import Document
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.markdown import prose
from scripts.reference_pages.schemas import Schemas

if TYPE_CHECKING:
    from pydantic import BaseModel

SEED_LEAD = """\
A seed file is YAML or JSON. `chowder-local seed FILE` and `chowder-local up --seed FILE` bring
the server to what it declares: they create what is missing, change what differs, and leave
alone what the file does not name. Unknown members are errors. See [Seeding and
reset](../guides/seeding-and-reset.md) for examples."""
REPLY_LEAD = f"""\
A reply script is YAML or JSON, and decides what the offline model answers. A list of rules
alone is a script, too. Unknown members are errors. See [Scripted
replies](../guides/scripted-replies.md) for examples.

A script has at most {rules.MAX_RULES:,} rules, and {rules.MAX_BYTES:,} bytes if it comes by
the API. A regular expression has at most {LENGTH_MAX:,} characters, and {SIZE_MAX:,} with its
repetitions written out; all of a script together have {rules.MAX_PATTERN_SIZE:,}. A template
has at most {TEMPLATE_MAX:,} characters, and its text {RENDERED_MAX:,}."""


def seed_file_page() -> str:
    """The page of seed files."""
    return _page("Seed file", SEED_LEAD, Document, prefix="Desired")


def reply_script_page() -> str:
    """The page of reply scripts."""
    return _page("Reply script", REPLY_LEAD, rules.ReplyScript)


def _page(title: str, lead: str, model: type[BaseModel], prefix: str = "") -> str:
    schema = model.model_json_schema()
    schemas = Schemas(schema["$defs"], prefix=prefix, may_omit_null=True)
    return make_page(
        title,
        lead,
        f"## {model.__name__}",
        prose(schema["description"]),
        schemas.members(schema, is_sent=True),
        *(schemas.section(name, is_sent=True) for name in schemas.used_by(schema)),
    )
