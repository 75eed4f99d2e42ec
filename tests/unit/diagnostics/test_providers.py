"""The findings of `doctor` about other model providers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from chowder_local.core.model_endpoints import Endpoint
from chowder_local.diagnostics import checks
from chowder_local.diagnostics.checks import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = "http://127.0.0.1:9/v1"


@contextmanager
def serving(status: int, body: bytes) -> Iterator[tuple[str, list[str | None]]]:
    """A provider's URL, and the list of the credentials that it gets."""
    credentials: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            credentials.append(self.headers.get("authorization"))
            self.send_response(status if self.path == "/v1/models" else 500)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps the log quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", credentials
        finally:
            server.shutdown()
            thread.join()


def test_a_running_provider_is_listed_with_its_models() -> None:
    body = b'{"data": [%s]}' % b",".join(b'{"id": "m%d"}' % number for number in range(10))
    with serving(200, body) as (url, credentials):
        finding = checks.provider(Endpoint("lab", url, "sk-1"), is_named=True)
    assert (finding.subject, finding.level) == ("provider lab", Level.OK)
    assert finding.words.startswith(f"{url} has lab/m0, lab/m1, ")
    assert finding.words.endswith("lab/m7 and 2 more")
    assert credentials == ["Bearer sk-1"]


def test_a_provider_without_models_or_without_a_list_is_reported() -> None:
    with serving(200, b'{"data": []}') as (url, credentials):
        assert checks.provider(Endpoint("lab", url), is_named=True).words.endswith("no models")
    assert credentials == [None]
    with serving(404, b"Not found") as (url, _):
        finding = checks.provider(Endpoint("lab", url), is_named=True)
    assert (finding.level, finding.words) == (
        Level.WARN,
        f"{url}/models answers 404, and lists no models",
    )


def test_a_provider_that_does_not_run_is_a_warning_if_it_was_named() -> None:
    finding = checks.provider(Endpoint("lab", NOWHERE), is_named=True)
    assert finding.level is Level.WARN
    assert finding.words.startswith(f"nothing answers at {NOWHERE}: ")
    assert "--provider lab=URL" in (finding.cure or "")
    unnamed = checks.provider(Endpoint("ollama", NOWHERE), is_named=False)
    assert unnamed.level is Level.OK
    assert unnamed.words == f"not running at {NOWHERE}; models ollama/… need it"


def test_an_offline_provider_is_not_called() -> None:
    finding = checks.provider(Endpoint("lab", NOWHERE, "offline"), is_named=True)
    assert (finding.level, finding.words) == (Level.OK, "answered by the built-in offline model")
