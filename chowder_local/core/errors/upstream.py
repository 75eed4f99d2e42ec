"""Errors of calls to model providers, and of answers that break off."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class ProviderFailed(ChowderError):
    """A model provider refuses or fails a model call. The status is the provider's, or 502 if it
    gave none.

    `status` is what the provider answered, if anything. `provider_code` is its own code, if it has
    one. `has_begun` is whether it failed within an answer that it had begun.
    """

    is_proxied = True
    remedy = "Do what the provider's message says. Honour `Retry-After` if the answer has it."

    def __init__(
        self,
        provider: str,
        status: int | None,
        reason: str,
        retry_after: str | None = None,
        *,
        provider_code: str | None = None,
        has_begun: bool = False,
    ) -> None:
        answered = f"answered {status}" if status is not None else "did not answer"
        if has_begun:
            answered = "failed within its answer"
        super().__init__(f"The model provider {provider} {answered}: {reason}")
        # The provider's own status makes clients retry as they would at the provider.
        self.http_status = status if status is not None and 400 <= status < 600 else 502
        self.provider = provider
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.provider_code = provider_code


class ContextLengthExceeded(ChowderError):
    """The conversation is longer than its model takes, and OpenClaw cannot shorten it.

    `bound` says what kept OpenClaw from shortening it.
    """

    http_status = 400
    remedy = "Go on in another session, or with a model that takes more."

    def __init__(self, model: str, bound: str) -> None:
        super().__init__(
            f"The conversation is longer than {model} takes, and the agent could not shorten it "
            f"{bound}. Go on in another session, or with a model that takes more."
        )


class RelayTokenInvalid(ChowderError):
    """A sandbox calls the model relay with a token that belongs to no living instance."""

    remedy = "Nothing: only processes in sandboxes call the relay."
    message = "Invalid relay token."


class RelayFailed(ChowderError):
    """The model relay failed, not the provider."""

    http_status = 500
    remedy = "Read the server's log, and send the message again."

    def __init__(self, cause: str | None) -> None:
        super().__init__(
            f"The server could not make the model call: {cause or 'its log has the cause.'}"
        )


class UpstreamFailed(ChowderError):
    """No answer came from where a request was forwarded. The message says why.

    `is_sent` is False when the request cannot have had an effect there.
    """

    http_status = 502
    remedy = "Send the request again."

    def __init__(self, message: str, *, is_sent: bool) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class StreamBroken(ChowderError):
    """An answer that had begun broke off, or cannot be read. The message says how."""

    http_status = 502
    remedy = "Send the request again."
