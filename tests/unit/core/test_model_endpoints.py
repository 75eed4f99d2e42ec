"""Model providers: keys in variables; names, URLs, keys and context lengths of other ones."""

from __future__ import annotations

import pytest

from chowder_local.core.domain import OFFLINE_KEY, ModelProvider
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.model_endpoints import (
    Endpoint,
    checked_url,
    default_model_keys,
    endpoints,
    models_in,
    ollama_url,
)
from chowder_local.core.settings import Settings

LAB = "http://127.0.0.1:1234/v1"
OFFLINE = dict.fromkeys(ModelProvider, OFFLINE_KEY)


def refusal(**env: str) -> str:
    with pytest.raises(SettingsInvalid) as refused:
        Settings.read({f"CHOWDER_{name}": value for name, value in env.items()})
    return str(refused.value)


def test_providers_are_given_in_a_list_or_by_options() -> None:
    listed = Settings.read({"CHOWDER_PROVIDERS": f"lab={LAB}/, far = https://far.example/api/v1,"})
    assert listed.providers == {"lab": LAB, "far": "https://far.example/api/v1"}
    chosen = Settings.read(
        {"CHOWDER_PROVIDERS": f"lab={LAB}"}, providers=("gpu=http://gpu:8000/v1",)
    )
    assert chosen.providers == {"gpu": "http://gpu:8000/v1"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (LAB, "write name=URL, such as lmstudio="),
        (f"openai={LAB}", "'openai' is reserved"),
        (f"google={LAB}", "'google' is reserved"),
        (f"Lab={LAB}", "'Lab' is not a valid name"),
        (f"a/b={LAB}", "'a/b' is not a valid name"),
        (f"lab={LAB},lab={LAB}", "'lab' is given twice"),
        ("lab=127.0.0.1:1234", "such as http://127.0.0.1:1234/v1"),
        ("lab=ftp://host/v1", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://host:99999/v1", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://host/v1?a=b", "cannot contain ?"),
    ],
)
def test_an_invalid_provider_is_refused(value: str, text: str) -> None:
    message = refusal(PROVIDERS=value)
    assert "CHOWDER_PROVIDERS: " in message
    assert text in message


def test_a_secret_in_a_url_is_refused_and_not_repeated_in_the_message() -> None:
    for url in ("http://me:hunter2@host/v1", "http://hunter2@host/v1", "http://h/v1?key=hunter2"):
        assert "hunter2" not in refusal(PROVIDERS=f"lab={url}")
    assert "environment instead (NAME_API_KEY)" in refusal(PROVIDERS="lab=http://u:p@host/v1")


def test_a_key_is_read_from_the_variable_of_its_provider_and_not_shown() -> None:
    env = {"MY_LAB_API_KEY": " sk-1 \n", "OPENAI_API_KEY": "sk-o"}
    named = Settings.read({"CHOWDER_PROVIDERS": f"my-lab={LAB},bare={LAB}"}).endpoints(env)
    assert list(named) == ["my-lab", "bare", "ollama"]
    assert (named["my-lab"].key, named["bare"].key) == ("sk-1", "")
    assert "sk-1" not in repr(named)
    assert [each.has_secret for each in named.values()] == [True, False, False]


def test_with_offline_all_endpoints_use_the_offline_model() -> None:
    named = endpoints({"lab": LAB}, {}, {"LAB_API_KEY": "sk-1"}, is_offline=True)
    assert all(each.is_offline and not each.has_secret for each in named.values())
    assert endpoints({"lab": LAB}, {}, {"LAB_API_KEY": "offline"}, is_offline=False)[
        "lab"
    ].is_offline


def test_a_context_length_is_set_for_a_model_or_its_provider() -> None:
    settings = Settings.read(
        {
            "CHOWDER_PROVIDERS": f"lab={LAB}",
            "CHOWDER_PROVIDER_CONTEXT_TOKENS": "lab=8000,lab/a/b=64000",
        }
    )
    named = settings.endpoints({})
    assert named["lab"].context_tokens("a/b") == 64_000
    assert named["lab"].context_tokens("other") == 8_000
    assert named["ollama"].context_tokens("llama3.2") == 32_768


@pytest.mark.parametrize("value", ["lab=3999", "lab=many", "lab"])
def test_a_context_length_that_is_too_small_or_invalid_is_refused(value: str) -> None:
    assert "CHOWDER_PROVIDER_CONTEXT_TOKENS: " in refusal(PROVIDER_CONTEXT_TOKENS=value)


def test_a_price_is_set_for_a_model_or_its_provider() -> None:
    settings = Settings.read({"CHOWDER_PRICES": "lab/a/b=0.5/2, lab=1/4/0.1, gpt-4o=2/8"})
    assert settings.prices == {"lab/a/b": (0.5, 2, 0.5), "lab": (1, 4, 0.1), "gpt-4o": (2, 8, 2)}


@pytest.mark.parametrize(
    "value", ["lab", "lab=1", "lab=1/2/3/4", "lab=-1/2", "lab=1/x", "lab=inf/1"]
)
def test_an_invalid_price_is_refused(value: str) -> None:
    assert "CHOWDER_PRICES: " in refusal(PRICES=value)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("'box.example'", "http://box.example:11434/v1"),
        (":56789", "http://127.0.0.1:56789/v1"),
        ("http://box.example", "http://box.example:80/v1"),
        ("https://box.example/ollama/", "https://box.example:443/ollama/v1"),
        ("[::1]:1234", "http://[::1]:1234/v1"),
        ("[::]", "http://127.0.0.1:11434/v1"),
        ("box:port", "http://127.0.0.1:11434/v1"),
        ("http://me:secret@box.example", "http://box.example:80/v1"),
    ],
)
def test_the_url_of_ollama_is_read_from_its_variable_like_ollama_does(host: str, url: str) -> None:
    assert ollama_url(host) == url


def test_ollama_may_be_named_as_a_provider() -> None:
    named = endpoints({"ollama": LAB}, {}, {"OLLAMA_HOST": "elsewhere"}, is_offline=False)
    assert named["ollama"].url == LAB


def test_the_remedy_has_the_url_and_a_command() -> None:
    assert f"running at {LAB}? Start it" in Endpoint("lab", LAB).remedy
    assert "up --provider lab=URL" in Endpoint("lab", LAB).remedy
    assert "ollama serve" in Endpoint("ollama", LAB).remedy


def test_models_are_read_from_valid_responses_only() -> None:
    assert models_in(b'{"object": "list", "data": [{"id": "a:1"}, {"id": 2}]}') == ["a:1"]
    assert models_in(b'{"object": "list", "data": null}') == []
    for other in (b"", b"[]", b'{"data": 1}', b'{"data": [{}]}', b"<html>"):
        assert models_in(other) is None


def test_the_slash_at_the_end_of_a_url_is_removed() -> None:
    assert checked_url("https://far.example/api/v1/") == "https://far.example/api/v1"


def test_keys_in_the_environment_are_real_and_the_rest_is_offline() -> None:
    env = {"OPENAI_API_KEY": " sk-o\n", "GEMINI_API_KEY": "", "OTHER": "x"}
    assert default_model_keys(env, offline=False) == OFFLINE | {ModelProvider.OPENAI: "sk-o"}
    every = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "GEMINI_API_KEY": "g"}
    expected = dict(zip(ModelProvider, "aog", strict=True))
    assert default_model_keys(every, offline=False) == expected


def test_with_offline_no_key_of_the_environment_is_used() -> None:
    assert default_model_keys({"OPENAI_API_KEY": "sk-o"}, offline=True) == OFFLINE
