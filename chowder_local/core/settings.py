"""The settings: one frozen object, read once from a mapping that is passed in."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)

from chowder_local.core import model_endpoints
from chowder_local.core.addresses import is_loopback
from chowder_local.core.data_dir_layout import (
    CLIENT_NAMES,
    PREFIX,
    DataDirLayout,
    absolute,
    default_data_dir,
)
from chowder_local.core.domain import MAX_USD, Egress, ModelProvider, Tier
from chowder_local.core.errors.process import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LISTS = {
    "cors_origins",
    "allowed_hosts",
    "providers",
    "relay_paths",
    "provider_context_tokens",
    "prices",
    "features_off",
}

FORMER_NAMES: Mapping[str, str | None] = {
    "max_running": "max_sandboxes",
    "paused_ttl_s": "release_stopped_after_s",
    "freeze_after_s": None,
    "engine_threads": None,
    "swarm_secret_file": None,
    "disk_interval_s": None,
    "turn_timeout_s": None,
    "stop_grace_s": None,
    "drain_timeout_s": None,
    "reconcile_interval_s": None,
    "transfer_idle_timeout_s": None,
}
"""Names of settings in 0.1, with today's or None; they are taken with a warning until 0.3."""

OF_PACKAGES = f"{PREFIX}X_"
"""Begins the names of settings of other packages' features."""
PackageSettings = TypeVar("PackageSettings", bound=BaseModel)

log = logging.getLogger(__name__)


class Settings(DataDirLayout, BaseModel):
    """Each field is the environment variable `CHOWDER_<FIELD>`; the CLI's options override it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(2469, ge=1, le=65535, description="Port the API listens on.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+/?$",
        description="URL at which clients reach the server, if it is not the address that the "
        "server listens on: for a server in a container, the published port.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of the database, keys and logs; by default "
        "`~/.local/share/chowder-local` on Linux and "
        "`~/Library/Application Support/chowder-local` on macOS.",
    )
    key_file: Path | None = Field(
        None,
        description="File of the default organization's key, if not in the data directory.",
    )
    offline: bool = Field(
        False, description="The default organization gets the offline model for every provider."
    )
    tier: Tier | None = Field(
        None,
        description="Tier of the default organization: shrimp, crab, lobster or whale; whale at "
        "the first start.",
    )
    image: str | None = Field(
        None, description="Sandbox image to use instead of the one this version builds."
    )
    openclaw_version: str | None = Field(
        None,
        pattern=r"^\d{4}\.\d{1,2}\.\d{1,3}(-[0-9a-z.]{1,20})?$",
        description="OpenClaw release of instances that name none (`v1`), if not this version's "
        "own. `image build --openclaw` builds the image of another one.",
    )
    base_image: str = Field(
        "node:24-trixie-slim", description="Image that the sandbox image is built on."
    )
    swarm: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$",
        description="Name of the Docker stack that this server is part of, if sandboxes run on all "
        "nodes of a swarm; `docker/stack.yaml` sets it.",
    )
    ca_bundle: Path | None = Field(
        None,
        description="PEM file of certificates that sandboxes and image builds trust, besides the "
        "usual ones.",
    )
    egress: Egress = Field(
        Egress.ON,
        description=(
            "off: sandboxes reach the model relay and nothing else, except instances that have a "
            "setting of their own."
        ),
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector (OTLP over HTTP) that gets a trace of "
        "each message; without it, OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    otlp_content: bool = Field(
        False, description="Traces have what messages, answers and tools' arguments say."
    )
    container_runtime: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,100}$",
        description="Runtime of the engine for sandboxes, for example gVisor's `runsc`; by default "
        "the engine's own. Existing agents get it with their next boot.",
    )
    # With 768 MB, an agent has taken up to 499 MB until it was ready, and 724 MB in its first turn.
    memory_limit_mb: int = Field(
        2048,
        ge=768,
        description="Memory a sandbox may use. The least is enough for an agent to boot and run a "
        "tool; many turns may take twice as much.",
    )
    cpu_limit: float = Field(2.0, gt=0, description="Processors a sandbox may use.")
    pids_limit: int = Field(512, ge=64, description="Processes and threads a sandbox may have.")
    disk_limit_mb: int | None = Field(
        None,
        ge=256,
        description="Disk a sandbox may use; the server ends a sandbox that uses more.",
    )
    boot_timeout_s: float = Field(
        180.0,
        gt=0,
        description="How long a sandbox may take to become ready; three times as long while its "
        "log goes on.",
    )
    boot_concurrency: int = Field(2, ge=1, description="Sandboxes that boot at the same time.")
    warm_pool_size: int = Field(
        2,
        ge=0,
        description="Warm sandboxes to keep ready, if there is memory for them; 0 for none.",
    )
    warm_pool_max: int = Field(
        6,
        ge=0,
        description="The most warm sandboxes, if instances are often created or brought back "
        "several at once and the processor is idle.",
    )
    reuse: bool | None = Field(
        None,
        description="`on`: the sandbox of a deleted agent serves the next one of its organization, "
        "once nothing of the former agent is left but what its gateway's memory may have, which "
        "programs in it cannot read; `off`: it is destroyed. By default it is used again in "
        "organizations that have chosen that.",
    )
    max_sandboxes: int | None = Field(
        None,
        ge=1,
        description="Sandboxes in memory at once; by default as many as the engine's machine "
        "can hold.",
    )
    release_stopped_after_s: float = Field(
        900.0,
        gt=0,
        description="How long a stopped agent stays in memory before its sandbox is released.",
    )
    hibernate_after_s: float = Field(
        7200.0,
        gt=0,
        description="How long nobody has to use a running agent before it leaves memory; its "
        "next message or call brings it back.",
    )
    system_jobs: bool = Field(
        False,
        description="`on`: new agents keep OpenClaw's own scheduled jobs, which go over their "
        "memories each night and over their skills each week; they call the model unasked.",
    )
    messengers: Literal["real", "offline"] = Field(
        "real",
        description="`offline`: channels are connected to the local messenger, whatever "
        'credentials they are given, unless a call of `connect` has `"offline": false`.',
    )
    snapshot_interval_s: float = Field(
        0.0,
        ge=0,
        description="How often each running agent is copied to a snapshot, of which the latest is "
        "kept; 0 for never. On several machines an agent comes back from it if its own is away.",
    )
    engine_timeout_s: float = Field(
        30.0, gt=0, description="How long one call to the engine may take."
    )
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
        "is too long for the model of a provider in CHOWDER_PROVIDERS.",
    )
    anthropic_base_url: str = Field(
        "https://api.anthropic.com", description="Base URL of Anthropic's API."
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1", description="Base URL of OpenAI's API."
    )
    gemini_base_url: str = Field(
        "https://generativelanguage.googleapis.com/v1beta",
        description="Base URL of Gemini's API.",
    )
    relay_paths: tuple[str, ...] = Field(
        (),
        description="Paths of Anthropic, OpenAI and Gemini that agents may call with the "
        "organization's key besides models, each with all that is below it, separated by commas; "
        "for example `openai/files`.",
    )
    providers: dict[str, str] = Field(
        default_factory=dict,
        description="Other model providers: name=URL of an OpenAI-compatible API, separated by "
        "commas.",
    )
    provider_context_tokens: dict[str, int] = Field(
        default_factory=dict,
        description=(
            "Context lengths in tokens: provider=tokens for all models of another provider, or "
            "provider/model=tokens for one model, separated by commas."
        ),
    )
    prices: dict[str, tuple[float, float, float]] = Field(
        default_factory=dict,
        description=(
            "Prices in USD for a million tokens, instead of the list price: model=input/output or "
            "model=input/output/cached, for example `fake/tiny=0.5/2`, separated by commas. "
            "`fake=0.5/2` is for all models of a provider in CHOWDER_PROVIDERS."
        ),
    )
    budget_usd: float | None = Field(
        None,
        ge=0,
        le=MAX_USD,
        # Nothing reaches a budget of NaN.
        allow_inf_nan=False,
        description="Budget of the default organization in USD, in total: past it, its agents' "
        "model calls are refused. Each start sets it; what was spent stays counted.",
    )
    max_calls_per_message: int = Field(
        200,
        ge=1,
        description="Model calls that an agent may make for one message, job or other turn, which "
        "ends loops.",
    )
    clawhub_url: str | None = Field(
        None,
        pattern="^https?://[^/]",
        description=(
            "URL at which sandboxes reach ClawHub, if not the public one; `host.local` is this "
            "machine."
        ),
    )
    max_body_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        description=(
            "Longest request body that the API takes; messages have 32 MiB at most, and most calls "
            "1 MiB."
        ),
    )
    replies: Path | None = Field(
        None, description="YAML file of scripted replies for the offline model."
    )
    record: Path | None = Field(
        None, description="Folder to which the server adds every model call of a real provider."
    )
    replay: Path | None = Field(
        None, description="Folder of a recording from which the server answers model calls."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Browser origins allowed besides loopback ones, separated by commas."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Host names by which clients call the server, besides loopback ones, "
        "separated by commas.",
    )
    features_off: tuple[str, ...] = Field(
        (),
        description="Features to leave out, separated by commas, or `all`. `/local/health` and "
        "`doctor` name those that are on.",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error."
    )
    log_format: str = Field(
        "line", pattern="^(line|json)$", description="line, or json: one object a line."
    )

    @field_validator("providers", mode="before")
    @classmethod
    def _check_providers(cls, value: Any) -> Any:
        is_text = isinstance(value, tuple)
        urls = model_endpoints.parse_pairs(value, "URL") if is_text else dict(value)
        for name in urls:
            model_endpoints.check_name(name)
        return {name: model_endpoints.checked_url(url) for name, url in urls.items()}

    @field_validator("provider_context_tokens", mode="before")
    @classmethod
    def _parse_contexts(cls, value: Any) -> Any:
        is_text = isinstance(value, tuple)
        return model_endpoints.parse_pairs(value, "tokens") if is_text else value

    @field_validator("provider_context_tokens")
    @classmethod
    def _check_contexts(cls, contexts: dict[str, int]) -> dict[str, int]:
        minimum = model_endpoints.MIN_CONTEXT_TOKENS
        for name, tokens in contexts.items():
            if tokens < minimum:
                raise ValueError(f"{name}: OpenClaw needs at least {minimum} tokens")
        return contexts

    @field_validator("prices", mode="before")
    @classmethod
    def _parse_prices(cls, value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        prices = {}
        for name, price in model_endpoints.parse_pairs(value, "USD").items():
            if re.fullmatch(r"\d+(\.\d+)?(/\d+(\.\d+)?){1,2}", price, re.ASCII) is None:
                raise ValueError(f"{name}: write input/output or input/output/cached, as in 0.5/2")
            usd = [float(each) for each in price.split("/")]
            prices[name] = (*usd, usd[0])[:3]
        return prices

    @field_validator("relay_paths")
    @classmethod
    def _check_relay_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            provider, *parts = path.split("/")
            is_plain = all(re.fullmatch(r"\w[\w.:-]*", part, re.ASCII) for part in parts)
            if provider not in set(ModelProvider) or not parts or not is_plain:
                raise ValueError(f"{path!r} is not a provider and a path; use openai/files")
        return paths

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            # A wildcard would defeat the protection against DNS rebinding.
            if re.fullmatch(r"(\[[\w.:]+\]|[\w.:-]+)(:\d+)?", host) is None:
                raise ValueError(f"{host!r} is not a host name; use names such as box.example")
        return hosts

    _of_packages: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("data_dir", "key_file", "ca_bundle", "replies", "record", "replay")
    @classmethod
    def _make_absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else absolute(path)

    @classmethod
    def read(cls, env: Mapping[str, str], **options: Any) -> Self:
        """Settings from the environment; options that are not None override it.

        Raises SettingsInvalid if a variable is unknown or a value is invalid. It names all of them.
        """
        values: dict[str, Any] = {}
        of_packages: dict[str, str] = {}
        for name, value in env.items():
            if name.startswith(OF_PACKAGES):
                of_packages[name.removeprefix(OF_PACKAGES).lower()] = value
            elif name.startswith(PREFIX) and name not in CLIENT_NAMES:
                values[name.removeprefix(PREFIX).lower()] = value
        for former in values.keys() & FORMER_NAMES:
            value, today = values.pop(former), FORMER_NAMES[former]
            _warn_of(PREFIX + former.upper(), today and PREFIX + today.upper())
            if today is not None:
                values.setdefault(today, value)
        # A typo in a name would otherwise run silently on the default.
        if unknown := sorted(values.keys() - cls.model_fields.keys()):
            names = ", ".join(PREFIX + name.upper() for name in unknown)
            raise SettingsInvalid(f"Unknown settings: {names}.")
        for name in values.keys() & _LISTS:
            parts = (part.strip() for part in values[name].split(","))
            values[name] = tuple(filter(None, parts))
        if endpoint := env.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            values.setdefault("otlp_endpoint", endpoint)
        values |= {name: value for name, value in options.items() if value is not None}
        with _naming_variables(PREFIX):
            settings = cls.model_validate(values)
        settings._of_packages.update(of_packages)
        return settings

    def of_package(self, kind: type[PackageSettings]) -> PackageSettings:
        """Settings of another package's feature: its fields are variables `CHOWDER_X_<FIELD>`.

        Raises SettingsInvalid.
        """
        named = {
            name: self._of_packages[name] for name in kind.model_fields.keys() & self._of_packages
        }
        with _naming_variables(OF_PACKAGES):
            return kind.model_validate(named)

    def endpoints(self, env: Mapping[str, str]) -> dict[str, model_endpoints.Endpoint]:
        """The other providers by name, with their keys from the environment."""
        return model_endpoints.endpoints(
            self.providers, self.provider_context_tokens, env, is_offline=self.offline
        )

    @property
    def model_base_urls(self) -> dict[str, str]:
        """The base URL of each provider, without a trailing slash."""
        return {
            ModelProvider.ANTHROPIC: self.anthropic_base_url.rstrip("/"),
            ModelProvider.OPENAI: self.openai_base_url.rstrip("/"),
            ModelProvider.GEMINI: self.gemini_base_url.rstrip("/"),
        }

    @property
    def sandbox_environment(self) -> dict[str, str]:
        """Environment variables for OpenClaw in a sandbox."""
        return {} if self.clawhub_url is None else {"OPENCLAW_CLAWHUB_URL": self.clawhub_url}

    @property
    def root_url(self) -> str:
        """The server's URL on this machine, without `/v1`."""
        # Clients cannot connect to a wildcard address.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def client_url(self) -> str:
        """The server's URL for clients, without `/v1`."""
        return self.root_url if self.public_url is None else self.public_url.rstrip("/")

    @property
    def is_on_loopback(self) -> bool:
        """Whether the API listens on a loopback address only."""
        return is_loopback(self.host)


@contextmanager
def _naming_variables(prefix: str) -> Iterator[None]:
    """Raises SettingsInvalid with the names of variables in place of pydantic's error."""
    try:
        yield
    except ValidationError as invalid:
        problems = "; ".join(
            f"{prefix}{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in invalid.errors()
        )
        raise SettingsInvalid(f"Invalid settings: {problems}.") from None


@cache
def _warn_of(variable: str, name: str | None) -> None:
    """Warns once in a process, whose settings are read more than once."""
    if name is None:
        log.warning("%s is no setting any more and has no effect: unset it.", variable)
    else:
        log.warning("%s is called %s now: set that, as 0.3 takes no other.", variable, name)


def exposure_warning(host: str, *, is_in_container: bool = False) -> str:
    """The warning for an operator whose server listens on another address than the loopback."""
    if is_in_container:
        return (
            f"This server listens on {host} in its container, so other containers in its networks "
            "can reach it, unencrypted, and signing up needs no key. Publish its port on 127.0.0.1 "
            "only (-p 127.0.0.1:2469:2469), and add the host names of its URLs to "
            "CHOWDER_ALLOWED_HOSTS."
        )
    return (
        f"This server listens on {host}, so every machine that reaches this one can reach it, and "
        "so can its own agents, unencrypted; signing up needs no key. To serve this machine only, "
        "unset CHOWDER_HOST and --host. Otherwise admit only trusted clients, with a firewall or "
        "a TLS proxy, and add the host names of its URLs to CHOWDER_ALLOWED_HOSTS."
    )
