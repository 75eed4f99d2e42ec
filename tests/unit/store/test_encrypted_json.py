"""Encrypted objects behave like mappings, and are decrypted at the first access."""

from __future__ import annotations

import pytest

from chowder_local.core.secrets import SecretBox
from chowder_local.store.tables import EncryptedJson, encrypt_json

CONFIG = {"channels": {"line": {"channelSecret": "PLANTED-é"}}, "list": [1, None]}


class Counting(SecretBox):
    """A box that counts decryptions."""

    decrypted = 0

    def decrypt(self, ciphertext: bytes) -> str:
        self.decrypted += 1
        return super().decrypt(ciphertext)


@pytest.fixture
def secret_box() -> Counting:
    return Counting(b"s" * 32)


def test_an_encrypted_object_equals_the_original(secret_box: SecretBox) -> None:
    encrypted = EncryptedJson(encrypt_json(CONFIG, secret_box), secret_box, "This")
    assert encrypted == CONFIG
    assert dict(encrypted) == CONFIG
    assert (len(encrypted), list(encrypted), encrypted["list"]) == (
        2,
        ["channels", "list"],
        [1, None],
    )
    assert not EncryptedJson(encrypt_json({}, secret_box), secret_box, "This")


def test_an_object_is_decrypted_once_at_the_first_access(secret_box: Counting) -> None:
    encrypted = EncryptedJson(encrypt_json(CONFIG, secret_box), secret_box, "This")
    assert "PLANTED" not in repr(encrypted)
    assert secret_box.decrypted == 0
    assert encrypted["list"] == CONFIG["list"]
    assert len(encrypted) == 2
    assert secret_box.decrypted == 1


def test_ciphertext_and_repr_show_no_content(secret_box: SecretBox) -> None:
    ciphertext = encrypt_json(CONFIG, secret_box)
    assert b"PLANTED" not in ciphertext
    assert b"channels" not in ciphertext


def test_an_object_of_another_secret_is_empty_and_logged(
    secret_box: SecretBox, caplog: pytest.LogCaptureFixture
) -> None:
    encrypted = EncryptedJson(
        encrypt_json(CONFIG, SecretBox(b"t" * 32)), secret_box, "The openclaw_config of instance 7"
    )
    assert dict(encrypted) == {}
    assert "The openclaw_config of instance 7 was encrypted with another secret.key" in caplog.text
    assert "set it again" in caplog.text
