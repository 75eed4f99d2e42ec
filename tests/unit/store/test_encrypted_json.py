"""Sealed objects: read as if they were not, and decrypted only when somebody looks."""

from __future__ import annotations

import pytest

from chowder_local.core.secrets import SecretBox
from chowder_local.store.encrypted_json import EncryptedJson, seal

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


def test_what_was_sealed_is_read_like_the_object_that_it_was(box: SecretBox) -> None:
    sealed = EncryptedJson(seal(CONFIG, box), box, "This")
    assert sealed == CONFIG
    assert dict(sealed) == CONFIG
    assert (len(sealed), list(sealed), sealed["list"]) == (2, ["channels", "list"], [1, None])
    assert not EncryptedJson(seal({}, box), box, "This")


def test_it_is_decrypted_once_and_not_before_somebody_looks(box: Counting) -> None:
    sealed = EncryptedJson(seal(CONFIG, box), box, "This")
    assert "PLANTED" not in repr(sealed)
    assert box.decrypted == 0
    assert sealed["list"] == CONFIG["list"]
    assert len(sealed) == 2
    assert box.decrypted == 1


def test_its_ciphertext_tells_nothing(box: SecretBox) -> None:
    ciphertext = seal(CONFIG, box)
    assert b"PLANTED" not in ciphertext
    assert b"channels" not in ciphertext


def test_what_another_secret_has_sealed_is_as_good_as_not_set_and_the_log_says_what_to_do(
    box: SecretBox, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = EncryptedJson(
        seal(CONFIG, SecretBox(b"t" * 32)), box, "The openclaw_config of instance 7"
    )
    assert dict(sealed) == {}
    assert "The openclaw_config of instance 7 was encrypted with another secret.key" in caplog.text
    assert "set it again" in caplog.text
