"""The files API: responses, and uploads and downloads that stream, stall and break off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from chowder_local.api.schemas.agent_contents import MAX_PATH_CHARS, FolderView
from chowder_local.api.uploads import MAX_FIELD_BYTES
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import SandboxFull
from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.openclaw.files import Writing
from tests.scripted.world import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import httpx
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api
    from tests.scripted.world import World

BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
DEADLINE_S = 10.0


@pytest.fixture
async def agent(world: World) -> Instance:
    return await world.created()


@pytest.fixture
def home(world: World, agent: Instance) -> Path:
    """The empty instance root."""
    state = world.state_of(agent)
    for file in state.iterdir():
        file.unlink()
    return state


@pytest.fixture
def url(agent: Instance) -> str:
    """The files URL of a running agent."""
    return f"/v1/instances/{agent.id}/files"


def part(name: str, content: bytes, *, file_name: str | None = None) -> bytes:
    more = "" if file_name is None else f'; filename="{file_name}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


async def send_form(http: Api, url: str, *parts: bytes) -> httpx.Response:
    return await http.post(f"{url}/upload", content=b"".join(parts), headers=FORM)


async def raw(
    app: ASGIApp, http: Api, method: str, path: str, received: Sequence[Message], **more: Any
) -> list[Message]:
    """What the server sends to a client that is played by hand; it ends with its last message.

    One that `is_stalling` takes the first piece of a body and no more; if it `is_leaving`, it then
    hangs up.
    """
    path, _, query = path.partition("?")
    headers = {"host": "localhost", "authorization": f"Bearer {http.world.key}"}
    headers |= more.pop("headers", {})
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    coming = iter(received)
    sent: list[Message] = []
    is_stalled = asyncio.Event()

    async def receive() -> Message:
        try:
            return next(coming)
        except StopIteration:
            await is_stalled.wait()
        if more.get("is_leaving"):
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)
        if more.get("is_stalling") and message["type"] == "http.response.body":
            is_stalled.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_S) as deadline:
        await app(scope, receive, send)
    # A cancelled request may raise or return.
    assert not deadline.expired()
    return sent


def sent_body(chunk: bytes) -> Message:
    return {"type": "http.request", "body": chunk, "more_body": True}


async def test_a_folder_is_listed(http: Api, url: str, home: Path) -> None:
    (home / "workspace").mkdir()
    (home / "workspace/notes.md").write_bytes(b"12345")
    (home / "workspace/notes.md").chmod(0o644)
    answer = await http.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["path"] == "."
    assert [each["path"] for each in answer.json()["entries"]] == ["workspace"]
    answer = await http.get(url, params={"path": "./workspace/"})
    assert FolderView.model_validate(answer.json()).model_dump(mode="json") == (answer.json())
    (entry,) = answer.json()["entries"]
    time = entry.pop("mod_time")
    assert time.endswith("Z")
    assert len(time) == len("2026-05-04T03:02:01Z")
    assert answer.json() | {"entries": [entry]} == {
        "path": "workspace",
        "entries": [
            {
                "name": "notes.md",
                "path": "workspace/notes.md",
                "is_dir": False,
                "size": 5,
                "permissions": "-rw-r--r--",
            }
        ],
    }


async def test_a_text_file_is_written_and_read(http: Api, url: str, home: Path) -> None:
    body = {"path": "workspace/déjà/vu.md", "content": "naïve 日本語\r\n\0"}
    answer = await http.call("PUT", f"{url}/content", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await http.get(f"{url}/content", params={"path": body["path"]})
    assert (answer.status_code, answer.json()) == (200, body)
    assert (home / "workspace/déjà/vu.md").read_bytes() == body["content"].encode()


@pytest.mark.parametrize("is_path_first", [True, False])
@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\r\n--a-boundar\r\n-", bytes(range(256)) * 4000]
)
async def test_a_binary_file_is_uploaded_and_downloaded(
    http: Api, url: str, home: Path, content: bytes, is_path_first: bool
) -> None:
    parts = [part("path", b"a/x.bin"), part("file", content, file_name="y.bin")]
    answer = await send_form(http, url, *(parts if is_path_first else parts[::-1]), END)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (home / "a/x.bin").read_bytes() == content
    answer = await http.get(f"{url}/download", params={"path": "a/x.bin"})
    assert (answer.status_code, answer.content) == (200, content)


async def test_an_upload_may_be_longer_than_other_bodies(http: Api, url: str, home: Path) -> None:
    content = bytes(3 * MAX_BODY_BYTES)
    answer = await http.post(f"{url}/upload", data={"path": "x"}, files={"file": content})
    assert answer.status_code == 204
    assert (home / "x").read_bytes() == content
    body = {"path": "x", "content": "x" * MAX_BODY_BYTES}
    answer = await http.call("PUT", f"{url}/content", json=body)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("path", "file_name", "becomes"),
    [
        ("folder", "x.png", "folder/x.png"),
        ("folder/", "x.png", "folder/x.png"),
        ("new/", "x.png", "new/x.png"),
        (".", "x.png", "x.png"),
        ("", "x.png", "x.png"),
        ("folder", "C:\\Users\\me\\x.png", "folder/x.png"),
        ("folder", "../../x.png", "folder/x.png"),
        ("folder", "日本語.png", "folder/日本語.png"),
        ("y.png", "x.png", "y.png"),
        ("y.png", None, "y.png"),
    ],
)
async def test_an_upload_into_a_folder_keeps_its_name(
    http: Api, url: str, home: Path, path: str, file_name: str | None, becomes: str
) -> None:
    (home / "folder").mkdir()
    file = part("file", b"new", file_name=file_name)
    answer = await send_form(http, url, file, part("path", path.encode()), END)
    assert answer.status_code == 204, answer.text
    assert (home / becomes).read_bytes() == b"new"
    assert {each.name for each in home.rglob("*")} == {"folder", *becomes.split("/")}


@pytest.mark.parametrize("file_name", [None, "", ".", "..", "folder/", "a\0b"])
async def test_an_upload_into_a_folder_needs_a_file_name(
    http: Api, url: str, home: Path, file_name: str | None
) -> None:
    (home / "folder").mkdir()
    file = part("file", b"new", file_name=file_name)
    for path in (b"folder", b"folder/"):
        answer = await send_form(http, url, part("path", path), file, END)
        assert answer.status_code in {400, 422}, answer.text
    assert [each.name for each in home.rglob("*")] == ["folder"]


async def test_unknown_parts_of_a_form_are_ignored(http: Api, url: str, home: Path) -> None:
    more = part("more", b"x" * 100_000)
    file = part("file", b"new", file_name="x")
    answer = await send_form(http, url, more, part("path", b"y"), more, file, more, END)
    assert answer.status_code == 204
    assert (home / "y").read_bytes() == b"new"


FILE, PATH = part("file", b"new", file_name="x"), part("path", b"y")
BAD_FORMS = {
    "no path": ([FILE, END], ["body", "path"]),
    "no file": ([PATH, END], ["body", "file"]),
    "two paths": ([PATH, PATH, FILE, END], ["body", "path"]),
    "two files": ([PATH, FILE, FILE, END], ["body", "file"]),
    "a path that is not UTF-8": ([part("path", b"\xff"), FILE, END], ["body", "path"]),
    "a long path": ([part("path", b"x" * (MAX_PATH_CHARS + 1)), FILE, END], ["body", "path"]),
    "no end": ([PATH, FILE], ["body"]),
    "an end in the file": ([PATH, FILE[:-4]], ["body"]),
    "nothing": ([], ["body"]),
    "no form": ([b"hello"], ["body"]),
    "a header that is none": ([b"--a-boundary\r\n\x00: x\r\n\r\n", END], ["body"]),
}


@pytest.mark.parametrize(("parts", "place"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_an_invalid_form_is_refused_and_changes_nothing(
    http: Api, url: str, home: Path, parts: list[bytes], place: list[str]
) -> None:
    answer = await send_form(http, url, *parts)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == place
    assert list(home.iterdir()) == []


async def test_an_endless_path_is_not_read_beyond_its_bound(
    http: Api, url: str, home: Path
) -> None:
    sent = 0

    async def forever() -> AsyncIterator[bytes]:
        nonlocal sent
        yield PATH[: -len(b"\r\n")]
        for _ in range(1000):
            sent += MAX_FIELD_BYTES // 4
            yield b"x" * (MAX_FIELD_BYTES // 4)

    answer = await http.post(f"{url}/upload", content=forever(), headers=FORM)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "path"]
    assert sent <= MAX_FIELD_BYTES * 2
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/mixed; boundary=a-boundary",
    ],
)
async def test_an_upload_must_be_a_form(http: Api, url: str, home: Path, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = await http.post(f"{url}/upload", content=PATH + FILE + END, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["x.bin", "naïve 日本語.txt", 'q"\\;%41.txt', "a\r\nSet-Cookie: x", "😀"]
)
async def test_a_download_is_an_attachment_with_its_name(
    http: Api, url: str, home: Path, name: str
) -> None:
    (home / name).write_bytes(b"<script>")
    answer = await http.get(f"{url}/download", params={"path": name})
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Length"] == "8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="')
    assert disposition.endswith(f"; filename*=UTF-8''{quote(name, safe='')}")
    assert disposition.isascii()
    assert disposition.count('"') == 2


async def test_a_head_request_has_the_downloads_length(
    http: Api, url: str, home: Path, world: World
) -> None:
    (home / "x").write_bytes(bytes(1_000_000))
    answer = await http.call("HEAD", f"{url}/download", params={"path": "x"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "1000000"
    assert world.processes.running == 0


def calls(path: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    form = {"content": part("path", path.encode()) + FILE + END, "headers": FORM}
    return {
        "list": ("GET", "", {"params": {"path": path}}),
        "read": ("GET", "/content", {"params": {"path": path}}),
        "write": ("PUT", "/content", {"json": {"path": path, "content": "new"}}),
        "upload": ("POST", "/upload", form),
        "download": ("GET", "/download", {"params": {"path": path}}),
    }


ALL_CALLS = list(calls(""))
READING = ["list", "read", "download"]


async def call(http: Api, url: str, name: str, path: str) -> httpx.Response:
    method, below, more = calls(path)[name]
    return await http.call(method, url + below, **more)


async def test_a_missing_file_is_a_404(http: Api, url: str) -> None:
    for name in READING:
        answer = await call(http, url, name, "nowhere/x")
        assert (answer.status_code, answer.json()) == (404, {"detail": "File not found."})


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "//x", "a\0b"])
async def test_a_path_outside_of_the_home_is_refused(
    http: Api, url: str, home: Path, path: str
) -> None:
    for name in ALL_CALLS:
        answer = await call(http, url, name, path)
        assert answer.status_code == 400
        assert "path" in answer.json()["detail"].lower()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ALL_CALLS)
async def test_a_symbolic_link_is_not_followed(
    http: Api, url: str, home: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/x").write_bytes(b"secret")
    (home / "folder").symlink_to(tmp_path / "secrets")
    (home / "file").symlink_to(tmp_path / "secrets/x")
    for path in ("folder", "folder/x", "folder/new", "file"):
        answer = await call(http, url, name, path)
        assert answer.status_code == 400
        assert "links are not followed" in answer.json()["detail"]
    assert [each.read_bytes() for each in (tmp_path / "secrets").iterdir()] == [b"secret"]


async def test_a_folder_cannot_be_read_as_a_file(http: Api, url: str, home: Path) -> None:
    (home / "folder").mkdir()
    for name in ("read", "write", "download"):
        answer = await call(http, url, name, "folder")
        assert (answer.status_code, answer.json()) == (400, {"detail": "folder is a directory."})


async def test_reading_a_binary_file_is_refused(http: Api, url: str, home: Path) -> None:
    (home / "x").write_bytes(b"\xff")
    answer = await http.get(f"{url}/content", params={"path": "x"})
    assert answer.status_code == 400
    assert "download" in answer.json()["detail"]
    with (home / "x").open("wb") as opened:
        opened.truncate(1024**3)
    answer = await http.get(f"{url}/content", params={"path": "x"})
    assert answer.status_code == 413
    assert "download" in answer.json()["detail"]


async def test_a_path_is_required(http: Api, url: str) -> None:
    for name in ("read", "download"):
        method, below, _ = calls("")[name]
        answer = await http.call(method, url + below)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "path"]


async def test_a_path_that_is_too_long_is_a_422(http: Api, url: str) -> None:
    for name in ALL_CALLS:
        answer = await call(http, url, name, "x" * (MAX_PATH_CHARS + 1))
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][-1] == "path"


async def test_files_need_a_running_agent(http: Api, world: World) -> None:
    instance = await world.placed(InstanceStatus.STOPPED)
    for name in ALL_CALLS:
        answer = await call(http, f"/v1/instances/{instance.id}/files", name, "x")
        assert answer.status_code == 409
        assert answer.json() == {"detail": "Instance is stopped, but must be running for this."}


async def test_an_agent_that_stops_during_the_call_is_a_conflict(
    http: Api, url: str, world: World
) -> None:
    world.processes.failing = SandboxPaused()
    for name in ALL_CALLS:
        assert (await call(http, url, name, "x")).status_code == 409


@pytest.mark.parametrize("name", ["write", "upload"])
async def test_a_full_disk_is_reported(
    http: Api, url: str, home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def place(*_: object) -> None:
        raise SandboxFull

    monkeypatch.setattr(Writing, "place", place)
    answer = await call(http, url, name, "x")
    assert answer.status_code == 507
    assert "No space is left" in answer.json()["detail"]
    assert list(home.iterdir()) == []


async def test_a_client_that_leaves_during_an_upload_changes_nothing(
    http: Api, app: ASGIApp, url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "y").write_bytes(b"old")
    said = [sent_body(PATH + FILE[:-4]), {"type": "http.disconnect"}]
    (start, _) = await raw(app, http, "POST", f"{url}/upload", said, headers=FORM)
    assert start["status"] == 499
    assert [each.read_bytes() for each in home.iterdir()] == [b"old"]
    assert "Traceback" not in caplog.text


async def test_an_upload_that_stalls_is_refused(
    http: Api, app: ASGIApp, url: str, home: Path, world: World
) -> None:
    world.files.idle_timeout_s = 0.5
    said = [sent_body(PATH + FILE[:-4])]
    start, body = await raw(app, http, "POST", f"{url}/upload", said, headers=FORM)
    assert start["status"] == 400
    assert b"sent nothing for 0.5 s" in body["body"]
    assert list(home.iterdir()) == []
    assert world.processes.running == 0


async def test_a_client_that_leaves_during_a_download_ends_it(
    http: Api, app: ASGIApp, url: str, home: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "x").write_bytes(bytes(8 * 1024 * 1024))
    world.files.idle_timeout_s = 600.0
    path = f"{url}/download?path=x"
    sent = await raw(app, http, "GET", path, [], is_stalling=True, is_leaving=True)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert world.processes.running == 0
    assert "Traceback" not in caplog.text


async def test_a_download_whose_client_stalls_is_ended(
    http: Api, app: ASGIApp, url: str, home: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "x").write_bytes(bytes(8 * 1024 * 1024))
    world.files.idle_timeout_s = 0.5
    sent = await raw(app, http, "GET", f"{url}/download?path=x", [], is_stalling=True)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert world.processes.running == 0
    assert "has stopped reading" in caplog.text


async def test_a_download_that_fails_closes_the_connection(
    http: Api, app: ASGIApp, url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "x").write_bytes(bytes(8 * 1024 * 1024))

    async def shrinking(scope: Scope, receive: Receive, send: Send) -> None:
        async def shrink_and_send(message: Message) -> None:
            (home / "x").write_bytes(b"")
            await send(message)

        await app(scope, receive, shrink_and_send)

    sent = await raw(shrinking, http, "GET", f"{url}/download?path=x", [])
    assert sent[0]["status"] == 200
    assert all(message.get("more_body", True) for message in sent)
    assert "a response broke off" in caplog.text
    assert "Traceback" not in caplog.text
