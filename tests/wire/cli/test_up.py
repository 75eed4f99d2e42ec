"""The output and decisions of `up`; the real server and engine are in tests/docker."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from chowder_local.app.effective_settings import effective_settings
from chowder_local.cli import server_process
from chowder_local.cli import up as module
from chowder_local.cli.main import run
from chowder_local.cli.run_file import RunningServer, find_running
from chowder_local.cli.server_process import ServerFailed, healthy_server
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.errors.sandboxes import ImageMissing
from chowder_local.core.settings import Settings
from chowder_local.seeding.desired_state import Document
from chowder_local.seeding.run import SeedResult
from tests.wire.cli.conftest import Output, Serve

READY: dict[str, Any] = {"GET /local/ready": {"ready": True}}
HEALTHY = {**READY, "GET /local/health": {"pid": os.getpid()}}


@pytest.fixture
def has_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chowder_local.engine.images.is_there", lambda tag, env: True)


def test_a_running_server_is_left_alone(serve: Serve, tmp_path: Path, capsys: Output) -> None:
    env, _ = serve(HEALTHY)
    assert run(["up"], env) == 0
    printed, notes = capsys.readouterr()
    assert f"0.0.1 runs already (process {os.getpid()})" in printed
    assert 'eval "$(' in printed
    root_url = json.loads((tmp_path / "server.json").read_text())["base_url"]
    assert f"  Dashboard {root_url}/  (sign in with '" in printed
    # The server has another version than this command line.
    assert "Run 'down' and 'up' to update" in notes


@pytest.mark.usefixtures("has_image")
@pytest.mark.parametrize("options", [[], ["-d"]])
def test_the_second_of_two_at_once_waits_for_the_server_of_the_first(
    serve: Serve,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    looks = 0

    def healthy(settings: Settings) -> RunningServer | None:
        nonlocal looks
        looks += 1
        if looks == 3:
            serve(HEALTHY)
        return healthy_server(settings)

    monkeypatch.setattr(module, "healthy_server", healthy)
    monkeypatch.setattr(server_process, "healthy_server", healthy)
    # It would configure logging in this process for all later tests.
    monkeypatch.setattr("chowder_local.core.logs.configure", lambda *_: None)
    env = {**os.environ, "CHOWDER_DATA_DIR": str(tmp_path)}
    lock = FileLock(Settings.read(env).lock_file)
    with lock:
        assert run(["up", *options], env) == 0
        assert f"runs already (process {os.getpid()})" in capsys.readouterr().out
        (tmp_path / "server.json").unlink()
    # One that ends before it takes calls is no help.
    lock.acquire()
    monkeypatch.setattr(server_process, "healthy_server", lambda _: lock.release())
    assert run(["up", *options], env) == 4
    assert f"Another chowder-local server uses {tmp_path}." in capsys.readouterr().err


def test_other_settings_than_those_of_the_running_server_are_an_error(
    serve: Serve, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = {"subscription_tier": "whale"}
    env, _ = serve({**HEALTHY, "GET /v1/organization": organization})
    started = {**env, "CHOWDER_EGRESS": "off", "OPENAI_API_KEY": "sk-secret"}
    facts = json.loads((tmp_path / "server.json").read_bytes())
    effective = effective_settings(
        Settings.read(started), started, image="image:1", engine_url="unix:///x", salt="salt"
    )
    (tmp_path / "server.json").write_text(json.dumps(facts | {"settings": effective}))
    monkeypatch.setattr(module, "__version__", "0.0.1")
    arguments = ["up", "--egress", "off", "--tier", "whale", "--port", "2469", "--image", "image:1"]
    assert run(arguments, started) == 0
    assert run(["up"], env) == 0
    assert capsys.readouterr().err == ""
    other = {**env, "CHOWDER_EGRESS": "on", "OPENAI_API_KEY": "sk-other"}
    assert run(["up", "--port", "5", "--tier", "crab"], other) == 1
    printed, notes = capsys.readouterr()
    assert printed == ""
    assert (
        "but its settings differ: CHOWDER_EGRESS is off, not on; CHOWDER_PORT is 2469, not 5; "
        "OPENAI_API_KEY is not what the server was started with; CHOWDER_TIER is whale, not crab. "
    ) in notes
    assert f"--data-dir {tmp_path} down'" in notes


@pytest.mark.parametrize(
    "table",
    [
        {},
        READY,
        {**READY, "GET /local/health": {"pid": 1}},
    ],
    ids=["silent", "strange", "another's"],
)
def test_another_program_on_the_port_of_a_dead_server_is_not_taken_for_it(
    serve: Serve, capsys: Output, table: dict[str, Any]
) -> None:
    env, _ = serve(table)
    assert run(["up"], {**env, "DOCKER_HOST": "unix:///nowhere"}) == 6
    assert "does not answer" in capsys.readouterr().err


def test_a_missing_image_is_built_and_its_steps_are_shown(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(settings: Settings, progress: Callable[[str], None], *, env: object) -> str:
        progress("[1/2] RUN this")
        return "tag"

    monkeypatch.setattr("chowder_local.engine.images.is_there", lambda tag, env: False)
    monkeypatch.setattr("chowder_local.engine.images.build", build)
    module.ensure_image(Settings.read({}, data_dir=tmp_path, image="my:1"), {})
    first, step, last = capsys.readouterr().err.splitlines()
    assert first == "The sandbox image my:1 is not there: building it"
    assert step == "[1/2] RUN this"
    assert last == "The sandbox image my:1 is built."


def test_a_later_up_builds_the_image_only_if_its_server_misses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def start(*arguments: object, prepare: Callable[[], None] | None = None) -> RunningServer:
        steps.append("start a new one" if prepare else "start the one that imports")
        if prepare is None and is_missing:
            raise ServerFailed("The sandbox image is not there.", ImageMissing.exit_code)
        if prepare is not None:
            prepare()
        return RunningServer(7, "http://127.0.0.1:8", "1")

    monkeypatch.setattr(module, "importing_server", lambda *_: nullcontext("imports"))
    monkeypatch.setattr(module, "start_detached", start)
    monkeypatch.setattr(module, "ensure_image", lambda *_: steps.append("build"))
    env = {"CHOWDER_DATA_DIR": str(tmp_path)}
    is_missing = False
    assert run(["up", "-d"], env) == 0
    assert steps == ["start the one that imports"]
    is_missing = True
    assert run(["up", "-d"], env) == 0
    assert steps[1:] == ["start the one that imports", "start a new one", "build"]


@pytest.mark.usefixtures("has_image")
def test_in_the_foreground_it_announces_itself_once_it_takes_calls(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[str] = []
    is_announced = threading.Event()

    def say(*messages: str) -> None:
        announced.extend(messages)
        if any("Ctrl-C" in each for each in messages):
            is_announced.set()

    def serve_for_a_while(settings: Settings, env: object, on_ready: Callable[[], None]) -> int:
        serve({**READY, "GET /local/budget": {"usd": 5}})
        on_ready()
        return 5 if is_announced.wait(10) else 0

    monkeypatch.setattr("chowder_local.app.process.run", serve_for_a_while)
    monkeypatch.setattr(module, "say", say)
    env = {"CHOWDER_DATA_DIR": str(tmp_path), "OPENAI_API_KEY": "sk-x"}
    assert run(["up"], env) == 5
    assert f"chowder-local 0.0.1 is ready (process {os.getpid()})." in announced
    assert any("openai: key from the environment; anthropic, gemini:" in each for each in announced)


@pytest.mark.usefixtures("has_image")
def test_a_detached_server_gets_the_options_as_variables(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, str] = {}

    def start(settings: Settings, env: dict[str, str], **_: object) -> RunningServer:
        given.update(env)
        return RunningServer(7, "http://127.0.0.1:8", "1")

    monkeypatch.setattr(module, "start_detached", start)
    env = {"CHOWDER_DATA_DIR": str(tmp_path), "OPENAI_API_KEY": "sk-x", "CHOWDER_EGRESS": "off"}
    (tmp_path / "replies.yaml").write_text("[]")
    arguments = [
        "up", "-d", "--host", "localhost", "--port", "8", "--offline", "--image", "my:1",
        "--tier", "crab", "--egress", "on", "--replies", str(tmp_path / "replies.yaml"),
        "--provider", "lab=http://lab.example/v1", "--provider", "far=https://far.example",
    ]  # fmt: skip
    assert run(arguments, env) == 0
    assert given == env | {
        "CHOWDER_HOST": "localhost",
        "CHOWDER_PORT": "8",
        "CHOWDER_OFFLINE": "True",
        "CHOWDER_IMAGE": "my:1",
        "CHOWDER_TIER": "crab",
        "CHOWDER_EGRESS": "on",
        "CHOWDER_REPLIES": str(tmp_path / "replies.yaml"),
        "CHOWDER_PROVIDERS": "lab=http://lab.example/v1,far=https://far.example",
    }
    settings = Settings.read(given)
    assert settings.offline
    assert list(settings.providers) == ["lab", "far"]
    assert "anthropic, openai, gemini: built-in offline model; lab/" in capsys.readouterr().out
    given.clear()
    monkeypatch.setattr(module, "_spends_without_limit", lambda *_: False)
    assert run(["up", "-d"], env) == 0
    assert given == env
    assert "Egress is off" in capsys.readouterr().err


@pytest.mark.usefixtures("has_image")
@pytest.mark.parametrize("has_budget", [False, True])
@pytest.mark.parametrize(
    "keys",
    [{"OPENAI_API_KEY": "x"}, {"CHOWDER_PROVIDERS": "lab=http://lab.test/v1", "LAB_API_KEY": "x"}],
)
def test_a_real_key_without_a_budget_is_said_in_a_line(
    serve: Serve,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    has_budget: bool,
    keys: dict[str, str],
) -> None:
    shown = {"usd": 5} if has_budget else (404, {"detail": "There is no budget."})
    env, _ = serve({"GET /local/budget": shown})

    def start(settings: Settings, env: dict[str, str], **_: object) -> RunningServer:
        running = find_running(settings)
        assert running is not None
        return running

    monkeypatch.setattr(module, "start_detached", start)
    assert run(["up", "-d"], env | keys) == 0
    assert ("No budget limits what model calls cost" in capsys.readouterr().err) is not has_budget


@pytest.mark.usefixtures("has_image")
def test_a_server_that_ends_before_it_is_ready_announces_nothing(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chowder_local.app.process.run", lambda settings, env, on_ready: 1)
    assert run(["up"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    assert capsys.readouterr().out == ""


def test_with_all_model_keys_no_provider_is_offline(tmp_path: Path) -> None:
    names = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY")
    message = module._models(Settings.read({}, data_dir=tmp_path), dict.fromkeys(names, "k"))
    assert message == (
        "anthropic, openai, gemini: key from the environment; "
        "ollama/…: Ollama, if it runs ('doctor' checks)"
    )


def test_named_providers_are_listed_with_urls_and_without_keys(tmp_path: Path) -> None:
    named = {"CHOWDER_PROVIDERS": "lab=http://lab.example/v1,ollama=http://gpu.example/v1"}
    settings = Settings.read(named, data_dir=tmp_path)
    assert module._models(settings, {"LAB_API_KEY": "sk-lab"}).endswith(
        "; lab/…: http://lab.example/v1, key from the environment; ollama/…: http://gpu.example/v1"
    )
    offline = Settings.read(named, data_dir=tmp_path, offline=True)
    assert module._models(offline, {}).endswith("; ollama/…: built-in offline model")


@pytest.mark.usefixtures("has_image")
@pytest.mark.parametrize(
    ("host", "is_warned"), [("0.0.0.0", True), ("192.168.1.5", True), ("::1", False)]
)
def test_a_server_that_other_machines_reach_prints_a_warning(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, host: str, is_warned: bool
) -> None:
    running = RunningServer(7, "http://127.0.0.1:8", "1")
    monkeypatch.setattr(module, "start_detached", lambda *_, **__: running)
    assert run(["up", "-d", "--host", host], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 0
    notes = capsys.readouterr().err
    assert (f"Warning: This server listens on {host}" in notes) is is_warned
    assert ("firewall" in notes) is is_warned


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the seeded organizations."""
    names: list[str] = []

    def seed_server(_: object, file: Document) -> SeedResult:
        names.extend(each.name for each in file.organizations)
        if "broken" in names:
            raise SettingsInvalid("No.")
        return SeedResult(1, {})

    monkeypatch.setattr(module, "seed_server", seed_server)
    return names


def seed_file(tmp_path: Path, name: str = "kitchen") -> str:
    file = tmp_path / "seed.yaml"
    file.write_text(f"organizations: [{{name: {name}}}]")
    return str(file)


def test_a_running_server_is_seeded(serve: Serve, tmp_path: Path, seeded: list[str]) -> None:
    env, _ = serve(HEALTHY)
    assert run(["up", "--seed", seed_file(tmp_path)], env) == 0
    assert seeded == ["kitchen"]


@pytest.mark.usefixtures("has_image")
def test_a_new_server_is_seeded_once_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeded: list[str]
) -> None:
    def start(*_: object, **__: object) -> RunningServer:
        seeded.append("started")
        return RunningServer(7, "http://127.0.0.1:8", "1")

    monkeypatch.setattr(module, "start_detached", start)
    env = {"CHOWDER_DATA_DIR": str(tmp_path / "data")}
    assert run(["up", "-d", "--seed", seed_file(tmp_path)], env) == 0
    assert seeded == ["started", "kitchen"]
    assert run(["up", "-d", "--seed", seed_file(tmp_path, "broken")], env) == 2


@pytest.mark.usefixtures("has_image")
@pytest.mark.parametrize("name", ["kitchen", "broken"])
def test_a_server_in_the_foreground_survives_a_failed_seeding(
    serve: Serve, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch,
    seeded: list[str], name: str,
) -> None:  # fmt: skip
    is_over = threading.Event()
    seeding = module._seed

    def seed_and_report(*arguments: Any) -> None:
        seeding(*arguments)
        is_over.set()

    def serve_for_a_while(settings: Settings, env: object, on_ready: Callable[[], None]) -> int:
        serve(READY)
        on_ready()
        return 5 if is_over.wait(10) else 0

    monkeypatch.setattr(module, "_seed", seed_and_report)
    monkeypatch.setattr("chowder_local.app.process.run", serve_for_a_while)
    env = {"CHOWDER_DATA_DIR": str(tmp_path)}
    assert run(["up", "--seed", seed_file(tmp_path, name)], env) == 5
    assert seeded == [name]
    assert ("Error: No." in capsys.readouterr().err) == (name == "broken")


def test_an_invalid_seed_file_is_refused_before_the_start(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "seed.yaml").write_text("organisations: []")
    env = {"CHOWDER_DATA_DIR": str(tmp_path / "data"), "DOCKER_HOST": "unix:///nowhere"}
    assert run(["up", "--seed", str(tmp_path / "seed.yaml")], env) == 2
    assert "seed.yaml, line 1" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_help_of_the_checkouts_script_needs_no_environment(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    for name in ("scripts/up", "docs/reference/cli.md"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(root / name, tmp_path / name)
    command = ["/bin/sh", str(tmp_path / "scripts/up"), "--offline", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("## chowder-local up\n")
    assert "| `--offline` |" in done.stdout
    assert "chowder-local down" not in done.stdout
