"""Archives of homes: safe entries are copied, and hostile archives are refused."""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Any

import pytest

from chowder_local.core.errors.requests import ArchiveRefused
from chowder_local.openclaw.home import sanitize
from chowder_local.openclaw.home.sanitize import SanitizedHome, is_exported, sanitize_home
from tests.scripted.homes import archive, contents, folder, link
from tests.scripted.refusals import refusal

NOTES = ".openclaw/workspace/notes.md"


def clean(source: bytes, **options: Any) -> tuple[SanitizedHome, dict[str, tarfile.TarInfo], bytes]:
    target = io.BytesIO()
    defaults: dict[str, Any] = {"is_strict": True, "prefix": "data/"}
    home = sanitize_home([source], target, **defaults | options)
    written = target.getvalue()
    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        return home, {entry.name: entry for entry in tar.getmembers()}, written


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    return entry


def test_files_and_folders_go_on_below_no_prefix() -> None:
    home, members, written = clean(archive({NOTES: b"hello"}))
    assert list(members) == [".openclaw", ".openclaw/workspace", NOTES]
    assert contents(written) == {NOTES: b"hello"}
    assert home.size_bytes == len(written)


@pytest.mark.parametrize("size", [1, 511, 513, 4000])
def test_an_archive_may_come_in_chunks_of_any_size(size: int) -> None:
    entry = tarfile.TarInfo(f"data/{'long/' * 30}name")
    source = archive({NOTES: b"x" * 3000, "b": b"y" * 512}, link("data/l", "b"), entry)
    pieces = iter([source[at : at + size] for at in range(0, len(source), size)])
    target = io.BytesIO()
    sanitize_home(pieces, target, prefix="data/", is_strict=False)
    assert target.getvalue() == clean(source, is_strict=False)[2]
    # The source is read to its end, also after the archive's end mark.
    assert list(pieces) == []


def test_an_entry_keeps_its_permissions_but_not_its_owner() -> None:
    entry = tarfile.TarInfo("data/run.sh")
    entry.mode, entry.uid, entry.gid, entry.uname, entry.mtime = 0o6755, 0, 0, "root", 12.7
    _, members, _ = clean(archive({}, entry))
    member = members["run.sh"]
    assert (member.mode, member.uid, member.gid, member.uname, member.mtime) == (
        0o755,
        1000,
        1000,
        "",
        12,
    )


def test_the_owner_can_always_enter_a_folder() -> None:
    entry = folder("data/closed")
    entry.mode = 0o000
    assert clean(archive({}, entry))[1]["closed"].mode == 0o700


def test_a_sandboxs_own_files_are_not_copied() -> None:
    of_the_sandbox = {
        sanitize.CONFIG: b'{"gateway": {}}',
        f"{sanitize.CONFIG}.bak": b"{}",
        ".openclaw/chowder-ca.pem": b"pem",
        ".openclaw/tmp/x.lock": b"",
        ".openclaw/state/openclaw.sqlite-shm": b"",
        ".cache/a": b"",
        ".npm/a": b"",
    }
    home, _, written = clean(archive(of_the_sandbox | {NOTES: b"kept"}))
    assert contents(written) == {NOTES: b"kept"}
    assert home.config == b'{"gateway": {}}'


def test_a_move_takes_caches_along_and_nothing_of_the_sandbox() -> None:
    files = {".cache/a": b"1", ".npm/a": b"2", sanitize.CONFIG: b"{}", ".openclaw/tmp/x": b""}
    _, _, written = clean(archive(files), is_wanted=sanitize.is_moved)
    assert contents(written) == {".cache/a": b"1", ".npm/a": b"2"}


def test_a_configuration_over_the_limit_is_not_read() -> None:
    source = archive({sanitize.CONFIG: bytes(sanitize.MAX_CONFIG_BYTES + 1)})
    assert clean(source)[0].config is None


def test_an_export_has_no_keys_or_secrets() -> None:
    kept = {NOTES, ".openclaw/agents/main/agent/openclaw-agent.sqlite"}
    private = {
        ".openclaw/state/openclaw.sqlite", ".openclaw/credentials/x", ".openclaw/identity/device",
        ".openclaw/devices/x", ".openclaw/secrets.json", ".openclaw/.env", ".openclaw/logs/a",
        ".openclaw/config-journal-fingerprint.key", ".ssh/id_ed25519",
    }  # fmt: skip
    source = archive(dict.fromkeys(kept | private, b"x"))
    assert set(contents(clean(source, is_wanted=is_exported)[2])) == kept


@pytest.mark.parametrize(
    "target", ["notes.md", "../workspace", "/usr/bin/python3", "/data/.openclaw/x", "./a/../b"]
)
def test_a_link_that_stays_goes_on(target: str) -> None:
    entry = link("data/.openclaw/l", target)
    _, members, _ = clean(archive({NOTES: b""}, entry))
    assert (members[".openclaw/l"].issym(), members[".openclaw/l"].linkname) == (True, target)


def test_a_hard_link_is_copied() -> None:
    entry = link("data/.openclaw/twin", f"data/{NOTES}", is_hard=True)
    _, members, _ = clean(archive({NOTES: b"x"}, entry))
    assert (members[".openclaw/twin"].islnk(), members[".openclaw/twin"].linkname) == (True, NOTES)


UNFIT = {
    "a link that climbs": link("data/l", "../../etc/passwd"),
    "a link to the host's files": link("data/l", "/etc/passwd"),
    "a link that climbs from the root": link("data/l", "/usr/../etc/passwd"),
    "a link to nothing": link("data/l", ""),
    "a second name of what is not there": link("data/l", "data/other", is_hard=True),
    "a second name of what is outside": link("data/l", "/etc/passwd", is_hard=True),
    "a character device": device("data/d"),
    "a block device": device("data/d", tarfile.BLKTYPE),
    "a pipe": device("data/d", tarfile.FIFOTYPE),
    "a file without its folder": device("data/not/there", tarfile.REGTYPE),
}


@pytest.mark.parametrize("entry", UNFIT.values(), ids=UNFIT)
def test_unsafe_entries_are_refused_if_strict_and_omitted_otherwise(
    entry: tarfile.TarInfo,
) -> None:
    source = archive({NOTES: b"kept"}, entry)
    with pytest.raises(ArchiveRefused):
        clean(source)
    assert contents(clean(source, is_strict=False)[2]) == {NOTES: b"kept"}


CLIMBING = [
    "/etc/passwd",
    "../up",
    "data/../up",
    "data/a/../../up",
    "data//a",
    "data/./a",
    "other/a",
    f"data/{'a/' * 2100}a",
]


@pytest.mark.parametrize("is_strict", [True, False])
def test_a_path_with_dots_is_refused(is_strict: bool) -> None:
    archives = {name: archive({}, tarfile.TarInfo(name)) for name in CLIMBING}
    refused = {
        name: refusal(ArchiveRefused, clean, source, is_strict=is_strict)
        for name, source in archives.items()
    }
    assert not {name: words for name, words in refused.items() if "not a path inside" not in words}


def test_nothing_is_written_through_a_link() -> None:
    entries = [link("data/l", "/usr/lib"), tarfile.TarInfo("data/l/evil")]
    with pytest.raises(ArchiveRefused, match="not in a folder"):
        clean(archive({}, *entries))


@pytest.mark.parametrize("second", [link("data/a", "b"), folder("data/a")], ids=["link", "folder"])
def test_a_name_that_is_there_twice_is_refused(second: tarfile.TarInfo) -> None:
    with pytest.raises(ArchiveRefused, match="twice"):
        clean(archive({"a": b"", "b": b""}, second))
    with pytest.raises(ArchiveRefused, match="twice"):
        clean(archive({"b/c": b""}, tarfile.TarInfo("data/b")))


def test_a_large_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(ArchiveRefused, match="more than 100 bytes"):
        clean(archive({}), max_bytes=100)
    with pytest.raises(ArchiveRefused, match="more than 2 entries"):
        clean(archive({NOTES: b""}), max_entries=2)


def header(kind: bytes, size: int, name: str = "data/x") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def raw(*blocks: bytes) -> bytes:
    return b"".join(block + bytes(-len(block) % 512) for block in blocks) + bytes(1024)


PAX = b"20 size=99999999999\n"
BOMBS = {
    "an extension of gigabytes": raw(header(tarfile.XHDTYPE, 4 * 1024**3)),
    "a long name of megabytes": raw(header(tarfile.GNUTYPE_LONGNAME, 5 * 1024**2)),
    "a size that only the extension says": raw(header(tarfile.XHDTYPE, len(PAX)), PAX),
    "a sparse file": raw(header(tarfile.GNUTYPE_SPARSE, 0)),
    "a sparse file of the newer kind": raw(header(tarfile.XHDTYPE, 22), b"22 GNU.sparse.major=1\n"),
    "more content than there is": raw(header(tarfile.REGTYPE, 10**6)),
    "an extension that says nothing": raw(header(tarfile.XHDTYPE, 10), b"garbage!!!"),
    "no archive": b"PK\x03\x04" + bytes(2000),
    "a compressed one": b"\x1f\x8b\x08" + bytes(2000),
    "less than a header": b"x" * 100,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_an_archive_that_exceeds_its_bounds_is_refused(bomb: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        clean(bomb)


def test_a_negative_size_is_refused() -> None:
    block = bytearray(header(tarfile.REGTYPE, 0))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", -512)
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    block[148:156] = f"{total:06o}\0 ".encode()
    with pytest.raises(ArchiveRefused, match="negative size"):
        clean(raw(bytes(block)))


def test_an_archive_with_a_broken_extension_amid_it_is_refused_whole() -> None:
    broken = b"99 mtime=x\n"
    blocks = (header(tarfile.REGTYPE, 0), header(tarfile.XHDTYPE, len(broken)), broken)
    with pytest.raises(ArchiveRefused, match="extension cannot be read"):
        clean(raw(*blocks, header(tarfile.REGTYPE, 0, "data/y")))


def test_an_archive_may_end_without_an_end() -> None:
    whole = raw(header(tarfile.REGTYPE, 600), b"x" * 600)
    assert contents(clean(whole[:-1024])[2]) == {"x": b"x" * 600}
