"""`snapshots`, and `instances fork`, `export` and `import`, against a scripted server."""

import json
from pathlib import Path

import pytest

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

LIST, SNAPSHOTS = "GET /v1/instances", "GET /local/snapshots"
INSTANCE = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running"}
MADE = {"id": "9f8e7d6c-5b4a", "name": "carp", "status": "provisioning"}
SNAPSHOT = {
    "id": "5a5b5c5d-0000",
    "instance_id": INSTANCE["id"],
    "name": "before",
    "size_bytes": 3_942_400,
    "created_at": "2026-11-24T10:11:12Z",
}
OF_FISH = "/local/instances/0a1b2c3d-4e5f"
WAITED = {
    "GET /v1/instances/9f8e7d6c-5b4a/status": {"status": "running"},
    "GET /v1/instances/9f8e7d6c-5b4a": MADE | {"status": "running"},
}


def test_snapshots_are_a_table(serve: Serve, capsys: Output) -> None:
    orphan = SNAPSHOT | {"id": "6a5b5c5d-0000", "name": None, "instance_id": "gone"}
    env, _ = serve({LIST: [INSTANCE], SNAPSHOTS: [SNAPSHOT, orphan]})
    assert run(["snapshots", "ls"], env) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["5a5b5c5d", "before", "fish", "3.9", "2026-11-24", "10:11"]
    assert second.split() == ["6a5b5c5d", "(gone)", "3.9", "2026-11-24", "10:11"]


def test_the_snapshots_of_an_instance_are_listed_as_json(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [INSTANCE], f"GET {OF_FISH}/snapshots": [SNAPSHOT]})
    assert run(["snapshots", "ls", "fish", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == [SNAPSHOT]


@pytest.mark.parametrize(("more", "name"), [([], None), (["before"], "before")])
def test_a_snapshot_is_taken(
    serve: Serve, capsys: Output, more: list[str], name: str | None
) -> None:
    call = f"POST {OF_FISH}/snapshots"
    others = f"GET {OF_FISH}/snapshots"
    env, requests = serve({LIST: [INSTANCE], others: [], call: (201, SNAPSHOT)})
    assert run(["snapshots", "create", "fish", *more], env) == 0
    assert capsys.readouterr().out.strip() == SNAPSHOT["id"]
    assert requests[-1] == (call, {"name": name} if name else {})
    assert run(["snapshots", "create", "fish", *more, "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == SNAPSHOT


def test_a_second_snapshot_of_an_agent_needs_another_name(serve: Serve, capsys: Output) -> None:
    env, requests = serve({LIST: [INSTANCE], f"GET {OF_FISH}/snapshots": [SNAPSHOT]})
    assert run(["snapshots", "create", "fish", "before"], env) == 1
    told = "fish has a snapshot 'before' already (5a5b5c5d-0000, of 2026-11-24 10:11)"
    assert told in capsys.readouterr().err
    assert all(call.startswith("GET") for call, _ in requests)


def test_restore_prefers_the_agents_own_snapshot_of_a_name(serve: Serve, capsys: Output) -> None:
    other = SNAPSHOT | {"id": "9999", "instance_id": "another"}
    call = f"POST {OF_FISH}/restore"
    table = {LIST: [INSTANCE], SNAPSHOTS: [other, SNAPSHOT], call: INSTANCE}
    env, requests = serve(table)
    assert run(["snapshots", "restore", "fish", "before", "--yes", "--no-wait"], env) == 0
    assert requests[-1] == (call, {"snapshot_id": SNAPSHOT["id"]})
    assert run(["snapshots", "rm", "before", "--yes"], env) == 1
    assert "9999, of 2026-11-24 10:11; 5a5b5c5d-0000, of" in capsys.readouterr().err


def test_a_snapshot_is_removed_by_name_after_asking(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = "DELETE /local/snapshots/5a5b5c5d-0000"
    env, requests = serve({SNAPSHOTS: [SNAPSHOT], call: (204, b"")})
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["snapshots", "rm", "before"], env) == 1
    assert call not in [each for each, _ in requests]
    assert run(["snapshots", "rm", "before", "--yes"], env) == 0
    assert requests[-1][0] == call
    assert "before is removed" in capsys.readouterr().err


def test_an_unknown_snapshot_is_an_error(serve: Serve, capsys: Output) -> None:
    env, _ = serve({SNAPSHOTS: [SNAPSHOT]})
    assert run(["snapshots", "rm", "after", "--yes"], env) == 1
    assert "No snapshot is called 'after'" in capsys.readouterr().err


def test_an_agent_is_restored_after_asking(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = f"POST {OF_FISH}/restore"
    table = {LIST: [INSTANCE], SNAPSHOTS: [SNAPSHOT], call: INSTANCE | {"status": "provisioning"}}
    own = f"/v1/instances/{INSTANCE['id']}"
    env, requests = serve(table | {f"GET {own}/status": INSTANCE, f"GET {own}": INSTANCE})
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["snapshots", "restore", "fish", "before"], env) == 1
    assert call not in [each for each, _ in requests]
    capsys.readouterr()
    assert run(["snapshots", "restore", "fish", "before", "--yes"], env) == 0
    assert (call, {"snapshot_id": SNAPSHOT["id"]}) in requests
    assert capsys.readouterr().out.strip() == INSTANCE["id"]


REPORT = {
    "from_version": "2026.9.5",
    "to_version": "2026.9.6",
    "can_upgrade": False,
    "findings": [
        {
            "check": "database/state",
            "severity": "error",
            "message": "it is newer",
            "is_expected": False,
        },
        {"check": "core/a", "severity": "warning", "message": "as ever", "is_expected": True},
    ],
}


def test_a_dry_run_of_an_upgrade_shows_its_findings(serve: Serve, capsys: Output) -> None:
    call = f"POST {OF_FISH}/upgrade"
    env, requests = serve({LIST: [INSTANCE], call: REPORT})
    assert run(["instances", "upgrade", "fish", "--to", "2026.9.6", "--dry-run"], env) == 0
    assert requests[-1] == (call, {"to": "2026.9.6", "dry_run": True})
    assert capsys.readouterr().out.splitlines() == [
        "It cannot go from OpenClaw 2026.9.5 to 2026.9.6.",
        "error    database/state: it is newer",
        "Expected, as every upgrade has it or the present release finds it as well:",
        "warning  core/a: as ever",
    ]


def test_an_upgrade_says_how_to_go_back(serve: Serve, capsys: Output) -> None:
    own = f"/v1/instances/{INSTANCE['id']}"
    call = f"POST {OF_FISH}/upgrade"
    table = {LIST: [INSTANCE], call: REPORT, f"GET {own}/status": INSTANCE, f"GET {own}": INSTANCE}
    env, requests = serve(table)
    assert run(["instances", "upgrade", "fish", "--to", "2026.9.6"], env) == 0
    assert (call, {"to": "2026.9.6", "dry_run": False}) in requests
    assert "chowder-local instances upgrade fish --rollback" in capsys.readouterr().err


def test_a_rollback_restores_the_snapshot_of_the_last_upgrade(serve: Serve) -> None:
    taken = [
        SNAPSHOT | {"id": f"{number}a5b5c5d-0000", "name": name}
        for number, name in enumerate(["before OpenClaw 2026.9.5", "before OpenClaw 2026.9.6", "x"])
    ]
    call = f"POST {OF_FISH}/restore"
    own = f"/v1/instances/{INSTANCE['id']}"
    table = {LIST: [INSTANCE], f"GET {OF_FISH}/snapshots": taken, call: INSTANCE}
    env, requests = serve(table | {f"GET {own}/status": INSTANCE, f"GET {own}": INSTANCE})
    assert run(["instances", "upgrade", "fish", "--rollback", "--yes"], env) == 0
    assert (call, {"snapshot_id": "1a5b5c5d-0000"}) in requests


def test_without_an_upgrade_there_is_no_rollback(serve: Serve, capsys: Output) -> None:
    env, _ = serve({LIST: [INSTANCE], f"GET {OF_FISH}/snapshots": [SNAPSHOT]})
    assert run(["instances", "upgrade", "fish", "--rollback", "--yes"], env) == 1
    assert "fish has no snapshot of an upgrade" in capsys.readouterr().err
    assert run(["instances", "upgrade", "fish"], env) == 2


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (["snapshots", "fork", "before"], "POST /local/snapshots/5a5b5c5d-0000/fork"),
        (["instances", "fork", "fish"], f"POST {OF_FISH}/fork"),
    ],
)
def test_a_fork_is_made_and_waited_for(
    serve: Serve, capsys: Output, command: list[str], call: str
) -> None:
    env, requests = serve({LIST: [INSTANCE], SNAPSHOTS: [SNAPSHOT], call: (201, MADE), **WAITED})
    assert run([*command, "carp"], env) == 0
    assert (call, {"name": "carp", "jobs": "off"}) in requests
    assert capsys.readouterr().out.strip() == MADE["id"]
    assert run([*command, "carp", "--no-wait", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == MADE


@pytest.mark.parametrize(("target", "becomes"), [([], "f_sh.chowder.tar"), (["x.tar"], "x.tar")])
def test_an_agent_is_written_to_a_file(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: list[str],
    becomes: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    env, _ = serve({LIST: [INSTANCE | {"name": ".f/sh"}], f"GET {OF_FISH}/export": b"\x00tar"})
    assert run(["instances", "export", "0a1b", *target], env) == 0
    assert (tmp_path / becomes).read_bytes() == b"\x00tar"
    assert (tmp_path / becomes).stat().st_mode & 0o077 == 0


def test_an_agent_is_written_to_a_pipe(
    serve: Serve, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    env, _ = serve({LIST: [INSTANCE], f"GET {OF_FISH}/export": b"\x00tar"})
    assert run(["instances", "export", "fish", "-"], env) == 0
    assert capsysbinary.readouterr().out == b"\x00tar"


def test_a_failed_export_keeps_the_old_file(serve: Serve, tmp_path: Path, capsys: Output) -> None:
    env, _ = serve({LIST: [INSTANCE], f"GET {OF_FISH}/export": (409, {"detail": "Not now."})})
    (tmp_path / "old.tar").write_bytes(b"old")
    assert run(["instances", "export", "fish", str(tmp_path / "old.tar"), "--yes"], env) == 1
    assert (tmp_path / "old.tar").read_bytes() == b"old"
    assert not (tmp_path / "old.tar.part").exists()
    assert "Not now." in capsys.readouterr().err


def test_all_agents_are_exported_even_if_one_fails(
    serve: Serve, tmp_path: Path, capsys: Output
) -> None:
    others = [{**INSTANCE, "id": f"{digit * 8}-0", "name": "Fish"} for digit in "12"]
    tars = {f"GET /local/instances/{each['id']}/export": b"tar" for each in others}
    refused = {f"GET {OF_FISH}/export": (409, {"detail": "Not now."})}
    env, _ = serve({LIST: [INSTANCE, *others], **tars, **refused})
    assert run(["instances", "export", "--all", str(tmp_path / "agents")], env) == 1
    names = [each.name for each in (tmp_path / "agents").iterdir()]
    assert sorted(names) == ["Fish-11111111.chowder.tar", "Fish-22222222.chowder.tar"]
    notes = capsys.readouterr().err
    assert "fish: Not now." in notes
    assert notes.endswith("Error: Not done: fish.\n")


def test_an_export_of_all_asks_once_before_it_overwrites(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    env, requests = serve({LIST: [INSTANCE], f"GET {OF_FISH}/export": b"new"})
    old = tmp_path / "fish.chowder.tar"
    old.write_bytes(b"old")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run(["instances", "export", "--all", str(tmp_path)], env) == 1
    assert (old.read_bytes(), len(requests)) == (b"old", 1)
    assert run(["instances", "export", "--all", str(tmp_path), "--yes"], env) == 0
    assert old.read_bytes() == b"new"


def test_a_folder_of_exports_is_imported_and_new_ids_are_said(
    serve: Serve, tmp_path: Path, capsys: Output
) -> None:
    env, requests = serve({"POST /local/instances/import?jobs=off": (201, MADE), **WAITED})
    assert run(["instances", "import", "--all", str(tmp_path)], env) == 1
    for name in ("a.chowder.tar", "b.chowder.tar", "c.tar"):
        (tmp_path / name).write_bytes(b"{}")
    assert run(["instances", "import", "--all", str(tmp_path)], env) == 0
    printed, notes = capsys.readouterr()
    assert printed == f"{MADE['id']}  carp\n" * 2
    assert "Their ids are new" in notes
    assert [call.split("/")[-1] for call, _ in requests].count("import?jobs=off") == 2
    assert run(["instances", "import", "--all", str(tmp_path), "--json"], env) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["status"] for each in listed] == ["running", "running"]


@pytest.mark.parametrize(
    "arguments",
    [["export"], ["export", "--all", "a", "b"], ["import", "."], ["import", ".", "x", "--all"]],
)
def test_one_agent_and_all_agents_are_not_mixed_up(
    serve: Serve, capsys: Output, arguments: list[str]
) -> None:
    env, requests = serve({})
    assert run(["instances", *arguments], env) == 2
    assert (requests, "or --all" in capsys.readouterr().err) == ([], True)
