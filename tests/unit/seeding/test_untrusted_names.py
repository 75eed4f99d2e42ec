"""Names that programs obey, as all file systems compare them."""

from __future__ import annotations

import pytest

from chowder_local.seeding.untrusted_names import LeftOut, is_git_folder, is_obeyed

OBEYED = [
    ".git", ".gitattributes", ".gitmodules", ".GIT", ".git.", ".git ", ".git::$INDEX_ALLOCATION",
    ".g\u200cit", "\ufeff.git", "git~1", "GITMOD~1", ".git\\config", "HEAD", "head", "He\u200dad",
    ".envrc", ".env", ".ENVRC", ".vscode", ".idea", ".zed", ".exrc", ".dir-locals.el",
    ".mise.toml", "mise.toml", "mise.local.toml", "mise", ".tool-versions", ".nvmrc",
    ".pre-commit-config.yaml", "\uff0eenvrc", "ENVRC~1", ".\u212a",
]  # fmt: skip
PLAIN = ["AGENTS.md", "Makefile", "HEAD.md", "ahead", "config", "objects", "refs", "git", "mise.md",
         "a.git", "notes~1st.md", "v1.2", "t\u00fcr", ".openclaw", ".clawhub"]  # fmt: skip


@pytest.mark.parametrize("name", OBEYED)
def test_a_name_that_a_program_takes_for_its_own_is_left_out(name: str) -> None:
    assert is_obeyed(name)
    assert LeftOut()(f"workspace/{name}")
    assert LeftOut()(f"workspace/{name}/deep/file.md")


@pytest.mark.parametrize("name", PLAIN)
def test_any_other_name_is_copied(name: str) -> None:
    assert not is_obeyed(name)
    assert not LeftOut()(f"workspace/{name}/file.md")


def test_only_what_is_named_is_taken_and_never_what_is_of_git() -> None:
    left_out = LeftOut(["workspace/.vscode/tasks.json", "workspace/.config/", "workspace/.git"])
    taken = ["workspace", "workspace/.vscode", "workspace/.vscode/tasks.json",
             "workspace/.config", "workspace/.config/tool/file"]  # fmt: skip
    assert [path for path in taken if left_out(path)] == []
    for path in ("workspace/.vscode/settings.json", "workspace/.config/.envrc", "workspace/.git",
                 "workspace/.git/config", "other/.config"):  # fmt: skip
        assert left_out(path), path
    assert is_git_folder("workspace/.GIT/config")
