"""Secrets: new keys are random, derived tokens are constant, and files are private."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import InvalidToken

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.secrets import (
    ORGANIZATION_PREFIX,
    SCOPED_PREFIX,
    SecretBox,
    digest,
    mask_keys,
    new_key,
    shown_prefix,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def secret_box() -> SecretBox:
    return SecretBox(b"s" * 32)


def test_keys_are_random_and_have_the_prefix_of_their_kind() -> None:
    keys = {new_key(ORGANIZATION_PREFIX) for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("chd_org_") and len(key) >= 8 + 43 for key in keys)
    assert new_key(SCOPED_PREFIX).startswith("chd_sk_")


def test_the_shown_prefix_of_a_key_has_twelve_characters() -> None:
    key = new_key(ORGANIZATION_PREFIX)
    assert key.startswith(shown_prefix(key))
    assert len(shown_prefix(key)) == 12


def test_a_digest_is_the_keys_sha256() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_encrypted_text_is_unreadable_and_can_be_decrypted(secret_box: SecretBox) -> None:
    ciphertext = secret_box.encrypt("sk-ärø")
    assert b"sk-" not in ciphertext
    assert secret_box.decrypt(ciphertext) == "sk-ärø"
    assert secret_box.encrypt("sk-ärø") != ciphertext


def test_another_secret_cannot_decrypt(secret_box: SecretBox) -> None:
    with pytest.raises(InvalidToken):
        SecretBox(b"o" * 32).decrypt(secret_box.encrypt("sk"))


def test_the_tokens_of_a_sandbox_are_unique_and_constant(secret_box: SecretBox) -> None:
    again = SecretBox(b"s" * 32)
    assert secret_box.gateway_token("chowder-1") == again.gateway_token("chowder-1")
    assert secret_box.relay_token("chowder-1") == again.relay_token("chowder-1")
    tokens = {
        make(sandbox)
        for each in (secret_box, SecretBox(b"o" * 32))
        for make in (each.gateway_token, each.relay_token)
        for sandbox in ("chowder-1", "chowder-2")
    }
    assert len(tokens) == 8


def test_a_relay_token_contains_the_sandbox_id(secret_box: SecretBox) -> None:
    token = secret_box.relay_token("chowder-1")
    assert token.startswith("chowder-1.")
    assert secret_box.sandbox_of(token) == "chowder-1"


@pytest.mark.parametrize("wrong", ["", ".", "chowder-1", "chowder-1.", "chowder-1.00", "Ærø.x"])
def test_an_invented_relay_token_is_not_valid(secret_box: SecretBox, wrong: str) -> None:
    assert secret_box.sandbox_of(wrong) is None


def test_a_relay_token_with_a_swapped_part_is_not_valid(secret_box: SecretBox) -> None:
    _, _, proof = secret_box.relay_token("chowder-1").partition(".")
    assert secret_box.sandbox_of(f"chowder-2.{proof}") is None
    assert secret_box.sandbox_of(f"chowder-1.{secret_box.gateway_token('chowder-1')}") is None


def test_a_secret_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    made = SecretBox.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SecretBox.load(path).decrypt(made.encrypt("sk")) == "sk"
    assert SecretBox.load(tmp_path / "other.key").relay_token("a") != made.relay_token("a")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_secret_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    with pytest.raises(DataDirUnusable, match=r"secret\.key is damaged"):
        SecretBox.load(path)
    assert path.read_bytes() == content


def test_an_unreadable_secret_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(DataDirUnusable, match="cannot be read: Is a directory"):
        SecretBox.load(tmp_path / "secret.key")


def test_a_link_is_valid_until_it_expires() -> None:
    secret_box, now = SecretBox(b"s" * 32), datetime(2026, 5, 4, tzinfo=UTC)
    token = secret_box.encrypt_link("checkout", {"tier": "Ærø"}, now)
    later = now + timedelta(seconds=60)
    assert secret_box.decrypt_link(token, "checkout", later, 60) == {"tier": "Ærø"}
    assert secret_box.decrypt_link(token, "checkout", later + timedelta(seconds=1), 60) is None


def test_damaged_foreign_and_other_tokens_are_no_valid_links() -> None:
    secret_box, now = SecretBox(b"s" * 32), datetime(2026, 5, 4, tzinfo=UTC)
    token = secret_box.encrypt_link("checkout", {}, now)
    changed = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    others = SecretBox(b"o" * 32).encrypt_link("checkout", {}, now)
    stored = secret_box.encrypt('["checkout", {}]').decode()
    another_kind = secret_box.encrypt_link("portal", {}, now)
    for wrong in (changed, token[:-4], others, stored, another_kind, "", "Ærø"):
        assert secret_box.decrypt_link(wrong, "checkout", now, 60) is None


def test_a_link_token_has_only_characters_of_a_url() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    token = SecretBox(b"s" * 32).encrypt_link("checkout", {"tier": "text" * 100}, now)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)


@pytest.mark.parametrize("prefix", ["chd_org_", "chd_sk_"])
def test_keys_in_a_text_are_cut_to_their_prefix(prefix: str) -> None:
    key = new_key(prefix)
    masked = mask_keys(f"/v1/instances/{key}/files/{key}")
    assert masked == f"/v1/instances/{key[:12]}.../files/{key[:12]}..."
    assert mask_keys("/v1/keys/chd") == "/v1/keys/chd"
