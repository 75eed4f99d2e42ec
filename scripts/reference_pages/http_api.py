"""The page of the HTTP API, from the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.api.openapi.document import document
from chowder_local.core.logs import REQUEST_ID_HEADER
from chowder_local.features.front import all_operations
from chowder_local.relay.scripts.rules import ReplyScript
from scripts.reference_pages.errors import status_link
from scripts.reference_pages.markdown import anchor_of, code, inline, prose, table
from scripts.reference_pages.markdown import page as make_page
from scripts.reference_pages.schemas import Schemas, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEAD = """\
Every server has this API as an OpenAPI document, and a page to try it out at `/docs`.
[Errors](errors.md) lists the errors of each status.

- `/openapi.json` is OpenAPI 3.1, because few generators of clients read a later version. Streams of
  events are texts there, whose `contentSchema` describes the events.
- `/openapi-3.2.json` is the same as OpenAPI 3.2, which has `itemSchema` for them. Use it with tools
  that check answers, such as Schemathesis.

A client in Go compiles without further packages if OpenAPI Generator makes it with
`--additional-properties=useOneOfDiscriminatorLookup=true`."""
JSON = "application/json"
SCRIPTS = "reply-script.md"


def page() -> str:
    """The whole page."""
    described = document(all_operations())
    components = described["components"]
    writer = _Writer(described)
    return make_page(
        "HTTP API",
        LEAD,
        prose(described["info"]["description"]),
        prose(components["securitySchemes"]["key"]["description"]),
        f"Every answer has the header {code(REQUEST_ID_HEADER)}. "
        + inline(components["headers"]["RequestId"]["description"]),
        "Paths have these parameters:",
        writer.path_parameters(),
        *(part for tag in described["tags"] for part in writer.tag(tag)),
        "## Objects",
        "Bodies and answers consist of these objects.",
        *writer.objects(),
    )


class _Writer:
    def __init__(self, described: Mapping[str, Any]) -> None:
        scripts = ReplyScript.model_json_schema()["$defs"]
        self._headers = described["components"]["headers"]
        self._schemas = Schemas(
            described["components"]["schemas"],
            elsewhere=dict.fromkeys([ReplyScript.__name__, *scripts], SCRIPTS),
        )
        self._operations = [
            (method, path, operation)
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
        ]
        self._bodies: dict[str, str] = {}
        """The operation with the members of a body, by the name of its schema."""

    def path_parameters(self) -> str:
        """The parameters of paths, which have the same meaning in all paths."""
        every = (each for *_, operation in self._operations for each in operation["parameters"])
        return self._parameters({each["name"]: each for each in every if each["in"] == "path"})

    def tag(self, tag: Mapping[str, str]) -> Iterator[str]:
        """The operations of a tag."""
        yield f"## {tag['name'].capitalize()}"
        yield inline(tag["description"])
        for method, path, operation in self._operations:
            if tag["name"] in operation["tags"]:
                yield f"### {operation['summary']}"
                yield f"{code(f'{method.upper()} {path}')} · {code(operation['operationId'])}"
                yield prose(operation["description"])
                others = [each for each in operation["parameters"] if each["in"] != "path"]
                yield self._parameters({each["name"]: each for each in others})
                yield from self._body(operation)
                yield self._answers(operation["responses"])

    def objects(self) -> Iterator[str]:
        """The schemas that operations refer to, in alphabetical order."""
        sent: set[str] = set()
        answered: set[str] = set()
        for *_, operation in self._operations:
            for content in operation.get("requestBody", {}).get("content", {}).values():
                # The operation has the members of the schema.
                sent.update(self._schemas.used_by(self._schemas.resolve(content["schema"])))
            for answer in operation["responses"].values():
                answered.update(self._schemas.used_by(answer.get("content", {})))
        for name in sorted(sent | answered):
            yield self._schemas.section(name, is_sent=name in sent)

    def _parameters(self, parameters: Mapping[str, Mapping[str, Any]]) -> str:
        rows = [
            (
                code(name),
                "" if each["in"] == "path" else each["in"],
                self._schemas.type_of(each["schema"]),
                "" if each["in"] == "path" else self._default(each),
                inline(each["description"]),
            )
            for name, each in parameters.items()
        ]
        return table(("Parameter", "In", "Type", "Default", "Description"), rows)

    def _default(self, parameter: Mapping[str, Any]) -> str:
        return self._schemas.default(parameter["schema"], is_required=parameter["required"])

    def _body(self, operation: Mapping[str, Any]) -> Iterator[str]:
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if "$ref" not in content["schema"]:
                yield f"The body is the bytes of a file, as {code(media_type)}."
                continue
            name = name_of(content["schema"])
            other = self._bodies.setdefault(name, operation["summary"])
            if other != operation["summary"]:
                yield f"The body is that of [{other}](#{anchor_of(other)})."
                continue
            if media_type != JSON:
                yield f"The body is {code(media_type)}."
            schema = self._schemas.resolve(content["schema"])
            yield self._schemas.members(schema, is_sent=True, word="Body member")

    def _answers(self, answers: Mapping[str, Any]) -> str:
        lines, errors = [], []
        for status, answer in answers.items():
            if "$ref" in answer:
                errors.append(status_link(status))
                continue
            contents = [self._content(*each) for each in answer.get("content", {}).items()]
            lines.append(f"- {code(status)}: {' or '.join(contents) or 'no content'}")
            for name, header in answer["headers"].items():
                if name != REQUEST_ID_HEADER:
                    description = self._headers[name_of(header)]["description"]
                    lines.append(f"- Header {code(name)}: {inline(description)}")
        if errors:
            lines.append(f"- Errors: {', '.join(errors)}")
        return "Answers:\n\n" + "\n".join(lines)

    def _content(self, media_type: str, content: Mapping[str, Any]) -> str:
        return self._schemas.type_of(content["schema"]) if media_type == JSON else code(media_type)
