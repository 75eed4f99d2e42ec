"""Model providers that the operator names: OpenAI-compatible endpoints, by name and URL (pure)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chowder_local.core.domain import OFFLINE_KEY, OTHER_PROVIDERS, ModelProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OLLAMA = "ollama"
"""The one that need not be named: it is looked for where Ollama is by default."""
USUAL_CONTEXT_TOKENS = 32_768
LEAST_CONTEXT_TOKENS = 4_000
"""OpenClaw refuses to work with less."""
LONGEST_ANSWER_TOKENS = 8_192

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_TAKEN = {*ModelProvider, "google", OTHER_PROVIDERS}
_OLLAMA_PORT = 11434
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """A provider that speaks OpenAI's Chat Completions; `url` is what `/chat/completions` is below.

    The key is "" if it wants none; `offline` has the built-in offline model answer in its place.
    """

    name: str
    url: str
    key: str = field(default="", repr=False)
    contexts: Mapping[str, int] = field(default_factory=dict)
    """Tokens by model, or by the provider's own name for all other ones."""

    @property
    def is_offline(self) -> bool:
        """Whether it is not called at all."""
        return self.key == OFFLINE_KEY

    @property
    def has_secret(self) -> bool:
        """Whether somebody may pay for its calls."""
        return bool(self.key) and not self.is_offline

    def context_tokens(self, model: str) -> int:
        """How much of a conversation a model can be shown, its answer included."""
        named = self.contexts.get(f"{self.name}/{model}")
        return named or self.contexts.get(self.name, USUAL_CONTEXT_TOKENS)

    @property
    def cure(self) -> str:
        """What to do if nothing answers there."""
        if self.name == OLLAMA:
            return (
                f"Is Ollama running at {self.url}? Start it with 'ollama serve', or tell the "
                "server where it is with OLLAMA_HOST or up --provider ollama=URL."
            )
        return (
            f"Is it running at {self.url}? Start it, or tell the server where it is with "
            f"up --provider {self.name}=URL."
        )


def pairs(parts: Iterable[str], what: str) -> dict[str, str]:
    """`name=value`, each; raises ValueError, without a value in it: that may be a secret."""
    found: dict[str, str] = {}
    for each in parts:
        name, equals, value = (part.strip() for part in each.partition("="))
        if not equals or not value:
            raise ValueError(f"write name={what}, such as {_EXAMPLES[what]}")
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


_EXAMPLES = {"URL": "lmstudio=http://127.0.0.1:1234/v1", "tokens": "lmstudio=16384"}


def check_name(name: str) -> None:
    """Raises ValueError for what cannot be a provider's name."""
    if name in _TAKEN:
        raise ValueError(f"{name!r} is taken: choose another name for this provider")
    if _NAME.match(name) is None:
        raise ValueError(
            f"{name!r} is no name: write up to 32 small letters, digits and hyphens, a letter first"
        )


def checked_url(url: str) -> str:
    """An endpoint's URL without a slash at its end; raises ValueError, without the URL in it."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in _USUAL_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    else:
        if "@" in parts.netloc:
            raise ValueError(
                "a provider's URL has a name or password in it, which others would see; put its "
                "key into the environment instead (NAME_API_KEY)"
            )
        if parts.query or parts.fragment:
            raise ValueError("a provider's URL may have no ? and no #")
    if not is_whole or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("a provider's URL is such as http://127.0.0.1:1234/v1")
    return url.rstrip("/")


def key_variable(name: str) -> str:
    """Where the key for an endpoint is, if it wants one: `OPENROUTER_API_KEY` for `openrouter`."""
    return f"{name.upper().replace('-', '_')}_API_KEY"


def known(
    urls: Mapping[str, str],
    contexts: Mapping[str, int],
    env: Mapping[str, str],
    *,
    is_offline: bool,
) -> dict[str, Endpoint]:
    """All that there are, with the keys that the environment has for them; Ollama last."""
    places = {OLLAMA: ollama_url(env.get("OLLAMA_HOST", ""))} | dict(urls)
    named = [*(name for name in places if name != OLLAMA), OLLAMA]
    return {
        name: Endpoint(
            name,
            places[name],
            OFFLINE_KEY if is_offline else env.get(key_variable(name), "").strip(),
            contexts,
        )
        for name in named
    }


def models_in(body: bytes) -> list[str] | None:
    """The ids in an answer of `/models`; None if it is none."""
    try:
        listed = json.loads(body)["data"]
        return [each["id"] for each in listed or () if isinstance(each["id"], str)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def ollama_url(host: str) -> str:
    """Where Ollama is, by how it reads OLLAMA_HOST (envconfig/config.go in its sources)."""
    scheme, has_scheme, rest = host.strip().strip("\"'").strip().rpartition("://")
    scheme = scheme if has_scheme and scheme in _USUAL_PORTS else "http"
    port = _USUAL_PORTS[scheme] if has_scheme else _OLLAMA_PORT
    place, _, path = rest.rpartition("@")[2].partition("/")
    try:
        parts = urlsplit(f"//{place}")
        name, port = parts.hostname or "127.0.0.1", parts.port or port
    except ValueError:
        name = "127.0.0.1"
    below = f"/{path.strip('/')}" if path.strip("/") else ""
    return f"{scheme}://{_called(name)}:{port}{below}/v1"


def _called(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    # An address that stands for all of them can be listened on, but not called.
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host
