"""Making, hashing and deriving secrets, and encrypting what is kept at rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from typing import TYPE_CHECKING, Self

from cryptography.fernet import Fernet, InvalidToken

from chowder_local.core.data_dir import write_private
from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

ORGANIZATION_PREFIX = "chd_org_"
SCOPED_PREFIX = "chd_sk_"
SHOWN_CHARACTERS = 12
SECRET_BYTES = 32
_KEY = re.compile(f"(?:{ORGANIZATION_PREFIX}|{SCOPED_PREFIX})[A-Za-z0-9_-]+")


def new_key(prefix: str) -> str:
    """A fresh bearer token with 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def shown_prefix(raw_key: str) -> str:
    """The part of a token that may be shown, to distinguish it from others."""
    return raw_key[:SHOWN_CHARACTERS]


def without_keys(text: str) -> str:
    """The text, for a log, with only the shown prefix of each key in it."""
    return _KEY.sub(lambda found: f"{shown_prefix(found[0])}...", text)


def digest(raw_key: str) -> str:
    """What the store keeps of a token. A plain hash suffices: the token is random, not chosen."""
    return hashlib.sha256(raw_key.encode()).hexdigest()


class SecretBox:
    """The data directory's secret: encrypts model keys, derives each sandbox's own tokens."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._fernet = Fernet(base64.urlsafe_b64encode(self._derive("at rest", "fernet")))
        # Its own key, so that no ciphertext of the store can pass for a link.
        self._links = Fernet(base64.urlsafe_b64encode(self._derive("link", "fernet")))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The box whose secret is in `path`; a missing file is made, readable by us only.

        Raises DataDirUnusable.
        """
        try:
            if not path.exists():
                write_private(path, secrets.token_bytes(SECRET_BYTES))
            secret = path.read_bytes()
        except OSError as failed:
            raise DataDirUnusable(f"{path} cannot be read: {failed.strerror}.") from failed
        # A cut or emptied secret would be a guessable one.
        if len(secret) != SECRET_BYTES:
            raise DataDirUnusable(
                f"{path} is damaged. Put it back from a copy, or move it away: all agents then "
                "get new tokens, and model keys and openclaw_config have to be set again."
            )
        return cls(secret)

    def encrypt(self, text: str) -> bytes:
        """Ciphertext for the store."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """Back from the store; raises InvalidToken if another secret wrote it."""
        return self._fernet.decrypt(ciphertext).decode()

    def encrypt_link(self, kind: str, content: Mapping[str, str], now: datetime) -> str:
        """A token for an address that says what it is for: nobody else can read or make it."""
        text = json.dumps([kind, dict(content)])
        return self._links.encrypt_at_time(text.encode(), int(now.timestamp())).decode()

    def decrypt_link(
        self, token: str, kind: str, now: datetime, life_s: int
    ) -> dict[str, str] | None:
        """What a token says; None if it is too old, of another kind, or none of ours."""
        try:
            ciphertext = token.encode("ascii")
            text = self._links.decrypt_at_time(ciphertext, life_s, int(now.timestamp()))
        except (InvalidToken, UnicodeEncodeError):
            return None
        found, content = json.loads(text)
        return content if found == kind else None

    def gateway_token(self, sandbox_id: str) -> str:
        """The bearer token of one sandbox's gateway; derived, so that no crash can lose it."""
        return self._derive("gateway", sandbox_id).hex()

    def relay_token(self, sandbox_id: str) -> str:
        """What a sandbox shows the relay in place of a model key; says itself whose it is."""
        return f"{sandbox_id}.{self._derive('relay', sandbox_id).hex()}"

    def sandbox_of(self, relay_token: str) -> str | None:
        """Whose relay token this is, or None if we never gave it out."""
        sandbox_id, _, _ = relay_token.partition(".")
        expected = self.relay_token(sandbox_id)
        is_ours = hmac.compare_digest(relay_token.encode(), expected.encode())
        return sandbox_id if is_ours else None

    def _derive(self, purpose: str, name: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}\0{name}".encode(), "sha256")
