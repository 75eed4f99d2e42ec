"""Every failure the product has words for: one shallow tree, each a fact with a stable code.

Which HTTP status a fact gets is the edge's business (web/failures.py), which exit code the CLI's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ChowderError(Exception):
    """Something went wrong in a way that we can explain; `str()` is one sentence for a person."""

    code: ClassVar[str] = "error"


class KeyMissing(ChowderError):
    """The request carries no bearer token."""

    code = "key_missing"

    def __init__(self) -> None:
        super().__init__("Missing API key. Send it as 'Authorization: Bearer chd_org_…'.")


class KeyInvalid(ChowderError):
    """The bearer token is unknown, revoked or expired."""

    code = "key_invalid"

    def __init__(self) -> None:
        super().__init__("Invalid API key.")


class OrganizationKeyRequired(ChowderError):
    """A scoped key was used where an organization key is needed."""

    code = "organization_key_required"

    def __init__(self) -> None:
        super().__init__("This call needs an organization key.")


class InstanceLimitReached(ChowderError):
    """The organization's tier allows no further instance."""

    code = "instance_limit_reached"

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"Instance limit reached ({count}/{limit}). Upgrade your subscription.")


class InstanceNotFound(ChowderError):
    """No such instance in the caller's organization."""

    code = "instance_not_found"

    def __init__(self) -> None:
        super().__init__("Instance not found.")


class OrganizationNotFound(ChowderError):
    """No such organization."""

    code = "organization_not_found"

    def __init__(self) -> None:
        super().__init__("Organization not found.")


class InstanceStateWrong(ChowderError):
    """The instance is in a state in which the call makes no sense."""

    code = "instance_state_wrong"

    def __init__(self, status: str, wanted: str) -> None:
        super().__init__(f"Instance is {status}, but must be {wanted} for this.")


class InputInvalid(ChowderError):
    """A request's body, path or query breaks a bound; `problems` are FastAPI-shaped."""

    code = "input_invalid"

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("The request is not valid.")
        self.problems = [dict(problem) for problem in problems]


class BodyTooLarge(ChowderError):
    """A request's body is longer than the server takes."""

    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class ModelUnknown(ChowderError):
    """The asked-for model belongs to no provider we know."""

    code = "model_unknown"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Unknown model {model!r}. Understood are claude-* (anthropic), gpt-*, o1*, o3*, o4*, "
            "chatgpt-* (openai), gemini-* (gemini) and provider/model."
        )


class ModelKeyMissing(ChowderError):
    """The organization has no key for the provider that a message or instance needs."""

    code = "model_key_missing"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"No API key for {provider} is set on the organization. Set one with "
            f'PATCH /v1/organization {{"model_api_keys": {{"{provider}": "…"}}}}; '
            'the value "offline" selects the built-in offline model.'
        )


class ConfigRefused(ChowderError):
    """OpenClaw does not take a configuration; the words are its own."""

    code = "config_refused"


class RpcRefused(ChowderError):
    """A gateway refuses a control call; the words are its own."""

    code = "rpc_refused"


class MessageRefused(ChowderError):
    """The gateway does not take a message; the words are its own."""

    code = "message_refused"


class MessageTooLarge(MessageRefused):
    """The gateway takes no message of this size."""

    code = "message_too_large"

    def __init__(self) -> None:
        super().__init__("The message is larger than the agent's gateway takes.")


class GatewayUnavailable(ChowderError):
    """An agent's gateway does not answer."""

    code = "gateway_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Gateway unavailable – {reason}")


class ProviderFailed(ChowderError):
    """A model provider refused or failed a call; `status` is what it answered, if anything."""

    code = "provider_failed"

    def __init__(
        self, provider: str, status: int | None, words: str, retry_after: str | None = None
    ) -> None:
        answered = f"answered {status}" if status is not None else "did not answer"
        super().__init__(f"The model provider {provider} {answered}: {words}")
        self.provider = provider
        self.status = status
        self.words = words
        self.retry_after = retry_after


class RelayTokenInvalid(ChowderError):
    """A call of the model relay carries no token of ours."""

    code = "relay_token_invalid"

    def __init__(self) -> None:
        super().__init__("Invalid relay token.")


class UpstreamFailed(ChowderError):
    """No answer came from where a request was forwarded; the words say why.

    `is_sent` is False when the request cannot have had an effect there.
    """

    code = "upstream_failed"

    def __init__(self, words: str, *, is_sent: bool) -> None:
        super().__init__(words)
        self.is_sent = is_sent


class StreamBroken(ChowderError):
    """An answer that had begun broke off, or cannot be read; the words say how."""

    code = "stream_broken"


class EngineUnavailable(ChowderError):
    """The container engine cannot be reached or does not do what it should."""

    code = "engine_unavailable"


class EngineRemote(ChowderError):
    """The engine found is on another machine, where ports and relay would not meet."""

    code = "engine_remote"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The container engine at {host} is on another machine; sandbox ports and the "
            "model relay live beside the engine. Run chowder-local there and tunnel its port."
        )


class ImageMissing(ChowderError):
    """The sandbox image is not on the engine."""

    code = "image_missing"

    def __init__(self, image: str) -> None:
        super().__init__(
            f"The sandbox image {image} is not there. Build it with: chowder-local image build"
        )


class ImageBuildFailed(ChowderError):
    """The sandbox image could not be built."""

    code = "image_build_failed"


class ImageKept(ChowderError):
    """An image is not removed, because it is not ours or in use."""

    code = "image_kept"

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"The image {image} is kept: {reason}.")


class SandboxMissing(ChowderError):
    """A sandbox, or the volume it lives on, is gone from the engine."""

    code = "sandbox_missing"


class BootFailed(ChowderError):
    """A sandbox did not become ready; the message quotes what its log says."""

    code = "boot_failed"


class SettingsInvalid(ChowderError):
    """A setting is unknown or has a value that makes no sense."""

    code = "settings_invalid"


class PortTaken(ChowderError):
    """The address to listen on belongs to another process."""

    code = "port_taken"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is taken by another program. "
            "Stop it, or choose another port with --port."
        )


class RelayPortTaken(ChowderError):
    """The model relay's port, which running agents know it by, belongs to another process."""

    code = "relay_port_taken"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host}, where agents expect the model relay, is taken by another "
            "program. Stop that program; the number cannot change while there are agents."
        )


class DataDirLocked(ChowderError):
    """Another server runs on the same data directory."""

    code = "data_dir_locked"

    def __init__(self, data_dir: str) -> None:
        super().__init__(
            f"Another chowder-local server uses {data_dir}. "
            "Stop it with 'chowder-local down', or choose another one with --data-dir."
        )


class DataDirUnusable(ChowderError):
    """The data directory cannot be written: full, read-only or not ours."""

    code = "data_dir_unusable"


class ServerNotRunning(ChowderError):
    """The CLI finds no server to talk to."""

    code = "server_not_running"

    def __init__(self, base_url: str) -> None:
        super().__init__(
            f"No chowder-local server answers at {base_url}. "
            "Start one with: chowder-local up --detach"
        )


class ServerNotReady(ChowderError):
    """A server that was started did not become healthy."""

    code = "server_not_ready"


class ServerSilent(ChowderError):
    """The server was reached, but its answer did not come in time or broke off."""

    code = "server_silent"


class ServerStuck(ChowderError):
    """A server that was told to stop goes on."""

    code = "server_stuck"

    def __init__(self, pid: int, waited_s: float) -> None:
        super().__init__(
            f"The server (process {pid}) has not stopped within {waited_s:.0f} s. "
            f"Run 'chowder-local down' again, or end it with: kill -9 {pid}"
        )


class ApiRefused(ChowderError):
    """The server answered a client's call with an error; the words are the answer's."""

    code = "api_refused"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (HTTP {status})")
        self.status = status
