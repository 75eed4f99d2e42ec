"""Errors: messages whose `Idempotency-Key` does not allow them."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class IdempotencyKeyInvalid(ChowderError):
    """The header cannot be a key."""

    code = "idempotency_key_invalid"

    def __init__(self, longest: int) -> None:
        super().__init__(f"Idempotency-Key should have 1 to {longest} characters.")


class IdempotencyKeyReused(ChowderError):
    """A message has the key of another one."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key: this key was used for another message within the last 24 hours. "
            "Send the same body again, or choose another key."
        )


class IdempotencyKeyInUse(ChowderError):
    """The message with the same key and body is being answered."""

    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key: the message with this key is still being answered. Try again in a "
            "moment to get its answer."
        )
