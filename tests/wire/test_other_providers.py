"""Providers that the operator named, on real sockets: what they are sent, and how they fail."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.core.domain import OFFLINE_KEY, SandboxId
from chowder_local.core.errors.requests import ModelMissing, ModelUnknown, ProviderReserved
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.core.model_endpoints import Endpoint
from chowder_local.relay.prices import Price, Prices
from chowder_local.relay.upstreams import Catalogue
from chowder_local.relay.wire.errors import error_message
from chowder_local.relay.wire.wire_format import Usage
from chowder_local.upstream.forward import Forwarder, open_client
from tests.scripted.serving import loopback_client
from tests.unit.core.test_metrics import FIGURES
from tests.wire.test_relay import Upstream, answer, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Serve = Callable[[Any], AbstractAsyncContextManager[str]]
    OpenRelay = Callable[..., AbstractAsyncContextManager[Any]]

NOWHERE = "http://127.0.0.1:9"
TOKEN = {"authorization": "Bearer sandbox-1.relay-token"}
ASKED = {
    "model": "lab/Qwen/Qwen3:8b",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "max_completion_tokens": 64,
}
EVENTS = [
    {"choices": [{"index": 0, "delta": {"content": "Hello."}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}},
]
STREAM = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in EVENTS)
ANSWER = answer(200, STREAM + b"data: [DONE]\n\n", content_type="text/event-stream")
LISTED = answer(200, {"data": [{"id": "llama3.2:latest"}, {"id": "qwen3:8b"}]})


def lab(url: str, key: str = "") -> dict[str, Endpoint]:
    return {"lab": Endpoint("lab", f"{url}/v1", key)}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback_client(timeout=20, trust_env=False, headers=TOKEN) as client:
        yield client


@pytest.mark.parametrize("key", ["", "sk-lab"])
async def test_a_call_arrives_with_the_models_own_id_and_no_key_but_its_providers(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, key: str
) -> None:
    upstream = Upstream(ANSWER)
    async with serve(upstream) as url, open_relay(key, NOWHERE, endpoints=lab(url, key)) as relay:
        found = await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
    assert found.content == STREAM + b"data: [DONE]\n\n"
    (sent,) = upstream.requests
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"].get("authorization") == (f"Bearer {key}" if key else None)
    body = json.loads(sent["body"])
    assert (body["model"], body["max_tokens"]) == ("Qwen/Qwen3:8b", 64)
    assert body["messages"] == ASKED["messages"]


@pytest.mark.parametrize(("key", "is_billed"), [("", False), ("sk-lab", True)])
async def test_a_call_is_counted_kept_and_recorded_under_its_providers_name(
    serve: Serve,
    open_relay: OpenRelay,
    http: httpx.AsyncClient,
    tmp_path: Path,
    key: str,
    is_billed: bool,
) -> None:
    async with (
        serve(Upstream(ANSWER)) as url,
        open_relay(key, NOWHERE, endpoints=lab(url, key), record=tmp_path) as relay,
    ):
        await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
    ((kind, counts),) = relay.usage
    assert (kind.provider, kind.model, kind.is_billed) == ("lab", "lab/Qwen/Qwen3:8b", is_billed)
    assert (counts.input_tokens, counts.output_tokens) == (12, 3)
    call = relay.call_log.get("o", "ex-1")
    assert (call.provider, call.outcome) == ("lab", "answered")
    told = relay.metrics.render(FIGURES).decode()
    assert 'chowder_model_calls_total{outcome="answered",provider="lab"} 1.0' in told
    (path,) = tmp_path.iterdir()
    assert path.name == "0001-lab-Qwen-Qwen3-8b.json"
    entry = json.loads(path.read_text())
    assert entry["asked"]["provider"] == "lab"
    assert len(entry["answered"]["events"]) == 4


async def test_a_call_without_a_key_costs_something_if_its_model_has_a_price(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    prices = Prices({"lab/Qwen/Qwen3:8b": Price(1_000_000, 0, 0)})
    async with (
        serve(Upstream(ANSWER)) as url,
        open_relay("", NOWHERE, endpoints=lab(url), prices=prices) as relay,
    ):
        await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
        ((kind, _),) = relay.usage
        call = relay.call_log.get("o", "ex-1")
    assert kind.is_billed
    assert call.cost_usd(Usage(input_tokens=12)) == 12


async def test_a_recording_answers_with_no_provider_there(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    from chowder_local.relay import recordings

    async with (
        serve(Upstream(ANSWER)) as url,
        open_relay("", NOWHERE, endpoints=lab(url), record=tmp_path) as relay,
    ):
        await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
    async with open_relay("", NOWHERE, endpoints=lab(NOWHERE)) as relay:
        await relay.recordings.put("i", recordings.read(tmp_path))
        found = await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
        assert "Hello." in found.text
        assert relay.call_log.get("o", "ex-1").source == "recording"


async def test_the_key_offline_selects_the_offline_model(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay(OFFLINE_KEY, NOWHERE, endpoints=lab(NOWHERE, OFFLINE_KEY)) as relay:
        found = await http.post(
            f"{relay.url}/other/chat/completions", json={**ASKED, "stream": False}
        )
    assert found.json()["choices"][0]["message"]["content"].startswith("[offline] Turn 1.")
    assert relay.usage[0][0].is_billed is False


async def test_a_provider_that_does_not_run_is_told_with_its_url_and_the_cure(
    open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    async with open_relay("", NOWHERE, endpoints=lab(NOWHERE)) as relay:
        found = await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
    words = str(relay.failures.find(error_message(found.content)))
    assert words.startswith("The model provider lab did not answer: ")
    assert f"Is it running at {NOWHERE}/v1? Start it" in words


async def test_it_may_take_longer_than_others_to_begin(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:

    async def slow(send: Any) -> None:
        await asyncio.sleep(0.3)
        await ANSWER(send)

    async with (
        serve(Upstream(slow)) as url,
        open_relay("", url, endpoints=lab(url), first_byte_timeout_s=0.1) as relay,
    ):
        found = await http.post(f"{relay.url}/other/chat/completions", json=ASKED)
    assert found.status_code == 200


@pytest.mark.parametrize(
    ("key", "model", "kind"),
    [
        (None, "lab/a", ProviderReserved),
        (None, "nobody/a", ModelUnknown),
        # As if it were one of the providers that have keys of organizations.
        (None, "openai/gpt-4o", ModelUnknown),
    ],
)
async def test_what_may_not_be_called_is_not(
    serve: Serve,
    open_relay: OpenRelay,
    http: httpx.AsyncClient,
    key: str | None,
    model: str,
    kind: type[Exception],
) -> None:
    upstream = Upstream(ANSWER)
    async with serve(upstream) as url, open_relay(key, url, endpoints=lab(url)) as relay:
        found = await http.post(
            f"{relay.url}/other/chat/completions", json={**ASKED, "model": model}
        )
    assert isinstance(relay.failures.find(error_message(found.content)), kind)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "other/completions"),
        ("GET", "other/models"),
        ("GET", "other/chat/completions"),
        ("POST", "other/../api/pull"),
        ("POST", "lab/chat/completions"),
    ],
)
async def test_nothing_but_chat_completions_is_reached(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient, method: str, path: str
) -> None:
    upstream = Upstream(ANSWER)
    async with serve(upstream) as url, open_relay("", url, endpoints=lab(url)) as relay:
        raw = httpx.URL(relay.url).copy_with(raw_path=f"/{path}".encode())
        assert (await http.request(method, raw, json=ASKED)).status_code == 404
    assert upstream.requests == []


def ollama(url: str, key: str = "") -> Endpoint:
    return Endpoint("ollama", f"{url}/v1", key)


@pytest.fixture
async def catalogue() -> AsyncIterator[Catalogue]:
    async with open_client(is_proxied=False) as client:
        yield Catalogue(Forwarder(client))


async def test_ollama_is_asked_once_for_a_model_that_it_has(
    serve: Serve, catalogue: Catalogue
) -> None:
    upstream = Upstream(LISTED)
    async with serve(upstream) as url:
        for model in ("llama3.2", "llama3.2", "qwen3:8b"):
            await catalogue.check(ollama(url, "sk-ollama"), model)
    assert [sent["path"] for sent in upstream.requests] == ["/v1/models"] * 2
    assert upstream.requests[0]["headers"]["authorization"] == "Bearer sk-ollama"


async def test_the_list_of_models_has_none_of_a_provider_that_does_not_answer(
    serve: Serve, catalogue: Catalogue
) -> None:
    async with serve(Upstream(LISTED)) as url:
        assert await catalogue.models(ollama(url)) == ["llama3.2:latest", "qwen3:8b"]
    assert await catalogue.models(ollama(NOWHERE)) == []


async def test_a_model_that_ollama_lacks_is_refused_with_those_it_has(
    serve: Serve, catalogue: Catalogue
) -> None:
    async with serve(Upstream(LISTED)) as url:
        with pytest.raises(ModelMissing) as missing:
            await catalogue.check(ollama(url), "qwen3")
    assert str(missing.value) == (
        "Ollama does not have the model 'qwen3'. It has: ollama/llama3.2:latest, ollama/qwen3:8b. "
        "Get it with: ollama pull qwen3"
    )


@pytest.mark.parametrize("listing", [answer(404, b"404 page not found"), answer(200, b"Hello")])
async def test_what_lists_nothing_is_left_to_speak_for_itself(
    serve: Serve, catalogue: Catalogue, listing: Any
) -> None:
    async with serve(Upstream(listing)) as url:
        await catalogue.check(ollama(url), "anything")


async def test_ollama_that_does_not_run_or_hangs_is_told_with_the_cure(
    serve: Serve, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProviderFailed, match=f"running at {NOWHERE}/v1.*ollama serve"):
        await catalogue.check(ollama(NOWHERE), "llama3.2")
    monkeypatch.setattr("chowder_local.relay.upstreams.TIMEOUT_S", 0.1)
    async with serve(Upstream(hang)) as url:
        with pytest.raises(ProviderFailed, match=r"no answer within 0\.1 seconds.*ollama serve"):
            await catalogue.check(ollama(url), "llama3.2")


async def test_an_offline_ollama_is_not_asked(catalogue: Catalogue) -> None:
    await catalogue.check(ollama(NOWHERE, OFFLINE_KEY), "anything")


async def test_what_is_wrong_with_a_stream_is_known_before_openclaw_has_it(
    serve: Serve, open_relay: OpenRelay, http: httpx.AsyncClient
) -> None:
    failing = b'data: {"error": {"message": "slot ran out of memory"}}\n\n'
    upstream = Upstream(answer(200, failing, content_type="text/event-stream"))
    async with (
        serve(upstream) as url,
        open_relay("", NOWHERE, endpoints=lab(url)) as relay,
        http.stream("POST", f"{relay.url}/other/chat/completions", json=ASKED) as found,
    ):
        await anext(found.aiter_bytes())
        failure = relay.failures.latest(SandboxId("sandbox-1"), 0.0)
    told = "The model provider lab failed within its answer: slot ran out of memory"
    assert str(failure) == relay.call_log.get("o", "ex-1").error == told
