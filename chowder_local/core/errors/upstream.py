"""Errors: calls to model providers, and answers that break off."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class ProviderFailed(ChowderError):
    """A model provider refused or failed a call; `status` is what it answered, if anything.

    `provider_code` is its own code for that, if it has one; `has_begun` is whether it failed
    within an answer that it had begun.
    """

    def __init__(
        self,
        provider: str,
        status: int | None,
        words: str,
        retry_after: str | None = None,
        *,
        provider_code: str | None = None,
        has_begun: bool = False,
    ) -> None:
        answered = f"answered {status}" if status is not None else "did not answer"
        if has_begun:
            answered = "failed within its answer"
        super().__init__(f"The model provider {provider} {answered}: {words}")
        self.provider = provider
        self.status = status
        self.words = words
        self.retry_after = retry_after
        self.provider_code = provider_code


class ContextLengthExceeded(ChowderError):
    """A conversation is longer than its model takes, and OpenClaw cannot shorten it.

    `bound` is what it could not do so within, or with.
    """

    def __init__(self, model: str, bound: str) -> None:
        super().__init__(
            f"The conversation is longer than {model} takes, and the agent could not shorten it "
            f"{bound}. Go on in another session, or with a model that takes more."
        )


class RelayTokenInvalid(ChowderError):
    message = "Invalid relay token."


class RelayFailed(ChowderError):
    """The model relay could not do its own part of a call; the provider is not to blame."""

    def __init__(self, cause: str | None) -> None:
        super().__init__(
            f"The server could not make the model call: {cause or 'its log has the cause.'}"
        )


class UpstreamFailed(ChowderError):
    """No answer came from where a request was forwarded; the message says why.

    `is_sent` is False when the request cannot have had an effect there.
    """

    def __init__(self, message: str, *, is_sent: bool) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class StreamBroken(ChowderError):
    """An answer that had begun broke off, or cannot be read; the message says how."""
