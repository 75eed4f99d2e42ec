"""Makes a folder of npm packages small: removes what no agent reads, keeps equal files once.

Looked at for OpenClaw 2026.9.6; what another release does not have is noted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from fnmatch import translate
from pathlib import Path

MACHINES = {"x86_64": ("x64", "arm64"), "aarch64": ("arm64", "x64")}
UNUSED = (
    # A worker on another machine gets these; a sandbox has none.
    "node_modules/openclaw/dist/worker/worker.mjs",
    "node_modules/openclaw/dist/worker/sqlite-store.worker.mjs",
    # OpenClaw's own web pages are switched off, and nobody may switch them on.
    "node_modules/openclaw/dist/control-ui/*",
    # It controls a desktop, which a sandbox does not have. Its plugin loads without it.
    "node_modules/@trycua/cua-driver-linux-{machine}-gnu/libcua_driver_sdk.so",
    # The command; what runs in OpenClaw is the library.
    "node_modules/typescript/lib/_tsc.js",
    # Its errors in other languages, which only the command shows.
    "node_modules/typescript/lib/*/diagnosticMessages.generated.json",
    # Playwright's web pages: recorder, traces and reports. Agents control browsers, not these.
    "node_modules/playwright-core/lib/vite/*",
    # What web pages colour code by.
    "node_modules/highlight.js/styles/*",
    "node_modules/highlight.js/scss/*",
    # For another C library, and for the package's own developers.
    "node_modules/@koromix/koffi-linux-{machine}/musl_*/*.node",
    "node_modules/web-tree-sitter/debug/*",
    "node_modules/css-what/src/__fixtures__/*",
    # What updates compare, which a sandbox cannot make.
    "node_modules/openclaw/dist/postinstall-content-inventory.json",
    # Packages' own tests, and recordings for these.
    "*/qs/test/*",
    "node_modules/bottleneck/test/*",
    "node_modules/fast-uri/test/*",
    "channels/*/pino/test/*",
    "channels/*/node-wav/x.json",
    "channels/*/node-wav/file.wav",
    # What browsers load in place of the modules.
    "node_modules/@google/genai/dist/web/*",
    "node_modules/pngjs/browser.js",
    "channels/node_modules/axios/dist/browser/*",
    "channels/node_modules/axios/dist/esm/*",
    "channels/*/dist-browser/*",
    "channels/node_modules/@*/*/dist/browser/*",
    "channels/node_modules/@*/*/dist/react-native/*",
    "channels/*/opus-ml/dist/*.min.js",
    "channels/*/ogg-opus-decoder/dist/*.opus-ml.min.js",
    "channels/node_modules/@azure/msal-browser/*",
    "channels/*/*-linux-{other}-*/*.node",
)
"""Patterns of files, for this machine and the other one; `*` stands for folders, too."""
TYPES = (".map", ".d.ts", ".d.mts", ".d.cts", ".tsbuildinfo")
SOURCES = (".ts", ".mts", ".cts", ".tsx", ".md", ".cc", ".hh", ".h")
"""What runs was compiled from these, and only OpenClaw itself reads such files: agents, too."""
SMALLEST_LINKED_BYTES = 512


def main(folder: Path) -> None:
    """Makes one folder small, whose packages are in `node_modules` and in `channels`."""
    before = _size(folder)
    machine, other = MACHINES[os.uname().machine]
    patterns = {
        each: re.compile(translate(each.format(machine=machine, other=other))) for each in UNUSED
    }
    unmatched = set(UNUSED)
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        matched = [each for each in UNUSED if patterns[each].match(name)]
        unmatched.difference_update(matched)
        if matched or _is_for_developers(path):
            path.unlink()
    for each in UNUSED:
        if each in unmatched:
            _note_unfit(folder, f"there is no {each}")
    linked = _link_equal(folder)
    sys.stdout.write(f"{before} MB of packages are {_size(folder)} MB now, {linked} MB by links\n")


def _note_unfit(folder: Path, reason: str) -> None:
    """As `flatten/unfit.mjs` does."""
    sys.stdout.write(f"slim packages do not fit this OpenClaw: {reason}\n")
    with (folder / "unfit.jsonl").open("a", encoding="utf-8") as notes:
        notes.write(json.dumps({"shortcut": "slim packages", "reason": reason}) + "\n")


def _is_for_developers(path: Path) -> bool:
    if path.name.endswith(TYPES):
        return True
    # Below the last `node_modules` is one package.
    owner = f"{path.as_posix().rpartition('/node_modules/')[0]}/node_modules/"
    package = path.as_posix().removeprefix(owner).partition("/")[0]
    return path.suffix in SOURCES and package not in {"openclaw", "@openclaw"}


def _link_equal(folder: Path) -> int:
    """Makes equal files one; returns how many megabytes that spares."""
    first: dict[tuple[bytes, int], Path] = {}
    spared = 0
    files = [(each, each.stat()) for each in _files(folder)]
    sizes = Counter(status.st_size for _, status in files)
    for each, status in files:
        if status.st_size < SMALLEST_LINKED_BYTES or status.st_nlink > 1:
            continue
        if sizes[status.st_size] == 1:
            continue
        key = hashlib.sha256(each.read_bytes()).digest(), status.st_mode
        if key in first:
            each.unlink()
            os.link(first[key], each)
            spared += status.st_size
        else:
            first[key] = each
    return spared // 1_000_000


def _files(folder: Path) -> list[Path]:
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(each for each in found if each.is_file() and not each.is_symlink())


def _size(folder: Path) -> int:
    inodes = {each.stat().st_ino: each.stat().st_size for each in _files(folder)}
    return sum(inodes.values()) // 1_000_000


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    shutil.rmtree(Path(__file__).parent)
