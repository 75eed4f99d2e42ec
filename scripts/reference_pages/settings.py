"""The page of settings, from the Settings class."""

from __future__ import annotations

from chowder_local.core.data_dir_layout import CLIENT_NAMES, PREFIX
from chowder_local.core.settings import Settings
from scripts.reference_pages.markdown import code, codes, inline, table
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.schemas import Schemas

LEAD = """\
A setting is an environment variable of the process that runs `chowder-local up`. An option of
`up` wins over the variable; [the command line](cli.md#chowder-local-up) lists the options. A
name with the prefix that is not listed here is an error, so a misspelled setting never goes
unnoticed.

Names end with the unit of their value: `_S` is seconds, `_MB` is megabytes of 1,048,576 bytes.
Paths may begin with `~`."""


def page() -> str:
    """The whole page."""
    schema = Settings.model_json_schema()
    schemas = Schemas(schema.get("$defs", {}))
    rows = []
    for name, member in schema["properties"].items():
        kind = {"array": "list", "object": "pairs"}.get(member.get("type", ""))
        type_name = kind or schemas.type_of(member).removesuffix(" or null")
        rows.append(
            (
                code(PREFIX + name.upper()),
                code(name),
                type_name,
                schemas.default(member, is_required=False),
                inline(member["description"]),
            )
        )
    headers = ("Environment variable", "Name", "Type", "Default", "Meaning")
    return make_page(
        "Settings",
        LEAD,
        table(headers, rows),
        f"{codes(sorted(CLIENT_NAMES), ', ')} have the prefix, but are for clients and tests: the "
        "server ignores them. `chowder-local env` prints the address and the key.",
    )
