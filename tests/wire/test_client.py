"""The client's requests, answers and errors, on a real socket."""

import json
import socket
import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from chowder_local.api.openapi.document import example_of
from chowder_local.api.operations import IN_PATH
from chowder_local.client import Client
from chowder_local.client.plain_calls import PlainCalls
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.features.front import all_operations

NAMES = {"skill_name": "name"}
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Script:
    """A server that answers each path with its answers in turn, and keeps the requests."""

    root_url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> None:
        self.answers[call] = list(answers)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        call = f"{request.command} {request.path}"
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        is_form = "form" in request.headers.get("Content-Type", "")
        self.requests.append((call, body if is_form else json.loads(body) if body else None))
        self.keys.append(request.headers.get("Authorization"))
        answers = self.answers[call]
        (answers.pop(0) if len(answers) > 1 else answers[0])(request)


def content(
    body: bytes,
    status: int = 200,
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Type", kind)
        request.end_headers()
        request.wfile.write(body)

    return answer


def value(value: Any, status: int = 200) -> Answer:
    return content(json.dumps(value).encode(), status)


def events(*data: Any) -> Answer:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in data]
    return content(
        "".join(f"data: {line}\n\n" for line in lines).encode(), kind="text/event-stream"
    )


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.answer(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.root_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield script
        server.shutdown()
        thread.join()


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(f"{script.root_url}/v1", "chd_org_k", timeout_s=5.0) as client:
        yield client


def test_the_key_goes_along_and_the_root_serves_both_apis(script: Script, client: Client) -> None:
    script.on("GET /v1/organization", value({"name": "default"}))
    script.on("GET /local/health", value({"status": "ok"}))
    assert client.base_url == f"{script.root_url}/v1"
    assert client.organization() == {"name": "default", "offline_providers": []}
    assert client.health() == {"status": "ok"}
    assert script.keys == ["Bearer chd_org_k"] * 2


def test_without_a_key_none_is_sent(script: Script) -> None:
    script.on("GET /local/health", value({"status": "ok"}))
    with Client(script.root_url) as client:
        client.health()
    assert script.keys == [None]


def test_each_plain_method_makes_the_call_of_its_row(script: Script, client: Client) -> None:
    """With the examples of the schemas, which the call must carry as they are."""
    plain = [each for each in all_operations() if each.method_name in vars(PlainCalls)]
    assert len(plain) > 40
    for operation in plain:
        method = getattr(client, operation.method_name)
        takes = signature(method).parameters
        in_path = {
            NAMES.get(name, name): f"{name} /1" for name, _ in IN_PATH.findall(operation.path)
        }
        query, body = (_example(model, takes) for model in (operation.query, operation.body))
        path = IN_PATH.sub(lambda match: f"{match[1]}%20%2F1", operation.path)
        texts = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in query.items()
        }
        call = f"{operation.method} {path}{'?' if query else ''}{urlencode(texts)}"
        answer: Any = [{"a": 1}] if isinstance(operation.answer, list) else {"a": 1}
        script.on(call, value(answer) if operation.answer else content(b"", 204))
        assert method(**in_path, **query, **body) == (answer if operation.answer else None)
        sent = {_member(operation.body, name): each for name, each in body.items()}
        assert script.requests[-1] == (call, sent or ({} if operation.body else None))


def _example(model: Any, takes: Container[str]) -> dict[str, Any]:
    """An example of a model's members that the method takes, with their defaults."""
    if model is None:
        return {}
    schema = model.model_json_schema(by_alias=False)
    found = example_of(schema | {"required": [*schema["properties"]]}, schema.get("$defs", {}))
    return {name: each for name, each in found.items() if name in takes and each is not None}


def _member(model: Any, name: str) -> str:
    """The name by which a body has the parameter of a method."""
    return model.model_fields[name].alias or name


def test_what_is_none_is_not_sent_and_a_time_is_iso_8601(script: Script, client: Client) -> None:
    script.on("POST /v1/keys", value({"id": "k"}, 201))
    client.create_key("ci", ("i", "j"), ["read"], datetime(2027, 1, 1, tzinfo=UTC))
    client.create_key("ci", ["i"], ["read"])
    first = {"name": "ci", "instance_ids": ["i", "j"], "permissions": ["read"]}
    assert [body for _, body in script.requests] == [
        {**first, "expires_at": "2027-01-01T00:00:00+00:00"},
        {**first, "instance_ids": ["i"]},
    ]


def test_settings_that_may_be_null_are_sent_so(script: Script, client: Client) -> None:
    script.on("PATCH /local/instances/i%201", value({"egress": None}))
    script.on("PUT /local/instances/i%201/replies", value({"own": {}}))
    script.on("PUT /local/replies", value({"own": {}}))
    client.set_egress("i 1", None)
    client.set_hibernation("i 1", is_allowed=False)
    client.set_replies({"replies": []}, "i 1")
    client.set_replies({"replies": []})
    assert [body for _, body in script.requests] == [
        {"egress": None}, {"hibernate": False}, {"replies": []}, {"replies": []},
    ]  # fmt: skip


def test_the_organization_is_changed_and_moved_to_a_tier(script: Script, client: Client) -> None:
    link = f"{script.root_url}/local/portal?session=s.x"
    script.on("PATCH /v1/organization", value({"model_providers": ["openai"]}))
    script.on("POST /v1/subscription/portal", value({"url": link}))
    script.on("POST /local/portal?session=s.x&tier=crab", moved("/local/portal?session=s.x"))
    script.on("GET /local/portal?session=s.x", content(b"<p>", kind="text/html"))
    script.on("GET /v1/subscription", value({"tier": "crab"}))
    assert client.set_model_keys({"openai": "offline"}) == {"model_providers": ["openai"]}
    client.rename_organization("kitchen")
    assert client.set_tier("crab") == {"tier": "crab"}
    assert [body for _, body in script.requests if body] == [
        {"model_api_keys": {"openai": "offline"}}, {"name": "kitchen"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"detail": "Instance not found."}', "Instance not found."),
        (b'{"detail": {"error": "Gateway unavailable"}}', "Gateway unavailable"),
        (b'{"detail": [{"loc": ["body", "name"], "msg": "too long"}]}', "body.name: too long"),
        (b"<html>no</html>", "<html>no</html>"),
        (b"", "Not Found"),
        (b"[]", "[]"),
    ],
)
def test_a_refusal_has_the_servers_message(
    script: Script, client: Client, body: bytes, text: str
) -> None:
    script.on("GET /v1/instances/x", content(body, 404))
    with pytest.raises(ApiRefused) as refused:
        client.instance("x")
    assert refused.value.status == 404
    assert str(refused.value) == f"{text} (HTTP 404)"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ({"detail": "Spent."}, {"X-Error-Code": "budget_exceeded"}, "budget_exceeded"),
        ({"error": {"code": "rate_limit_exceeded"}}, {"X-Error-Code": "provider_failed"},
         "rate_limit_exceeded"),
        ({"error": {"code": None}}, {}, "api_refused"),
        ({"detail": "An answer of the hosted service."}, {}, "api_refused"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_code_of_the_servers_error(
    script: Script, client: Client, body: Any, headers: dict[str, str], code: str
) -> None:
    script.on("GET /v1/instances/x", content(json.dumps(body).encode(), 402, headers=headers))
    with pytest.raises(ApiRefused) as refused:
        client.instance("x")
    assert (refused.value.code, ApiRefused.code) == (code, "api_refused")


def test_a_closed_port_means_that_no_server_runs() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client:
            assert not client.is_ready()
            with pytest.raises(ServerNotRunning, match="up --detach"):
                client.health()


def test_a_silent_server_is_another_error_than_a_missing_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with (
            Client(url, timeout_s=0.1) as client,
            pytest.raises(ServerSilent, match="did not answer in time"),
        ):
            client.health()


@pytest.mark.parametrize("url", ["/local/\x1b[31m", None])
def test_a_link_that_is_none_is_an_error(script: Script, client: Client, url: Any) -> None:
    script.on("POST /v1/subscription/portal", content(json.dumps({"url": url}).encode()))
    with pytest.raises(ServerSilent, match="link to its portal"):
        client.set_tier("crab")


def test_an_answer_that_cannot_be_decoded_is_an_error(script: Script, client: Client) -> None:
    script.on("GET /local/health", content(b"{}", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ServerSilent, match="Error -3"):
        client.health()


def test_a_broken_connection_is_an_error(script: Script, client: Client) -> None:
    script.on("GET /local/health", lambda request: None)
    with pytest.raises(ServerSilent, match="broke off"):
        client.health()


@pytest.mark.parametrize("body", [b"hello", b"[]"])
def test_another_program_on_the_port_is_not_taken_for_ours(
    script: Script, client: Client, body: bytes
) -> None:
    script.on("GET /local/health", content(body))
    script.on("GET /local/ready", content(body))
    assert not client.is_ready()
    with pytest.raises(ServerSilent, match="not a chowder-local server"):
        client.health()


def test_ready_is_what_the_server_says(script: Script, client: Client) -> None:
    script.on("GET /local/ready", value({"ready": False}, 503), value({"ready": True}))
    assert not client.is_ready()
    assert client.is_ready()


def test_waiting_polls_until_it_runs(script: Script, client: Client) -> None:
    script.on(
        "GET /v1/instances/x/status",
        value({"status": "provisioning"}),
        value({"status": "provisioning"}),
        value({"status": "running"}),
    )
    script.on("GET /v1/instances/x", value({"id": "x", "gateway_url": "u"}))
    heard: list[str] = []
    assert client.wait_until_running("x", on_status=heard.append)["gateway_url"] == "u"
    assert heard == ["provisioning", "provisioning", "running"]


@pytest.mark.parametrize(
    ("message", "text"), [("no key", "no key"), (None, "The instance is error.")]
)
def test_waiting_ends_with_the_message_of_a_failed_boot(
    script: Script, client: Client, message: str | None, text: str
) -> None:
    script.on("GET /v1/instances/x/status", value({"status": "error"}))
    script.on("GET /v1/instances/x", value({"error_message": message}))
    with pytest.raises(BootFailed, match=text):
        client.wait_until_running("x")


def test_waiting_ends_at_the_timeout(script: Script, client: Client) -> None:
    script.on("GET /v1/instances/x/status", value({"status": "provisioning"}))
    with pytest.raises(BootFailed, match=r"still provisioning after 0\.2 s"):
        client.wait_until_running("x", timeout_s=0.2)


def test_a_message_goes_to_main_or_to_a_session_of_any_name(script: Script, client: Client) -> None:
    script.on("POST /v1/instances/x/responses", value({"id": "resp_1"}))
    script.on("POST /v1/instances/x/session/a%2Fb%20%C3%BC/responses", value({"id": "resp_2"}))
    assert client.respond("x", "hi", "gpt-4o") == {"id": "resp_1"}
    assert client.respond("x", [{"role": "user"}], "gpt-4o", "a/b ü") == {"id": "resp_2"}
    assert [body for _, body in script.requests] == [
        {"model": "gpt-4o", "input": "hi"},
        {"model": "gpt-4o", "input": [{"role": "user"}]},
    ]


def test_a_stream_gives_every_event_and_its_text(script: Script, client: Client) -> None:
    pieces = [{"type": "response.output_text.delta", "delta": text} for text in ("He", "llo")]
    script.on(
        "POST /v1/instances/x/responses",
        content(
            b': hello\n\ndata: {"type": "response.created"}\n\n'
            + b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in pieces)
            + b"data: [DONE]\n\n"
        ),
    )
    assert list(client.stream("x", "hi", "gpt-4o")) == [{"type": "response.created"}, *pieces]
    assert list(client.stream_text("x", "hi", "gpt-4o")) == ["He", "llo"]
    assert script.requests[0][1]["stream"] is True


def test_a_stream_that_ends_too_early_is_an_error(script: Script, client: Client) -> None:
    script.on("POST /v1/instances/x/responses", events({"type": "response.created"}))
    with pytest.raises(StreamBroken, match="broke off"):
        list(client.stream("x", "hi", "gpt-4o"))


def test_a_stream_whose_connection_breaks_is_the_same_error(script: Script, client: Client) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b'data: {"type": "response.created"}\n\n')

    script.on("POST /v1/instances/x/responses", cut)
    with pytest.raises(StreamBroken, match="broke off before its end"):
        list(client.stream("x", "hi", "gpt-4o"))
    script.on("POST /v1/instances/x/responses", lambda request: None)
    with pytest.raises(ServerSilent):
        list(client.stream("x", "hi", "gpt-4o"))


@pytest.mark.parametrize(
    ("event", "text", "code"),
    [
        ({"type": "response.failed",
          "response": {"error": {"message": "limited", "code": "budget_exceeded"}}},
         "limited", "budget_exceeded"),
        ({"type": "error", "message": "limited", "code": "quota"}, "limited", "quota"),
        ({"type": "error", "error": {"message": "limited"}}, "limited", "stream_broken"),
        ({"type": "response.failed", "response": {}}, "failed", "stream_broken"),
    ],
)  # fmt: skip
def test_an_error_event_of_a_stream_is_raised_with_its_message_and_code(
    script: Script, client: Client, event: dict[str, Any], text: str, code: str
) -> None:
    script.on("POST /v1/instances/x/responses", events(event, "[DONE]"))
    with pytest.raises(StreamBroken, match=text) as broken:
        list(client.stream_text("x", "hi", "gpt-4o"))
    assert broken.value.code == code


def test_a_stream_that_is_refused_is_an_ordinary_refusal(script: Script, client: Client) -> None:
    script.on("POST /v1/instances/x/responses", value({"detail": "Instance is stopped."}, 409))
    with pytest.raises(ApiRefused, match="is stopped"):
        list(client.stream("x", "hi", "gpt-4o"))


def test_closing_a_stream_closes_its_connection(script: Script, client: Client) -> None:
    is_closed = threading.Event()

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        data = {"type": "response.output_text.delta", "delta": "x"}
        request.wfile.write(b"data: %s\n\n" % json.dumps(data).encode())
        request.connection.settimeout(5)
        assert request.connection.recv(1) == b""
        is_closed.set()

    script.on("POST /v1/instances/x/responses", endless)
    pieces = client.stream_text("x", "hi", "gpt-4o")
    assert next(pieces) == "x"
    pieces.close()
    assert is_closed.wait(5)


def test_logs_come_line_by_line(script: Script, client: Client) -> None:
    for follow in ("false", "true"):
        path = f"GET /local/instances/x/logs?tail=2&follow={follow}"
        script.on(path, content(b"one\ntwo\n", kind="text/plain"))
    assert list(client.logs("x", 2)) == ["one", "two"]
    assert list(client.logs("x", 2, follow=True)) == ["one", "two"]


def test_the_environments_proxy_is_not_used_for_the_loopback(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    script.on("GET /local/health", value({"status": "ok"}))
    for host in ("127.0.0.1", "localhost"):
        with Client(script.root_url.replace("127.0.0.1", host)) as client:
            assert client.health() == {"status": "ok"}
    with Client("http://agents.invalid") as client, pytest.raises(ServerNotRunning):
        client.health()


def test_transcripts_are_read_for_any_session_name(script: Script, client: Client) -> None:
    page: dict[str, Any] = {"turns": [], "before": None}
    script.on("GET /local/instances/x/sessions", value({"sessions": [{"name": "a/b"}]}))
    script.on("GET /local/instances/x/transcript?limit=100", value(page))
    script.on("GET /local/instances/x/transcript?limit=100&key=k%3A1", value(page))
    named = "GET /local/instances/x/sessions/a%2Fb%20%C3%A9/transcript"
    script.on(f"{named}?limit=5&before=0", value(page))
    assert client.sessions("x") == [{"name": "a/b"}]
    assert client.transcript("x") == page
    assert client.transcript("x", key="k:1") == page
    assert client.transcript("x", "a/b é", limit=5, before=0) == page


def test_text_files_are_read_and_written(script: Script) -> None:
    path = "/v1/instances/i-1/files/content"
    script.on(f"GET {path}?path=a", value({"path": "a", "content": "tide"}))
    script.on(f"PUT {path}", content(b"", 204))
    with Client(script.root_url, "k") as client:
        assert client.read_file("i-1", "a") == "tide"
        client.write_file("i-1", "a", "ebb")
    assert script.requests[1][1] == {"path": "a", "content": "ebb"}


def test_files_are_listed_uploaded_and_downloaded(script: Script, tmp_path: Path) -> None:
    entry = {"name": "x", "path": "a/x"}
    script.on("GET /v1/instances/i-1/files?path=a", value({"path": "a", "entries": [entry]}))
    script.on("POST /v1/instances/i-1/files/upload", content(b"", 204))
    script.on("GET /v1/instances/i-1/files/download?path=a%2Fx", content(b"\x00\xff"))
    (tmp_path / "x.bin").write_bytes(b"\x00sent")
    with Client(script.root_url, "k") as client:
        assert client.files("i-1", "a") == [entry]
        with (tmp_path / "x.bin").open("rb") as file:
            client.upload("i-1", "a/", file)
        assert b"".join(client.download("i-1", "a/x")) == b"\x00\xff"
    form = script.requests[1][1]
    assert b'name="path"\r\n\r\na/\r\n' in form
    assert b'name="file"; filename="x.bin"' in form
    assert b"\r\n\r\n\x00sent\r\n" in form


def test_a_download_that_breaks_off_is_an_error(script: Script) -> None:
    def broken(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"12345")
        request.close_connection = True

    script.on("GET /v1/instances/i-1/files/download?path=x", broken)
    with Client(script.root_url, "k") as client, pytest.raises(ServerSilent, match="broke off"):
        list(client.download("i-1", "x"))


def test_former_names_warn_and_do_the_same(script: Script, client: Client) -> None:
    script.on("GET /local/instances/i", value({"egress": None}))
    with pytest.warns(DeprecationWarning, match=r"call instance_settings\(\)"):
        assert client.egress("i") == {"egress": None}
    script.on("POST /v1/subscription/portal", value({"url": "/local/portal?session=s"}))
    script.on("POST /local/portal?session=s&tier=crab", content(b""))
    script.on("GET /v1/subscription", value({"tier": "crab"}))
    with pytest.warns(DeprecationWarning, match=r"call set_tier\(\)"):
        assert client.move("crab") == {"tier": "crab"}


def moved(path: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(303)
        request.send_header("Location", path)
        request.end_headers()

    return answer
