"""Makes, hashes and derives secrets, and encrypts data at rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cryptography.fernet import Fernet, InvalidToken

from chowder_local.core.data_dir import write_private
from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

ORGANIZATION_PREFIX = "chd_org_"
SCOPED_PREFIX = "chd_sk_"
PREFIX_CHARACTERS = 12
SECRET_BYTES = 32
_KEY = re.compile(f"(?:{ORGANIZATION_PREFIX}|{SCOPED_PREFIX})[A-Za-z0-9_-]+")

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 6
"""A shorter value is no secret, and its removal would spoil other words."""
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.I)
_SECRETS = re.compile(
    # API keys, sandbox tokens, provider keys, bearer tokens, and credentials in URLs.
    r"chd_(?:org|sk)_[\w-]+"
    r"|chowder-[0-9a-f]{12}\.[\w-]{16,}"
    r"|\b(?:sk-|AIza|ghp_|xox[a-z]-)[\w-]{8,}"
    # Tokens of Telegram, of Discord, and JWTs.
    r"|\b\d{8,10}:[\w-]{35}\b"
    r"|\b[\w-]{24,28}\.[\w-]{6}\.[\w-]{27,}"
    r"|(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?<=://)[^/\s\"'@]+(?=@)"
)


def new_key(prefix: str) -> str:
    """A fresh bearer token with 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def shown_prefix(raw_key: str) -> str:
    """The start of a token, which may be shown to tell tokens apart."""
    return raw_key[:PREFIX_CHARACTERS]


def mask_keys(text: str) -> str:
    """The text for a log: each key in it is cut to its shown prefix."""
    return _KEY.sub(lambda match: f"{shown_prefix(match[0])}...", text)


def secret_values(named: Mapping[str, str]) -> set[str]:
    """The values with names of secrets, such as those of environment variables."""
    return {value for name, value in named.items() if _SECRET_NAME.search(name)}


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replaces the given secrets, and everything that looks like a secret, in a text."""
    # The longest first, because one may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = text.replace(secret, REDACTED)
    return _SECRETS.sub(REDACTED, text)


def redact_values(value: Any, secrets: Collection[str] = ()) -> Any:
    """As `redact`, for all texts in a value of JSON."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list):
        return [redact_values(each, secrets) for each in value]
    if isinstance(value, dict):
        return {redact(name, secrets): redact_values(each, secrets) for name, each in value.items()}
    return value


def digest(raw_key: str) -> str:
    """The SHA-256 of a token, for the store. It needs no salt, because tokens are random."""
    return hashlib.sha256(raw_key.encode()).hexdigest()


@dataclass(eq=False, repr=False)
class SecretBox:
    """The data directory's secret: it encrypts data and derives the tokens of sandboxes."""

    secret: bytes

    def __post_init__(self) -> None:
        self._fernet = Fernet(base64.urlsafe_b64encode(self._derive("at rest", "fernet")))
        # A separate key, so that no ciphertext of the store is valid as a link.
        self._links = Fernet(base64.urlsafe_b64encode(self._derive("link", "fernet")))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The box of the secret in `path`. Creates a missing file, readable by this user only.

        Raises DataDirUnusable if the file cannot be read or written, or has another length.
        """
        try:
            if not path.exists():
                write_private(path, secrets.token_bytes(SECRET_BYTES))
            secret = path.read_bytes()
        except OSError as failed:
            raise DataDirUnusable(f"{path} cannot be read: {failed.strerror}.") from failed
        # A truncated secret could be guessed.
        if len(secret) != SECRET_BYTES:
            raise DataDirUnusable(
                f"{path} is damaged. Restore it from a copy, or move it away: all agents then "
                "get new tokens, and model keys and openclaw_config have to be set again."
            )
        return cls(secret)

    def encrypt(self, text: str) -> bytes:
        """Ciphertext for the store."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """The text of a ciphertext. Raises InvalidToken if another secret encrypted it."""
        return self._fernet.decrypt(ciphertext).decode()

    def encrypt_link(self, kind: str, content: Mapping[str, str], now: datetime) -> str:
        """An encrypted token for a URL, with content that only this server can read or make."""
        text = json.dumps([kind, dict(content)])
        return self._links.encrypt_at_time(text.encode(), int(now.timestamp())).decode()

    def decrypt_link(
        self, token: str, kind: str, now: datetime, life_s: int
    ) -> dict[str, str] | None:
        """The content of a link's token; None if it is expired, invalid or of another kind."""
        try:
            ciphertext = token.encode("ascii")
            text = self._links.decrypt_at_time(ciphertext, life_s, int(now.timestamp()))
        except (InvalidToken, UnicodeEncodeError):
            return None
        actual_kind, content = json.loads(text)
        return content if actual_kind == kind else None

    def gateway_token(self, sandbox_id: str) -> str:
        """The bearer token of a sandbox's gateway. It is derived, so a crash cannot lose it."""
        return self._derive("gateway", sandbox_id).hex()

    def relay_token(self, sandbox_id: str) -> str:
        """The token that a sandbox sends the relay in place of a model key; it has the id."""
        return f"{sandbox_id}.{self._derive('relay', sandbox_id).hex()}"

    def sandbox_of(self, relay_token: str) -> str | None:
        """The id of the sandbox with this relay token; None if the token is not valid."""
        sandbox_id, _, _ = relay_token.partition(".")
        expected = self.relay_token(sandbox_id)
        is_valid = hmac.compare_digest(relay_token.encode(), expected.encode())
        return sandbox_id if is_valid else None

    def messenger_secret(self, instance_id: str, channel: str) -> str:
        """What an agent's channel sends the local messenger in place of a bot's token."""
        return self._derive("messenger", f"{instance_id}/{channel}").hex()

    def hook_token(self, instance_id: str) -> str:
        """The token of OpenClaw's hooks, which an instance keeps in each of its sandboxes."""
        return self._derive("hook", instance_id).hex()

    def inbox_token(self, instance_id: str) -> str:
        """The token in the address of an instance's inbox; it has the id."""
        return f"{instance_id}.{self._derive('inbox', instance_id).hex()}"

    def instance_of(self, inbox_token: str) -> str | None:
        """The id of the instance with this inbox token; None if the token is not valid."""
        instance_id, _, _ = inbox_token.partition(".")
        expected = self.inbox_token(instance_id)
        is_valid = hmac.compare_digest(inbox_token.encode(), expected.encode())
        return instance_id if is_valid else None

    def _derive(self, purpose: str, name: str) -> bytes:
        return hmac.digest(self.secret, f"{purpose}\0{name}".encode(), "sha256")
