"""Model providers as the operator names them: keys in variables, and other endpoints (pure)."""

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
"""The endpoint that always exists, at Ollama's default address unless the operator names it."""
DEFAULT_CONTEXT_TOKENS = 32_768
MIN_CONTEXT_TOKENS = 4_000
"""OpenClaw refuses to work with less."""
MAX_ANSWER_TOKENS = 8_192

MODEL_KEY_VARIABLES = {
    ModelProvider.ANTHROPIC: "ANTHROPIC_API_KEY",
    ModelProvider.OPENAI: "OPENAI_API_KEY",
    ModelProvider.GEMINI: "GEMINI_API_KEY",
}

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_RESERVED_NAMES = {*ModelProvider, "google", OTHER_PROVIDERS}
_OLLAMA_PORT = 11434
_DEFAULT_PORTS = {"http": 80, "https": 443}


def default_model_keys(env: Mapping[str, str], offline: bool) -> dict[ModelProvider, str]:
    """The keys in the environment, and the offline model for providers without one."""
    keys = {} if offline else env
    return {
        provider: keys.get(variable, "").strip() or OFFLINE_KEY
        for provider, variable in MODEL_KEY_VARIABLES.items()
    }


@dataclass(frozen=True)
class Endpoint:
    """A provider with OpenAI's Chat Completions API at `url` + `/chat/completions`.

    The key is "" if the provider needs none, and `offline` for the built-in offline model.
    """

    name: str
    url: str
    key: str = field(default="", repr=False)
    contexts: Mapping[str, int] = field(default_factory=dict)
    """Context lengths in tokens by `provider/model`, or by `provider` for its other models."""

    @property
    def is_offline(self) -> bool:
        """Whether the offline model answers in place of the provider."""
        return self.key == OFFLINE_KEY

    @property
    def has_secret(self) -> bool:
        """Whether it has a real key, so that its calls may cost money."""
        return bool(self.key) and not self.is_offline

    def context_tokens(self, model: str) -> int:
        """The context length of a model, including its answer."""
        tokens = self.contexts.get(f"{self.name}/{model}")
        return tokens or self.contexts.get(self.name, DEFAULT_CONTEXT_TOKENS)

    @property
    def remedy(self) -> str:
        """What to do if nothing answers at the URL."""
        if self.name == OLLAMA:
            return (
                f"Is Ollama running at {self.url}? Start it with 'ollama serve', or tell the "
                "server where it is with OLLAMA_HOST or up --provider ollama=URL."
            )
        return (
            f"Is it running at {self.url}? Start it, or tell the server where it is with "
            f"up --provider {self.name}=URL."
        )


def parse_pairs(parts: Iterable[str], what: str) -> dict[str, str]:
    """The values by name of parts such as `name=value`; `what` names the values in errors.

    Raises ValueError if a part is incomplete or a name repeats. It has no value, a possible secret.
    """
    pairs: dict[str, str] = {}
    for each in parts:
        name, equals, value = (part.strip() for part in each.partition("="))
        if not equals or not value:
            raise ValueError(f"write name={what}, such as {_EXAMPLES[what]}")
        if name in pairs:
            raise ValueError(f"{name!r} is given twice")
        pairs[name] = value
    return pairs


_EXAMPLES = {
    "URL": "lmstudio=http://127.0.0.1:1234/v1",
    "tokens": "lmstudio=16384",
    "USD": "lmstudio=0.5/2",
}


def check_name(name: str) -> None:
    """Raises ValueError if a provider cannot have this name."""
    if name in _RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved: choose another name for this provider")
    if _NAME.match(name) is None:
        raise ValueError(
            f"{name!r} is not a valid name: use up to 32 lowercase letters, digits and hyphens, "
            "beginning with a letter"
        )


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises ValueError if it cannot be an endpoint's. The message does not have the URL.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    else:
        if "@" in parts.netloc:
            raise ValueError(
                "a provider's URL cannot contain a user name or password, which others would see; "
                "put the key into the environment instead (NAME_API_KEY)"
            )
        if parts.query or parts.fragment:
            raise ValueError("a provider's URL cannot contain ? or #")
    if not is_valid or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError("a provider's URL must be such as http://127.0.0.1:1234/v1")
    return url.rstrip("/")


def key_variable(name: str) -> str:
    """The variable of an endpoint's key, such as `OPENROUTER_API_KEY` for `openrouter`."""
    return f"{name.upper().replace('-', '_')}_API_KEY"


def endpoints(
    urls: Mapping[str, str],
    contexts: Mapping[str, int],
    env: Mapping[str, str],
    *,
    is_offline: bool,
) -> dict[str, Endpoint]:
    """The endpoints by name, with their keys from the environment; Ollama is the last."""
    all_urls = {OLLAMA: ollama_url(env.get("OLLAMA_HOST", ""))} | dict(urls)
    names = [*(name for name in all_urls if name != OLLAMA), OLLAMA]
    return {
        name: Endpoint(
            name,
            all_urls[name],
            OFFLINE_KEY if is_offline else env.get(key_variable(name), "").strip(),
            contexts,
        )
        for name in names
    }


def models_in(body: bytes) -> list[str] | None:
    """The model ids in a response of `/models`; None if the body is no such response."""
    try:
        models = json.loads(body)["data"]
        return [each["id"] for each in models or () if isinstance(each["id"], str)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def ollama_url(variable: str) -> str:
    """The URL that OLLAMA_HOST means to Ollama (envconfig/config.go in its sources)."""
    scheme, has_scheme, rest = variable.strip().strip("\"'").strip().rpartition("://")
    scheme = scheme if has_scheme and scheme in _DEFAULT_PORTS else "http"
    port = _DEFAULT_PORTS[scheme] if has_scheme else _OLLAMA_PORT
    netloc, _, path = rest.rpartition("@")[2].partition("/")
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname or "127.0.0.1", parts.port or port
    except ValueError:
        host = "127.0.0.1"
    prefix = f"/{path.strip('/')}" if path.strip("/") else ""
    return f"{scheme}://{_url_host(host)}:{port}{prefix}/v1"


def _url_host(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    # Clients cannot connect to a wildcard address.
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host
