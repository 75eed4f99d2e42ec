"""Objects that may hold secrets: ciphertext on disk, and opened when somebody looks at them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cryptography.fernet import InvalidToken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.secrets import SecretBox

log = logging.getLogger(__name__)


def encrypt_json(content: Mapping[str, Any], box: SecretBox) -> bytes:
    """An object for a column; `EncryptedJson` is the way back."""
    return box.encrypt(json.dumps(dict(content)))


class EncryptedJson(Mapping[str, Any]):
    """An object from a column, which is decrypted when somebody first looks into it.

    Most who read a row do not: a poll, a message, or the relay wants other things of it. It has no
    `repr` that tells anything.
    """

    def __init__(self, ciphertext: bytes, box: SecretBox, whose: str) -> None:
        self._ciphertext = ciphertext
        self._box = box
        self._whose = whose

    @cached_property
    def _opened(self) -> dict[str, Any]:
        try:
            opened: dict[str, Any] = json.loads(self._box.decrypt(self._ciphertext))
        except InvalidToken:
            # As good as not set, like a model key: whoever looks is told so, and can set it again.
            log.warning("%s was encrypted with another secret.key; set it again", self._whose)
            return {}
        return opened

    def __getitem__(self, name: str) -> Any:
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._opened)

    def __len__(self) -> int:
        return len(self._opened)
