"""The client's requests, answers and errors, on a real socket."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chowder_local.client import Client
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.errors.upstream import StreamBroken

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


def content(body: bytes, status: int = 200, kind: str = "application/json") -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
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


def test_each_method_makes_the_call_of_the_contract(script: Script, client: Client) -> None:
    one = {"id": "i 1", "status": "running"}
    script.on("GET /v1/instances", value([one]))
    script.on("POST /v1/instances", value(one, 201))
    for call in ("GET /v1/instances/i%201", "GET /v1/instances/i%201/status"):
        script.on(call, value(one))
    for call in ("POST /v1/instances/i%201/stop", "POST /v1/instances/i%201/start"):
        script.on(call, value(one))
    script.on("DELETE /v1/instances/i%201", content(b"", 204))
    script.on("GET /local/instances/i%201/gateway", value({"token": "t"}))
    script.on("GET /local/instances/i%201", value({"egress": None}))
    script.on("PATCH /local/instances/i%201", value({"egress": "off"}))
    assert client.instances() == [one]
    assert client.create_instance("a", "openai", {"x.y": 1}) == one
    assert client.create_instance("b") == one
    for method in (client.instance, client.status, client.stop, client.start):
        assert method("i 1") == one
    client.delete("i 1")
    assert client.gateway("i 1") == {"token": "t"}
    assert client.egress("i 1") == {"egress": None}
    assert client.set_egress("i 1", "off") == {"egress": "off"}
    assert [body for call, body in script.requests if body] == [
        {"name": "a", "model_provider": "openai", "openclaw_config": {"x.y": 1}},
        {"name": "b", "model_provider": "anthropic"},
        {"egress": "off"},
    ]


def test_a_recording_is_taken_and_replayed(script: Script, client: Client) -> None:
    path = "/local/instances/i/recording"
    script.on(f"GET {path}", value({"entries": {"1": {}}}))
    script.on(f"GET {path}?after=ex-1", value({"entries": {}}))
    script.on(f"PUT {path}", value({"entries": {}, "is_replayed": True}))
    script.on(f"DELETE {path}", content(b"", 204))
    entries = client.recording("i")["entries"]
    assert client.recording("i", after="ex-1") == {"entries": {}}
    assert client.replay("i", entries)["is_replayed"]
    assert script.requests[-1] == (f"PUT {path}", {"entries": {"1": {}}})
    client.end_replay("i")


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
    ("event", "text"),
    [
        ({"type": "response.failed", "response": {"error": {"message": "limited"}}}, "limited"),
        ({"type": "error", "message": "limited"}, "limited"),
        ({"type": "error", "error": {"message": "limited"}}, "limited"),
        ({"type": "response.failed", "response": {}}, "failed"),
    ],
)
def test_an_error_event_of_a_stream_is_raised_with_its_message(
    script: Script, client: Client, event: dict[str, Any], text: str
) -> None:
    script.on("POST /v1/instances/x/responses", events(event, "[DONE]"))
    with pytest.raises(StreamBroken, match=text):
        list(client.stream_text("x", "hi", "gpt-4o"))


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


def test_text_files_are_read_and_written(script: Script) -> None:
    path = "/v1/instances/i-1/files/content"
    script.on(f"GET {path}?path=a", value({"path": "a", "content": "tide"}))
    script.on(f"PUT {path}", content(b"", 204))
    with Client(script.root_url, "k") as client:
        assert client.read_file("i-1", "a") == "tide"
        client.write_file("i-1", "a", "ebb")
    assert script.requests[1][1] == {"path": "a", "content": "ebb"}


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
