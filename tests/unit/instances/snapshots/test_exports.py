"""Exporting agents to files and importing them."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import AgentClock, Instance, InstanceStatus
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.requests import (
    ArchiveRefused,
    BodyTooLarge,
    InstanceStateWrong,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.snapshots import exports
from chowder_local.instances.snapshots.exports import MANIFEST, MAX_MANIFEST_BYTES, manifest_entry
from chowder_local.openclaw.session_keys import session_key
from chowder_local.openclaw.shortcuts import EXPORTS
from chowder_local.store.sessions import NamedSession
from tests.scripted.homes import archive, contents, exported, link
from tests.scripted.hostile import heartbeat
from tests.scripted.refusals import refusal_of
from tests.scripted.shortcuts import make_unfit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripted.world import World

NOTES = ".openclaw/workspace/notes.md"
SESSION = {
    "name": "Ticket 1",
    "created_at": "2026-05-04T03:02:01+00:00",
    "last_used_at": "2026-05-05T03:02:01+00:00",
}


async def agent(world: World) -> Instance:
    own = {"channels.telegram.botToken": "bot-secret", "agents.defaults.thinkingDefault": "off"}
    instance = await world.created(openclaw_config=own)
    config = {
        "gateway": {"auth": {"token": "gateway-secret"}},
        "models": {"providers": {"chowder-openai": {"apiKey": "relay-secret", "baseUrl": "2470"}}},
        "channels": {"telegram": {"botToken": "bot-secret"}},
        "agents": {"defaults": {"thinkingDefault": "off"}},
    }
    files = {
        ".openclaw/openclaw.json": json.dumps(config).encode(),
        ".openclaw/state/openclaw.sqlite": b"device-secret",
        NOTES: b"teal",
    }
    world.engine.put_home(instance.sandbox_id, archive(files))
    await world.sessions.remember(instance.id, "Ticket 1", session_key("Ticket 1"), world.clock.now)
    return instance


async def export(world: World, instance: Instance) -> bytes:
    export = await world.exports.export(instance)
    content = b"".join([chunk async for chunk in export.chunks])
    assert len(content) == export.size
    return content


async def body_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def import_archive(world: World, content: bytes, **more: Any) -> Instance:
    made = await world.exports.import_archive(world.organization_id, body_of(content), **more)
    return await world.settled(made)


def files_left(world: World) -> list[str]:
    folder = world.snapshots.archives.path("x").parent  # type: ignore[arg-type]  # no id
    return [path.name for path in folder.iterdir()]


async def test_an_export_has_no_secrets(world: World) -> None:
    content = await export(world, await agent(world))
    assert b"secret" not in content
    assert b"2470" not in content
    files = contents(content)
    manifest = json.loads(files.pop(MANIFEST))
    assert files == {NOTES: b"teal"}
    assert (manifest["format"], manifest["version"]) == ("chowder-local agent", 1)
    assert (manifest["name"], manifest["openclaw_version"]) == ("Ada", "2026.9.6")
    thinking = {"agents": {"defaults": {"thinkingDefault": "off"}}}
    assert (manifest["config"], manifest["overrides"]) == (thinking, thinking)
    assert [each["name"] for each in manifest["sessions"]] == ["Ticket 1"]


@pytest.mark.parametrize(
    "names", [["x" * 60_000], [f"{number:04} {'🍲' * 4000}" for number in range(300)]]
)
async def test_sessions_of_any_name_are_exported_and_imported(
    world: World, names: list[str]
) -> None:
    original, now = await agent(world), world.clock.now
    sessions = [NamedSession(original.id, each, session_key(each), now, now) for each in names]
    await world.sessions.replace(original.id, sessions)
    imported = await import_archive(world, await export(world, original))
    kept = {each.name for each in await world.sessions.of_instance(imported.id)}
    assert kept == set(names)


async def test_of_too_many_sessions_the_latest_are_exported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, now = await agent(world), world.clock.now
    await world.sessions.remember(original.id, "new", session_key("new"), now + timedelta(hours=1))
    for limit in ("MAX_SESSIONS", "MAX_SESSIONS_CHARACTERS"):
        with monkeypatch.context() as patched:
            patched.setattr(exports, limit, {"MAX_SESSIONS": 1}.get(limit, 250))
            manifest = json.loads(contents(await export(world, original))[MANIFEST])
        assert [each["name"] for each in manifest["sessions"]] == ["new"]


async def test_if_it_is_not_known_where_secrets_are_an_export_has_the_workspace_only(
    world: World,
) -> None:
    make_unfit(world.engine, EXPORTS)
    original = await agent(world)
    files = {
        ".openclaw/agents/main/sessions.sqlite": b"",
        ".openclaw/keychain": b"",
        NOTES: b"teal",
    }
    world.engine.put_home(original.sandbox_id, archive(files))
    exported = contents(await export(world, original))
    assert exported.keys() - {MANIFEST} == {NOTES}


async def test_an_export_fails_if_its_home_cannot_be_scrubbed(world: World) -> None:
    original = await agent(world)
    world.engine.failing["rework_home"] = EngineUnavailable("gone")
    with pytest.raises(EngineUnavailable):
        await world.exports.export(original)
    assert (files_left(world), await world.snapshot_queries.ids()) == ([], set())


async def test_the_snapshot_of_an_export_is_removed(world: World) -> None:
    await export(world, await agent(world))
    await world.reconciler.reconcile()
    assert (files_left(world), await world.snapshot_queries.ids()) == ([], set())


async def test_a_stopped_instance_can_be_exported_and_one_that_was_never_ready_cannot(
    world: World,
) -> None:
    assert contents(await export(world, await world.stopped()))
    unborn = await world.placed(InstanceStatus.ERROR, first_ready_at=None)
    with pytest.raises(InstanceStateWrong):
        await world.exports.export(unborn)


async def test_an_import_may_have_another_name(world: World) -> None:
    content = exported(sessions=[SESSION], model_provider="openai", made_at=None)
    made = await import_archive(world, content, name="Cid")
    assert (made.name, made.model_provider) == ("Cid", "openai")
    (session,) = await world.sessions.of_instance(made.id)
    assert session.last_used_at == datetime(2026, 5, 5, 3, 2, 1, tzinfo=UTC)


async def test_an_imported_configuration_cannot_set_reserved_settings(world: World) -> None:
    evil = {
        "gateway": {"auth": {"token": "mine"}, "bind": "x"},
        "models": {"providers": {"chowder-openai": {"baseUrl": "http://evil"}}},
    }
    made = await import_archive(world, exported(config=evil))
    told = world.engine.files[made.sandbox_id]["openclaw.json"]
    assert b"evil" not in told
    assert json.loads(told)["gateway"]["bind"] == "lan"
    with pytest.raises(ConfigRefused):
        await import_archive(world, exported(overrides=evil))


def first_entry(name: str, content: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry.tobuf() + content + bytes(-len(content) % 512)


WRONG = {
    "no archive": (b"PK\x03\x04" + bytes(2000), "not a plain tar"),
    "nothing": (b"", "not a plain tar"),
    "no manifest": (archive({NOTES: b""}, prefix=""), f"does not begin with {MANIFEST}"),
    "another file": (first_entry("a.json", b"{}"), f"does not begin with {MANIFEST}"),
    "an endless manifest": (
        first_entry(MANIFEST, bytes(MAX_MANIFEST_BYTES + 1)),
        f"does not begin with {MANIFEST}",
    ),
    "no JSON": (manifest_entry(b"{ a: 1 }"), "is not JSON"),
    "too deep JSON": (manifest_entry(b"[" * 100_000), "is not JSON"),
    "too much JSON": (manifest_entry(b"[" + b"0," * 1_000_000 + b"0]"), "more than 1000000 values"),
    "another format": (exported(format="docker"), "does not describe an agent"),
    "no version": (exported(version="1"), "does not describe an agent"),
    "a later version": (exported(version=2), "version is 2, but this server supports 1"),
    "another provider": (exported(model_provider="mine"), "model_provider"),
    "an endless path": (exported(overrides={"a." * 100_000 + "a": 1}), "too many parts"),
    "no name": (exported(name=""), "name"),
    "a session without a zone": (
        exported(sessions=[SESSION | {"created_at": "2026-05-04T03:02:01"}]),
        "sessions.0.created_at",
    ),
    "a home that breaks off": (exported({NOTES: bytes(20_000)})[:-15_000], "truncated"),
    "a link": (
        manifest_entry(json.dumps({"format": "chowder-local agent", "version": 1}).encode())
        + archive({}, link("l", "/etc/shadow"), prefix=""),
        "leads out",
    ),
}


async def test_an_invalid_archive_is_refused_and_leaves_nothing(world: World) -> None:
    mismatches = {}
    for what, (content, words) in WRONG.items():
        told = await refusal_of(ArchiveRefused, import_archive(world, content))
        left = (files_left(world), await world.snapshot_queries.ids(), world.engine.calls)
        if words not in told or left != ([], set(), []):
            mismatches[what] = told, left
    assert not mismatches


async def test_an_archive_over_the_limit_is_refused(world: World) -> None:
    with pytest.raises(BodyTooLarge):
        await import_archive(world, bytes(2000), max_bytes=1999)
    assert files_left(world) == []


async def test_an_interrupted_import_leaves_nothing(world: World) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(100)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await world.exports.import_archive(world.organization_id, breaking())
    assert files_left(world) == []


@pytest.mark.parametrize(
    ("release", "version"),
    [("2026.9.6", "v1"), ("2026.9.5", "2026.9.5"), ("2026.8.1", "v1"), ("", "v1")],
)
async def test_an_imported_agent_runs_its_release_or_a_newer_one(
    world: World, release: str, version: str
) -> None:
    imported = await import_archive(world, exported(openclaw_version=release))
    assert (imported.status, imported.openclaw_version) == (InstanceStatus.RUNNING, version)


async def test_an_archive_of_a_newer_release_is_refused_with_the_cure(world: World) -> None:
    refused = exported(openclaw_version="2026.10.1")
    with pytest.raises(ArchiveRefused, match=r"image build --openclaw 2026\.10\.1"):
        await import_archive(world, refused)


async def test_an_export_has_the_clock(world: World) -> None:
    clock = AgentClock(offset_ms=86_400_000, frozen_ms=1_800_000_000_000, seed=7)
    original = await agent(world)
    await world.instances.change(original.id, now=world.clock.now, clock=clock)
    content = await export(world, await world.now(original))
    assert (await import_archive(world, content)).clock == clock
    with pytest.raises(ArchiveRefused):
        await import_archive(world, exported(clock={"offset_ms": 10**18}))


async def test_an_import_of_very_many_sessions_does_not_hold_the_loop(world: World) -> None:
    now = world.clock.now.isoformat()
    sessions = [
        {"name": f"customer {number}", "created_at": now, "last_used_at": now}
        for number in range(50_000)
    ]
    histories = {f"agent:main:openresponses:{number}": {"items": ""} for number in range(1_000)}
    content = exported(sessions=sessions, histories=histories)
    async with heartbeat("an import of 50,000 sessions"):
        imported = await import_archive(world, content)
    async with heartbeat("an export of 50,000 sessions"):
        again = await export(world, imported)
    assert len(await world.sessions.of_instance(imported.id)) == len(sessions)
    assert f'"{sessions[-1]["name"]}"'.encode() in again
