"""Programs beside a sandbox, on a real engine, and what agents may have put on the volume."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import SANDBOX, sandbox_labels, store_filter, store_labels
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks
from chowder_local.engine.specs import HOME, STATE_DIR, Limits, SandboxTemplate
from chowder_local.openclaw.sandbox_exec import Control
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.openclaw.transcripts import reader
from chowder_local.openclaw.transcripts.chat_history import ChatHistory
from chowder_local.openclaw.transcripts.reader import Transcripts
from tests.scripted.shortcuts import all_fit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"
IMAGE = expected_tag(Settings())
DATABASE = f"{STATE_DIR}/{reader.DATABASE}"
TABLES = """
CREATE TABLE session_nodes (session_key, current_session_id, updated_at);
CREATE TABLE session_windows (session_id, session_key, created_at, channel, model);
CREATE TABLE session_transcript_index_state (session_id, needs_rebuild, active_message_count);
CREATE TABLE session_transcript_active_events (session_id, event_seq, message_position);
CREATE TABLE transcript_events (session_id, seq, event_json, event_zstd);
INSERT INTO session_nodes VALUES ('agent:main:main', 's', 2000);
INSERT INTO session_windows VALUES ('s', 'agent:main:main', 1000, NULL, 'm');
"""
MAKING = f"""
import os, pathlib, sqlite3, sys, json
path = pathlib.Path({DATABASE!r})
path.parent.mkdir(parents=True, exist_ok=True)
path.unlink(missing_ok=True)
def open_database(tables):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(tables)
    return database
def add(database, number, event, indexed=True):
    names = "(session_id, seq, event_json)"
    database.execute(f"INSERT INTO transcript_events {{names}} VALUES ('s', ?, ?)", (number, event))
    if indexed:
        row = (number, number)
        database.execute("INSERT INTO session_transcript_active_events VALUES ('s', ?, ?)", row)
def said(text, **more):
    message = {{"role": "user", "content": text, "timestamp": 0}} | more
    return json.dumps({{"type": "message", "message": message}}, separators=(",", ":"))
TABLES = {TABLES!r}
INDEX = "INSERT INTO session_transcript_index_state VALUES ('s', 0, 3)"
"""


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = open_client(find_engine(os.environ))
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def sandbox_id(client: docker.DockerClient) -> Iterator[SandboxId]:
    """A sandbox that has a volume and no container."""
    name = SandboxId(f"chowder-beside-{secrets.token_hex(4)}")
    volume = client.volumes.create(name, labels=sandbox_labels(STORE_ID, name))
    yield name
    volume.remove()
    assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    nowhere = SandboxNetwork("none", "127.0.0.1", "127.0.0.1")
    async with DockerEngine.connect(
        find_engine(os.environ), STORE_ID, timeout_s=20, thread_count=2
    ) as engine:
        # Without the networks that a server makes: what runs beside a sandbox is in none.
        engine.templates.prepared = SandboxTemplate(
            STORE_ID, IMAGE, SandboxNetworks(nowhere, nowhere), Limits(1024, 2.0, 128)
        )
        yield engine


@pytest.fixture(scope="module")
def writer(client: docker.DockerClient, sandbox_id: SandboxId) -> Iterator[Container]:
    """Something of nobody's that has the volume."""
    writer = client.containers.run(
        IMAGE, ["infinity"], entrypoint="sleep", user="1000:1000", detach=True, init=True,
        network_mode="none", volumes={sandbox_id: {"bind": HOME, "mode": "rw"}},
    )  # fmt: skip
    yield writer
    writer.remove(force=True)


@pytest.fixture
def put(writer: Container) -> Callable[[str], None]:
    """Runs Python on the volume as the agent's user, as the agent could."""

    def put(script: str) -> None:
        code, said = writer.exec_run(["python3", "-c", MAKING + script])
        assert code == 0, said

    return put


async def heard(engine: DockerEngine, sandbox_id: SandboxId, *command: str) -> str:
    said = bytearray()
    async with engine.volume_jobs.process(sandbox_id, command) as process:
        await process.write(b"go\n")
        while chunk := await process.read():
            said += chunk
    return said.decode()


async def test_it_is_on_the_volume_as_the_agents_user_and_in_no_network(
    engine: DockerEngine, sandbox_id: SandboxId, put: Callable[[str], None]
) -> None:
    put(f"pathlib.Path({HOME!r}, 'note').write_text('kept')")
    look = f"read x; cat {HOME}/note; id -u; ls /sys/class/net; touch /usr/x 2>&1 | tail -1"
    said = await heard(engine, sandbox_id, "sh", "-c", look)
    assert said.split("\n")[0] == "kept1000"
    assert said.splitlines()[1] == "lo"
    assert "Read-only file system" in said


async def test_the_free_space_of_a_sandbox_without_a_container_is_measured(
    engine: DockerEngine, sandbox_id: SandboxId
) -> None:
    assert await engine.disk_free_bytes(sandbox_id) > 0


async def test_one_that_is_left_is_gone(
    engine: DockerEngine, sandbox_id: SandboxId, client: docker.DockerClient
) -> None:
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(0.5),
            engine.volume_jobs.process(sandbox_id, ["sleep", "300"]) as process,
        ):
            await process.read()
    assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []


async def test_one_whose_caller_goes_while_it_begins_is_gone(
    engine: DockerEngine,
    sandbox_id: SandboxId,
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = asyncio.Event()
    check = engine._own.check_volume

    def noted(volume: SandboxId) -> None:
        loop.call_soon_threadsafe(began.set)
        check(volume)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(engine._own, "check_volume", noted)
    caller = asyncio.create_task(heard(engine, sandbox_id, "sleep", "300"))
    await began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []


async def test_a_volume_that_is_gone_or_anothers_is_not_touched(
    engine: DockerEngine, client: docker.DockerClient
) -> None:
    gone = SandboxId(f"chowder-beside-{secrets.token_hex(4)}")
    for labels in (None, sandbox_labels("another", gone)):
        volume = None if labels is None else client.volumes.create(gone, labels=labels)
        with pytest.raises(SandboxMissing):
            await heard(engine, gone, "true")
        if volume is not None:
            volume.remove()
    assert client.volumes.list(filters={"name": gone}) == []


async def test_what_an_earlier_life_left_is_taken_away_and_a_sandbox_is_not(
    engine: DockerEngine, client: docker.DockerClient
) -> None:
    name = f"chowder-beside-{secrets.token_hex(4)}"
    for labels in (store_labels(STORE_ID), sandbox_labels(STORE_ID, name)):
        client.containers.create(IMAGE, ["true"], network_mode="none", labels=labels)
    engine._own.discard_temporary_containers()
    (left,) = client.containers.list(all=True, filters=store_filter(STORE_ID))
    left.remove(v=True)
    assert left.labels[SANDBOX] == name


@pytest.fixture
def kept(engine: DockerEngine) -> Transcripts:
    jobs = engine.volume_jobs
    history = ChatHistory(Control(jobs, lambda _: "no gateway runs"))
    return Transcripts(jobs, jobs, STATE_DIR, history, all_fit)


async def page(kept: Transcripts, sandbox_id: SandboxId, **more: Any) -> reader.Transcript:
    asked = {"is_running": False, "limit": 100} | more
    return await kept.transcript(sandbox_id, MAIN_KEY, **asked)


async def test_a_transcript_of_many_megabytes_comes_in_pages_that_are_not(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None]
) -> None:
    put(
        "database = open_database(TABLES); database.execute(INDEX); database.execute('BEGIN')\n"
        "for number in range(60): add(database, number, said('x' * 199_000 + str(number)))\n"
        "add(database, 60, said('y' * 5_000_000)); database.execute('COMMIT')"
    )
    found, pages, before = 0, 0, None
    while True:
        part = await page(kept, sandbox_id, before=before)
        assert sum(len(turn.text or "") for turn in part.turns) < 5_000_000
        assert [turn.is_cut for turn in part.turns if turn.position == 60] in ([], [True])
        found, pages, before = found + len(part.turns), pages + 1, part.before
        if before is None:
            break
    assert (found, pages > 1) == (61, True)


async def test_without_openclaws_index_all_is_told_in_its_order(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None]
) -> None:
    put(
        "database = open_database(TABLES)\n"
        "add(database, 0, json.dumps({'type': 'session'}), indexed=False)\n"
        "for number in range(1, 5): add(database, number, said(str(number)), indexed=False)"
    )
    latest = await page(kept, sandbox_id, limit=3)
    assert [turn.text for turn in latest.turns] == ["2", "3", "4"]
    (first,) = (await page(kept, sandbox_id, before=latest.before)).turns
    assert first.text == "1"


async def test_a_database_from_before_events_were_compressed_is_read(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None]
) -> None:
    put(
        "database = open_database(TABLES.replace(', event_zstd', '')); database.execute(INDEX)\n"
        "for number in range(3): add(database, number, said(str(number)), indexed=number != 1)"
    )
    turns = (await page(kept, sandbox_id)).turns
    assert [(turn.text, len(turn.attempts)) for turn in turns] == [("0", 0), ("1", 0), ("2", 0)]


async def test_half_a_character_becomes_one_that_can_be_told(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None]
) -> None:
    put(
        "database = open_database(TABLES); database.execute(INDEX)\n"
        "call = {'type': 'toolCall', 'id': 'c', 'name': 'x', 'arguments': {'a': '\\ud800'}}\n"
        "add(database, 0, said('\\\\ud800 and \\ud83d'))\n"
        "add(database, 1, said([call], role='assistant'))"
    )
    said, called = (await page(kept, sandbox_id)).turns
    assert said.text == "\\ud800 and \ufffd"
    assert called.arguments == {"a": "\ufffd"}
    assert json.dumps(called.arguments, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "script",
    [
        "path.write_bytes(b'no database at all' * 500)",
        "add(open_database(TABLES + INDEX), 0, 'no JSON')",
        "add(open_database(TABLES + INDEX), 0, said('x', role=5))",
        "add(open_database(TABLES + INDEX), 0.5, said('x'))",
    ],
)
async def test_what_an_agent_has_broken_is_a_failure_in_words(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None], script: str
) -> None:
    put(script)
    with pytest.raises(GatewayUnavailable):
        await page(kept, sandbox_id)


@pytest.mark.parametrize(
    "script", ["os.mkfifo(path)", "path.symlink_to('/dev/zero')", "open_database('')"]
)
async def test_where_there_are_no_tables_yet_there_are_no_conversations(
    kept: Transcripts, sandbox_id: SandboxId, put: Callable[[str], None], script: str
) -> None:
    put(script)
    assert await kept.sessions(sandbox_id, is_running=False) == []
    assert not (await page(kept, sandbox_id)).is_known


async def test_a_question_that_would_never_be_answered_is_given_up(
    kept: Transcripts,
    sandbox_id: SandboxId,
    put: Callable[[str], None],
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(
        "open_database(TABLES.replace('CREATE TABLE session_nodes (', 'CREATE TABLE n (')"
        ".replace('INTO session_nodes', 'INTO n') + '''CREATE VIEW session_nodes AS WITH RECURSIVE "
        "c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT n.* FROM n, c WHERE x < 0''')"
    )
    monkeypatch.setattr(reader, "READ_TIMEOUT_S", 1.5)
    with pytest.raises(GatewayUnavailable, match="could not be read within"):
        await page(kept, sandbox_id)
    assert client.containers.list(all=True, filters=store_filter(STORE_ID)) == []
