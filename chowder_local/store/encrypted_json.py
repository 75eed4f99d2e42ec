"""JSON objects that may hold secrets: encrypted on disk, and decrypted when they are read."""

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
    """The column's value for an object; `EncryptedJson` is the way back."""
    return box.encrypt(json.dumps(dict(content)))


class EncryptedJson(Mapping[str, Any]):
    """An object from a column, decrypted at the first access: most readers of a row need none.

    Its `repr` shows nothing of it. One that was encrypted with another secret is empty.
    """

    def __init__(self, ciphertext: bytes, box: SecretBox, name: str) -> None:
        self._ciphertext = ciphertext
        self._box = box
        self._name = name

    @cached_property
    def _content(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._box.decrypt(self._ciphertext))
        except InvalidToken:
            # As good as not set, like a model key.
            log.warning("%s was encrypted with another secret.key; set it again", self._name)
            return {}
        return content

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)
