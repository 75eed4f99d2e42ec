"""Encrypted objects: read like others, and decrypted only when somebody looks."""

from __future__ import annotations

import pytest

from chowder_local.core.secrets import SecretBox
from chowder_local.store.encrypted_json import EncryptedJson, encrypt_json

CONFIG = {"channels": {"line": {"channelSecret": "PLANTED-é"}}, "list": [1, None]}


class Counting(SecretBox):
    """One that knows how often something was decrypted."""

    decrypted = 0

    def decrypt(self, ciphertext: bytes) -> str:
        self.decrypted += 1
        return super().decrypt(ciphertext)


@pytest.fixture
def box() -> Counting:
    return Counting(b"s" * 32)


def test_what_was_encrypted_is_read_like_the_object_that_it_was(box: SecretBox) -> None:
    encrypted = EncryptedJson(encrypt_json(CONFIG, box), box, "This")
    assert encrypted == CONFIG
    assert dict(encrypted) == CONFIG
    assert (len(encrypted), list(encrypted), encrypted["list"]) == (
        2,
        ["channels", "list"],
        [1, None],
    )
    assert not EncryptedJson(encrypt_json({}, box), box, "This")


def test_it_is_decrypted_once_and_not_before_somebody_looks(box: Counting) -> None:
    encrypted = EncryptedJson(encrypt_json(CONFIG, box), box, "This")
    assert "PLANTED" not in repr(encrypted)
    assert box.decrypted == 0
    assert encrypted["list"] == CONFIG["list"]
    assert len(encrypted) == 2
    assert box.decrypted == 1


def test_its_ciphertext_tells_nothing(box: SecretBox) -> None:
    ciphertext = encrypt_json(CONFIG, box)
    assert b"PLANTED" not in ciphertext
    assert b"channels" not in ciphertext


def test_what_another_secret_has_encrypted_is_as_good_as_not_set_and_the_log_says_what_to_do(
    box: SecretBox, caplog: pytest.LogCaptureFixture
) -> None:
    encrypted = EncryptedJson(
        encrypt_json(CONFIG, SecretBox(b"t" * 32)), box, "The openclaw_config of instance 7"
    )
    assert dict(encrypted) == {}
    assert "The openclaw_config of instance 7 was encrypted with another secret.key" in caplog.text
    assert "set it again" in caplog.text
