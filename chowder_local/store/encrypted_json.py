"""JSON objects that may contain secrets: encrypted on disk, decrypted at the first access."""

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
    """The ciphertext of an object, for a column; `EncryptedJson` reads it."""
    return box.encrypt(json.dumps(dict(content)))


class EncryptedJson(Mapping[str, Any]):
    """An object from a column, decrypted at the first access, because most readers need none.

    Its `repr` shows no content. An object that was encrypted with another secret is empty.
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
            # It counts as not set, like a model key.
            log.warning("%s was encrypted with another secret.key; set it again", self._name)
            return {}
        return content

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)
