"""Sealed objects: read as if they were not, and decrypted only when somebody looks."""

from __future__ import annotations

import pytest

from chowder_local.core.secrets import Vault
from chowder_local.store.encrypted_json import Sealed, seal

CONFIG = {"channels": {"line": {"channelSecret": "PLANTED-é"}}, "list": [1, None]}


class Counting(Vault):
    """One that knows how often something was decrypted."""

    decrypted = 0

    def decrypt(self, ciphertext: bytes) -> str:
        self.decrypted += 1
        return super().decrypt(ciphertext)


@pytest.fixture
def vault() -> Counting:
    return Counting(b"s" * 32)


def test_what_was_sealed_is_read_like_the_object_that_it_was(vault: Vault) -> None:
    sealed = Sealed(seal(CONFIG, vault), vault, "This")
    assert sealed == CONFIG
    assert dict(sealed) == CONFIG
    assert (len(sealed), list(sealed), sealed["list"]) == (2, ["channels", "list"], [1, None])
    assert not Sealed(seal({}, vault), vault, "This")


def test_it_is_decrypted_once_and_not_before_somebody_looks(vault: Counting) -> None:
    sealed = Sealed(seal(CONFIG, vault), vault, "This")
    assert "PLANTED" not in repr(sealed)
    assert vault.decrypted == 0
    assert sealed["list"] == CONFIG["list"]
    assert len(sealed) == 2
    assert vault.decrypted == 1


def test_its_ciphertext_tells_nothing(vault: Vault) -> None:
    ciphertext = seal(CONFIG, vault)
    assert b"PLANTED" not in ciphertext
    assert b"channels" not in ciphertext


def test_what_another_secret_has_sealed_is_as_good_as_not_set_and_the_log_says_what_to_do(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = Sealed(seal(CONFIG, Vault(b"t" * 32)), vault, "The openclaw_config of instance 7")
    assert dict(sealed) == {}
    assert "The openclaw_config of instance 7 was encrypted with another secret.key" in caplog.text
    assert "set it again" in caplog.text
