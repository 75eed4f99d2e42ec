"""The page of the tools for editors, from the tools' table."""

from __future__ import annotations

from chowder_local.api.access import Access
from chowder_local.features.front import all_operations
from chowder_local.features.mcp.server import DOCUMENT, TEMPLATES
from chowder_local.features.mcp.tools import EditorTool, tools
from scripts.reference_pages.markdown import code, codes, inline, table
from scripts.reference_pages.markdown import page as make_page

LEAD = """\
The server has these tools of the [Model Context Protocol](https://modelcontextprotocol.io) at
`/mcp` (streamable HTTP) and by `chowder-local mcp --stdio`. [Editors](../guides/editors.md) says
how to set them up. A tool stands for a call of the [HTTP API](http-api.md), takes its parameters
and members, and needs the same key. *organization* is the organization's own key; other words are
permissions of a scoped key."""
RESOURCES = "## Resources\n\nEach is a JSON document."


def page() -> str:
    """The whole page."""
    documents = {DOCUMENT: "The API as an OpenAPI document."}
    documents |= {uri: text for uri, (_, text) in TEMPLATES.items()}
    return make_page(
        "Editor tools",
        LEAD,
        table(
            ("Tool", "Takes", "Key", "What it does"),
            [_row(each) for each in tools(all_operations()).values()],
        ),
        RESOURCES,
        table(("URI", "What it is"), [(code(uri), text) for uri, text in documents.items()]),
    )


def _row(tool: EditorTool) -> tuple[str, ...]:
    required = tool.schema.get("required", ())
    optional = [name for name in tool.schema["properties"] if name not in required]
    takes = [codes(required)] if required else []
    takes += [f"optional: {codes(optional)}"] if optional else []
    key = "any" if tool.access in {Access.ANYONE, Access.ANY_KEY} else tool.access.value
    first, _, _ = tool.description.partition("\n\n")
    return code(tool.name), "; ".join(takes), str(key), inline(first)
