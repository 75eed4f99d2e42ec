"""Names of files that programs obey as soon as somebody enters or opens the folder they are in."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HARMLESS = {".openclaw", ".clawhub"}
"""Names with a dot that only OpenClaw reads."""
_WITHOUT_DOT = re.compile(
    # Without it, git takes no folder for a repository.
    r"head|mise(\.(.*\.)?toml)?"
)
_SHORT = re.compile(r"[^.]{1,6}~\d+(\..{0,3})?")
"""What Windows takes for another, long name: `git~1` is `.git`."""
_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""What HFS+ ignores in a name."""


def is_obeyed(name: str) -> bool:
    """Whether a program may take a file or folder of this name for its own.

    Shells, version managers, git and editors look for names with a dot, and for a few others.
    """
    plain = _plain(name)
    is_hidden = plain.startswith(".") and plain not in HARMLESS
    match = _WITHOUT_DOT.fullmatch(plain) or _SHORT.fullmatch(plain)
    return is_hidden or match is not None


def is_git_folder(path: str) -> bool:
    """Whether git would take a folder above a path, or the path itself, for its `.git`."""
    return any(_plain(each) in {".git", "git~1"} for each in path.split("/"))


def _plain(name: str) -> str:
    """The name as a file system compares it that ignores case, marks, streams, dots at its end."""
    folded = unicodedata.normalize("NFKC", _IGNORED.sub("", name)).casefold()
    # A backslash leads into a folder on Windows, and a colon to a stream of the file.
    return re.split(r"[\\:]", folded)[0].rstrip(". ")


class LeftOut:
    """Which paths of an agent's home are not copied, unless they are named."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """`taken` are the paths that are copied nevertheless, with what is in such a folder."""
        self._taken = {each.rstrip("/") for each in taken}
        self._above = {
            each[: slash.start()] for each in self._taken for slash in re.finditer("/", each)
        }

    def __call__(self, path: str) -> bool:
        if is_git_folder(path):
            return True
        if path in self._taken or path in self._above:
            return False
        ends = [*(slash.start() for slash in re.finditer("/", path)), len(path)]
        prefixes = (path[:end] for end in ends)
        return any(
            is_obeyed(each.rpartition("/")[2]) and each not in self._taken for each in prefixes
        )
