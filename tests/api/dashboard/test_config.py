"""An instance's configuration: shown without secrets, validated and saved."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.dashboard.config import DOCUMENT_MAX_CHARS
from chowder_local.openclaw.config.edits import HIDDEN, SCHEMA_FILE
from tests.api.dashboard.conftest import Elements
from tests.scripted.gateway import ok, refused

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

SOURCE: dict[str, Any] = {
    "gateway": {"port": 18789, "auth": {"token": HIDDEN}},
    "models": {"providers": {"chowder-openai": {"apiKey": HIDDEN}}},
    "agents": {"defaults": {"thinkingDefault": "low"}},
    "channels": {"telegram": {"botToken": HIDDEN}},
}
SHOWN = {name: SOURCE[name] for name in ("agents", "channels")}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "agents": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"defaults": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"thinkingDefault": {"type": "string"}},
            }},
        },
        "channels": {"type": "object"},
    },
}  # fmt: skip


class Texts(HTMLParser):
    """The texts of a page's text areas, by name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._name: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._name = dict(attrs).get("name") if tag == "textarea" else None

    def handle_endtag(self, _: str) -> None:
        self._name = None

    def handle_data(self, data: str) -> None:
        if self._name is not None:
            self.found[self._name] = self.found.get(self._name, "") + data


@pytest.fixture
async def path(visitor: Visitor) -> str:
    world = visitor.http.world
    world.engine.image_files[SCHEMA_FILE] = json.dumps(SCHEMA).encode()
    instance = await world.created()
    world.gateway.rpc_answers |= {
        "config.get": ok({"hash": "h", "sourceConfig": SOURCE}),
        "config.schema.lookup": ok({"reloadKind": "hot"}),
    }
    return f"/instances/{instance.id}/config"


def edited(**changes: Any) -> dict[str, str]:
    return {"document": json.dumps(SHOWN | changes, indent=2), "before": json.dumps(SHOWN)}


def patches(visitor: Visitor) -> list[Any]:
    return [json.loads(each["raw"]) for each in visitor.http.world.gateway.called("config.patch")]


async def test_the_document_hides_settings_of_the_server(visitor: Visitor, path: str) -> None:
    assert f'hx-get="{path}/editor"' in (await visitor.get(path)).text
    html = (await visitor.get(f"{path}/editor")).text
    texts = Texts(html).found
    assert json.loads(texts["document"]) == json.loads(texts["before"]) == SHOWN


async def test_an_edit_is_saved_and_hidden_values_are_kept(visitor: Visitor, path: str) -> None:
    agents = {"defaults": {"thinkingDefault": "high"}}
    answer = await visitor.post(path, edited(agents=agents))
    assert answer.status_code == 200, answer.text
    assert "Saved and applied." in answer.text
    assert patches(visitor) == [{"agents": agents}]
    (instance,) = (await visitor.http.get("/v1/instances")).json()
    assert instance["openclaw_config"] == {"agents": agents}


async def test_a_restart_is_reported(visitor: Visitor, path: str) -> None:
    visitor.http.world.gateway.requires_restart = True
    answer = await visitor.post(path, edited(agents={"defaults": {"thinkingDefault": "high"}}))
    assert "OpenClaw has restarted" in answer.text


async def test_an_unchanged_document_is_not_saved(visitor: Visitor, path: str) -> None:
    answer = await visitor.post(path, edited())
    assert "nothing has changed" in answer.text
    assert "Nothing has been changed yet." in (await visitor.post(f"{path}/check", edited())).text
    assert patches(visitor) == []


async def test_validating_changes_nothing_and_predicts_a_restart(
    visitor: Visitor, path: str
) -> None:
    form = edited(agents={"defaults": {"thinkingDefault": "high"}})
    answer = await visitor.post(f"{path}/check", form)
    assert "schema accepts the document" in answer.text
    assert "<code>agents.defaults.thinkingDefault</code>" in answer.text
    assert "No restart is needed." in answer.text
    # A setting outside the schema is looked up by its parent.
    visitor.http.world.gateway.rpc_answers["config.schema.lookup"] = [
        refused("config schema path not found"),
        ok({"reloadKind": "restart"}),
    ]
    answer = await visitor.post(f"{path}/check", form)
    assert "OpenClaw restarts for" in answer.text
    lookups = visitor.http.world.gateway.called("config.schema.lookup")
    assert [each["path"] for each in lookups[-2:]] == [
        "agents.defaults.thinkingDefault",
        "agents.defaults",
    ]
    assert patches(visitor) == []


async def test_schema_problems_are_shown_with_their_lines(visitor: Visitor, path: str) -> None:
    form = edited(agents={"defaults": {"thinkingDefault": 5, "nonsense": 1}})
    answer = await visitor.post(f"{path}/check", form)
    assert answer.status_code == 200
    assert "for 2 reasons" in answer.text
    lines = [each["data-line"] for each in Elements(answer.text).all("button")]
    assert lines == ["4", "5"]
    assert "<code>agents.defaults.thinkingDefault</code>" in answer.text
    assert "Unrecognized key: &#34;nonsense&#34;" in answer.text
    # The typed text is still in the page, because the response does not replace it.
    assert not Elements(answer.text).all("textarea")


async def test_openclaws_refusals_are_shown_with_their_lines(visitor: Visitor, path: str) -> None:
    status, body = refused("invalid config: channels.telegram: no <b>")
    body["error"]["details"] = {
        "issues": [{"path": "channels.telegram.x", "message": "no <b>"}, "?", {"path": 5}]
    }
    visitor.http.world.gateway.rpc_answers["config.patch"] = (status, body)
    answer = await visitor.post(path, edited(channels={"telegram": {"botToken": HIDDEN, "x": 1}}))
    assert answer.status_code == 200
    assert "no &lt;b&gt;" in answer.text
    assert [each["data-line"] for each in Elements(answer.text).all("button")] == ["10"]


REFUSED_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"gateway": {"port": 5}}, "gateway.port"),
    ({"plugins": {"allow": ["x"]}}, "plugins.allow"),
    ({"agents": {"defaults": {"thinkingDefault": HIDDEN}}}, "hidden value of another path"),
]


async def test_changes_of_the_servers_settings_are_refused(visitor: Visitor, path: str) -> None:
    for changes, words in REFUSED_CHANGES:
        for address in (path, f"{path}/check"):
            answer = await visitor.post(address, edited(**changes))
            assert "Refused" in answer.text, (changes, address)
            assert words in answer.text, (changes, address)
        assert patches(visitor) == [], changes


async def test_an_invalid_document_is_reported_with_its_line(visitor: Visitor, path: str) -> None:
    for document in ("{", "[]", '{"a": 1, "a": 2}', '{"a": 1e999}'):
        answer = await visitor.post(path, {"document": document, "before": "{}"})
        assert answer.status_code == 200, document
        assert "Refused" in answer.text, document
        assert Elements(answer.text).all("button", **{"data-line": "1"}), document


async def test_a_form_without_a_document_is_refused(visitor: Visitor, path: str) -> None:
    assert (await visitor.post(path, {})).status_code == 422
    assert (await visitor.post(path, {"document": "{}", "before": "{"})).status_code == 422


async def test_a_configuration_is_shown_as_text(visitor: Visitor, path: str) -> None:
    hostile = "</textarea><script>alert(1)</script>"
    source = {"agents": {"defaults": {"thinkingDefault": hostile}}}
    visitor.http.world.gateway.rpc_answers["config.get"] = ok({"hash": "h", "sourceConfig": source})
    html = (await visitor.get(f"{path}/editor")).text
    assert not Elements(html).all("script")
    assert json.loads(Texts(html).found["document"]) == source


async def test_a_document_too_long_for_a_page_is_reported(visitor: Visitor, path: str) -> None:
    source = {"agents": {"defaults": {"thinkingDefault": "x" * DOCUMENT_MAX_CHARS}}}
    visitor.http.world.gateway.rpc_answers["config.get"] = ok({"hash": "h", "sourceConfig": source})
    answer = await visitor.get(f"{path}/editor")
    assert "openclaw.json is longer than" in answer.text
    assert len(answer.content) < DOCUMENT_MAX_CHARS
