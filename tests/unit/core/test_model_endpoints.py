"""Other model providers: what they may be called, where they are, and which key is theirs."""

from __future__ import annotations

import pytest

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.model_endpoints import Endpoint, checked_url, known, models_in, ollama_url
from chowder_local.core.settings import Settings

LAB = "http://127.0.0.1:1234/v1"


def refusal(**env: str) -> str:
    with pytest.raises(SettingsInvalid) as refused:
        Settings.read({f"CHOWDER_{name}": value for name, value in env.items()})
    return str(refused.value)


def test_providers_are_named_in_a_list_or_by_options() -> None:
    listed = Settings.read({"CHOWDER_PROVIDERS": f"lab={LAB}/, far = https://far.example/api/v1,"})
    assert listed.providers == {"lab": LAB, "far": "https://far.example/api/v1"}
    chosen = Settings.read(
        {"CHOWDER_PROVIDERS": f"lab={LAB}"}, providers=("gpu=http://gpu:8000/v1",)
    )
    assert chosen.providers == {"gpu": "http://gpu:8000/v1"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (LAB, "write name=URL, such as lmstudio="),
        (f"openai={LAB}", "'openai' is taken"),
        (f"google={LAB}", "'google' is taken"),
        (f"Lab={LAB}", "'Lab' is no name"),
        (f"a/b={LAB}", "'a/b' is no name"),
        (f"lab={LAB},lab={LAB}", "'lab' is there twice"),
        ("lab=127.0.0.1:1234", "such as http://127.0.0.1:1234/v1"),
        ("lab=ftp://host/v1", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://host:99999/v1", "such as http://127.0.0.1:1234/v1"),
        ("lab=http://host/v1?a=b", "may have no ?"),
    ],
)
def test_what_cannot_be_a_provider_is_refused_with_words(given: str, words: str) -> None:
    said = refusal(PROVIDERS=given)
    assert "CHOWDER_PROVIDERS: " in said
    assert words in said


def test_a_secret_in_a_url_is_refused_and_not_repeated() -> None:
    for url in ("http://me:hunter2@host/v1", "http://hunter2@host/v1", "http://h/v1?key=hunter2"):
        said = refusal(PROVIDERS=f"lab={url}")
        assert "hunter2" not in said
    assert "environment instead (NAME_API_KEY)" in refusal(PROVIDERS="lab=http://u:p@host/v1")


def test_a_key_is_found_by_its_providers_name_and_shown_nowhere() -> None:
    env = {"MY_LAB_API_KEY": " sk-1 \n", "OPENAI_API_KEY": "sk-o"}
    found = Settings.read({"CHOWDER_PROVIDERS": f"my-lab={LAB},bare={LAB}"}).endpoints(env)
    assert list(found) == ["my-lab", "bare", "ollama"]
    assert (found["my-lab"].key, found["bare"].key) == ("sk-1", "")
    assert "sk-1" not in repr(found)
    assert [each.has_secret for each in found.values()] == [True, False, False]


def test_offline_has_all_of_them_answered_by_the_offline_model() -> None:
    found = known({"lab": LAB}, {}, {"LAB_API_KEY": "sk-1"}, is_offline=True)
    assert all(each.is_offline and not each.has_secret for each in found.values())
    assert known({"lab": LAB}, {}, {"LAB_API_KEY": "offline"}, is_offline=False)["lab"].is_offline


def test_a_context_is_a_models_or_its_providers() -> None:
    settings = Settings.read(
        {
            "CHOWDER_PROVIDERS": f"lab={LAB}",
            "CHOWDER_PROVIDER_CONTEXT_TOKENS": "lab=8000,lab/a/b=64000",
        }
    )
    found = settings.endpoints({})
    assert found["lab"].context_tokens("a/b") == 64_000
    assert found["lab"].context_tokens("other") == 8_000
    assert found["ollama"].context_tokens("llama3.2") == 32_768


@pytest.mark.parametrize("given", ["lab=3999", "lab=many", "lab"])
def test_a_context_that_is_too_small_or_none_is_refused(given: str) -> None:
    assert "CHOWDER_PROVIDER_CONTEXT_TOKENS: " in refusal(PROVIDER_CONTEXT_TOKENS=given)


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
def test_ollama_is_where_its_own_variable_says(host: str, url: str) -> None:
    assert ollama_url(host) == url


def test_ollama_may_be_named_like_any_other() -> None:
    found = known({"ollama": LAB}, {}, {"OLLAMA_HOST": "elsewhere"}, is_offline=False)
    assert found["ollama"].url == LAB


def test_what_to_do_is_said_with_the_url() -> None:
    assert f"running at {LAB}? Start it" in Endpoint("lab", LAB).cure
    assert "up --provider lab=URL" in Endpoint("lab", LAB).cure
    assert "ollama serve" in Endpoint("ollama", LAB).cure


def test_models_are_read_from_a_list_and_from_nothing_else() -> None:
    assert models_in(b'{"object": "list", "data": [{"id": "a:1"}, {"id": 2}]}') == ["a:1"]
    assert models_in(b'{"object": "list", "data": null}') == []
    for other in (b"", b"[]", b'{"data": 1}', b'{"data": [{}]}', b"<html>"):
        assert models_in(other) is None


def test_a_url_is_kept_without_its_last_slash() -> None:
    assert checked_url("https://far.example/api/v1/") == "https://far.example/api/v1"
