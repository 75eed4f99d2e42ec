"""What an operator can choose: one frozen object, read once from a mapping that is passed in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from chowder_local.core import model_endpoints
from chowder_local.core.addresses import is_loopback
from chowder_local.core.domain import Egress, ModelProvider, Tier
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "CHOWDER_"
CLIENT_NAMES = frozenset({"CHOWDER_BASE_URL", "CHOWDER_KEY"})
"""Names with our prefix that are the clients', printed by `chowder-local env`."""

_LISTS = {"cors_origins", "allowed_hosts", "providers", "provider_context_tokens"}


class _InDataDir:
    """A path in the data directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, settings: Settings, _: type[Settings]) -> Path:
        return settings.data_dir / self._name


class Settings(BaseModel):
    """Each field is the environment variable `CHOWDER_<FIELD>`; the CLI's options win over it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(2469, ge=1, le=65535, description="Port the API listens on.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+/?$",
        description="Where clients find the server, if not where it listens: for one in a "
        "container, at the published port.",
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("chowder-local"),
        description="Where the database, keys and logs are kept.",
    )
    key_file: Path | None = Field(
        None,
        description="Where the default organization's key is kept, if not in the data directory.",
    )
    offline: bool = Field(
        False, description="The default organization gets the offline model for every provider."
    )
    tier: Tier | None = Field(
        None, description="Tier of the default organization: shrimp, crab, lobster or whale."
    )
    image: str | None = Field(
        None, description="Sandbox image to use instead of the one this version builds."
    )
    base_image: str = Field(
        "node:24-trixie-slim", description="Image that the sandbox image is built on."
    )
    ca_bundle: Path | None = Field(
        None, description="PEM file that sandboxes and image builds trust besides the usual ones."
    )
    egress: Egress = Field(
        Egress.ON,
        description=(
            "off: sandboxes reach the model relay and nothing outside, unless one is set apart."
        ),
    )
    memory_limit_mb: int = Field(2048, ge=512, description="Memory a sandbox may use.")
    cpu_limit: float = Field(2.0, gt=0, description="Processors a sandbox may use.")
    pids_limit: int = Field(512, ge=64, description="Processes and threads a sandbox may have.")
    disk_limit_mb: int | None = Field(
        None,
        ge=256,
        description="Disk a sandbox may use; it is ended when it is seen to use more.",
    )
    disk_interval_s: float = Field(
        60.0, gt=0, description="How often is looked at what sandboxes use, if that has a limit."
    )
    boot_timeout_s: float = Field(
        180.0, gt=0, description="How long a sandbox may take to be ready."
    )
    boot_concurrency: int = Field(2, ge=1, description="Sandboxes that boot at the same time.")
    warm_pool_size: int = Field(
        2, ge=0, description="Blank agents kept ready, where there is memory for them; 0 for none."
    )
    freeze_after_s: float = Field(
        75.0,
        ge=0,
        description="How long a blank agent stays awake before it is frozen; OpenClaw needs a "
        "minute to put its databases away.",
    )
    max_running: int | None = Field(
        None,
        ge=1,
        description="Agents in memory at once, if not as many as the engine's machine can hold.",
    )
    paused_ttl_s: float = Field(
        900.0, gt=0, description="How long a stopped agent stays in memory; then only on disk."
    )
    drain_timeout_s: float = Field(
        10.0, gt=0, description="How long a stop waits for the turn that is running."
    )
    stop_grace_s: int = Field(
        3,
        ge=0,
        description="How long requests may go on when the server stops.",
    )
    reconcile_interval_s: float = Field(
        5.0, gt=0, description="How often the store and the engine are made to agree."
    )
    engine_timeout_s: float = Field(
        30.0, gt=0, description="How long one call to the engine may take."
    )
    engine_threads: int = Field(8, ge=1, description="Calls to the engine at the same time.")
    model_first_byte_timeout_s: float = Field(
        60.0, gt=0, description="How long a model provider may take to begin its answer."
    )
    model_idle_timeout_s: float = Field(
        300.0, gt=0, description="How long a model provider may be silent within its answer."
    )
    compaction_timeout_s: float = Field(
        60.0,
        gt=0,
        description="How long an agent may take within a message to shorten a conversation that "
        "has outgrown a named provider's model.",
    )
    anthropic_base_url: str = Field(
        "https://api.anthropic.com", description="Where the relay finds Anthropic."
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1", description="Where the relay finds OpenAI."
    )
    gemini_base_url: str = Field(
        "https://generativelanguage.googleapis.com/v1beta",
        description="Where the relay finds Gemini.",
    )
    providers: dict[str, str] = Field(
        default_factory=dict,
        description="Other model providers: name=URL of an OpenAI-compatible API, with commas.",
    )
    provider_context_tokens: dict[str, int] = Field(
        default_factory=dict,
        description=(
            "Tokens that their models can be shown, name=tokens or name/model=tokens, with commas."
        ),
    )
    clawhub_url: str | None = Field(
        None,
        pattern="^https?://[^/]",
        description=(
            "Where sandboxes find ClawHub, if not at its own address; from a sandbox this "
            "machine is `relay.local`."
        ),
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Longest request body that the API takes."
    )
    transfer_idle_timeout_s: float = Field(
        60.0, gt=0, description="How long an upload or download of a file may stand still."
    )
    replies: Path | None = Field(
        None, description="YAML file of scripted replies for the offline model."
    )
    record: Path | None = Field(
        None, description="Folder that every model call of a real provider is added to."
    )
    replay: Path | None = Field(
        None, description="Folder of such a recording, from which model calls are answered."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Browser origins allowed besides loopback ones, separated by commas."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names that the server is called by, besides loopback ones, with commas.",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(
        "line", pattern="^(line|json)$", description="line, or json: one object a line."
    )

    @field_validator("providers", mode="before")
    @classmethod
    def _endpoints(cls, given: Any) -> Any:
        named = model_endpoints.pairs(given, "URL") if isinstance(given, tuple) else dict(given)
        for name in named:
            model_endpoints.check_name(name)
        return {name: model_endpoints.checked_url(url) for name, url in named.items()}

    @field_validator("provider_context_tokens", mode="before")
    @classmethod
    def _contexts(cls, given: Any) -> Any:
        return model_endpoints.pairs(given, "tokens") if isinstance(given, tuple) else given

    @field_validator("provider_context_tokens")
    @classmethod
    def _long_enough(cls, contexts: dict[str, int]) -> dict[str, int]:
        least = model_endpoints.LEAST_CONTEXT_TOKENS
        for name, tokens in contexts.items():
            if tokens < least:
                raise ValueError(f"{name}: OpenClaw wants {least} tokens at least")
        return contexts

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            # A star would open what the list is there to close.
            if re.fullmatch(r"(\[[\w.:]+\]|[\w.:-]+)(:\d+)?", host) is None:
                raise ValueError(f"{host!r} is no host name; give names such as box.example")
        return hosts

    @field_validator("data_dir", "key_file", "ca_bundle", "replies", "record", "replay")
    @classmethod
    def _found_from_anywhere(cls, path: Path | None) -> Path | None:
        # A detached server runs in another directory, and only a shell expands a "~".
        return None if path is None else path.expanduser().absolute()

    @classmethod
    def read(cls, env: Mapping[str, str], **options: Any) -> Self:
        """Settings from the environment, with options (those that are not None) winning.

        Raises SettingsInvalid, which names each unknown variable or bad value.
        """
        values: dict[str, Any] = {}
        for name, value in env.items():
            if name.startswith(PREFIX) and name not in CLIENT_NAMES:
                values[name.removeprefix(PREFIX).lower()] = value
        # A typo in a name would otherwise run silently on the default.
        if unknown := sorted(values.keys() - cls.model_fields.keys()):
            names = ", ".join(PREFIX + name.upper() for name in unknown)
            raise SettingsInvalid(f"Unknown settings: {names}.")
        for name in values.keys() & _LISTS:
            parts = (part.strip() for part in values[name].split(","))
            values[name] = tuple(filter(None, parts))
        values |= {name: value for name, value in options.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as invalid:
            problems = "; ".join(
                f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}"
                for problem in invalid.errors()
            )
            raise SettingsInvalid(f"Settings that make no sense: {problems}.") from None

    def endpoints(self, env: Mapping[str, str]) -> dict[str, model_endpoints.Endpoint]:
        """The other providers by name, with the keys that the environment has for them."""
        return model_endpoints.known(
            self.providers, self.provider_context_tokens, env, is_offline=self.offline
        )

    @property
    def model_base_urls(self) -> dict[str, str]:
        """Where each provider is found, without a trailing slash."""
        return {
            ModelProvider.ANTHROPIC: self.anthropic_base_url.rstrip("/"),
            ModelProvider.OPENAI: self.openai_base_url.rstrip("/"),
            ModelProvider.GEMINI: self.gemini_base_url.rstrip("/"),
        }

    @property
    def sandbox_environment(self) -> dict[str, str]:
        """Variables of OpenClaw's environment in a sandbox."""
        return {} if self.clawhub_url is None else {"OPENCLAW_CLAWHUB_URL": self.clawhub_url}

    @property
    def root_url(self) -> str:
        """Where the server is found from this machine; the contract's calls are below `/v1`."""
        # An address that stands for all of them can be listened on, but not called.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def client_url(self) -> str:
        """The address that clients are given, without `/v1`."""
        return self.root_url if self.public_url is None else self.public_url.rstrip("/")

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches the API."""
        return is_loopback(self.host)

    @property
    def default_key_file(self) -> Path:
        """The default organization's API key, for `chowder-local env`."""
        return self.key_file or self.data_dir / "default.key"

    database_file: ClassVar = _InDataDir("chowder.db")
    secret_file: ClassVar = _InDataDir("secret.key")
    """What encrypts everything at rest, and what internal tokens are derived from."""
    seed_file: ClassVar = _InDataDir("seed.json")
    """The keys that `seed` has to know again, because a server shows them only once."""
    snapshots_dir: ClassVar = _InDataDir("snapshots")
    leases_dir: ClassVar = _InDataDir("leases")
    """What test runs have made, with keys, so that the next one ends what a killed one left."""
    store_file: ClassVar = _InDataDir("store.id")
    """The store's id, which labels all that the data directory has on the engine."""
    lock_file: ClassVar = _InDataDir("server.lock")
    """Locked while a server runs on the data directory."""
    run_file: ClassVar = _InDataDir("server.json")
    """The running server's `pid`, `base_url`, `version`, `settings` and more."""
    last_run_file: ClassVar = _InDataDir("server.json.last")
    """The same of the last server that has ended, so that its address still is known."""
    log_file: ClassVar = _InDataDir("server.log")
    """The log of a detached server."""


def beyond_this_machine(host: str, *, is_in_container: bool = False) -> str:
    """The warning for an operator whose server listens elsewhere than on the loopback."""
    if is_in_container:
        return (
            f"This server listens on {host} in its container, so other containers of its networks "
            "reach it, unencrypted: to sign up takes no key. Publish its port on 127.0.0.1 only "
            "(-p 127.0.0.1:2469:2469), and name in CHOWDER_ALLOWED_HOSTS what others call it by."
        )
    return (
        f"This server listens on {host}, so whoever reaches this machine reaches it, unencrypted, "
        "its own agents among them: to sign up takes no key. Leave CHOWDER_HOST and --host alone "
        "to serve this machine only; else let only those in whom you trust, by a firewall or a "
        "proxy with TLS, and name in CHOWDER_ALLOWED_HOSTS what they call it by."
    )
