"""`doctor --bundle`: the archive has the facts for a bug report, and no secrets."""

import json
import stat
import zipfile
from pathlib import Path

import pytest

from chowder_local.cli.main import run
from chowder_local.core.secrets import SecretBox
from tests.wire.cli.conftest import Output, Serve

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere.sock"}
SECRET = b"s" * 32
SANDBOX_TOKEN = "chowder-0123456789ab.Zm9vYmFyYmF6cXV4cXV1eA"
SECRETS = [
    "chd_org_planted1",
    "chd_sk_planted2",
    "sk-ant-planted3",
    'planted4-"of-the-environment',
    "planted5:planted5",
    "planted6-bearer",
    SANDBOX_TOKEN,
    SecretBox(SECRET).gateway_token("chowder-0123456789ab"),
    f"1234567890:{'telegram-' * 4}",
    f"{'discord-' * 3}.plantd.{'token-' * 5}"[:-1],
    "eyJwbGFudGVkIjoxfQ.eyJwbGFudGVkIjoyfQ.c2lnbmF0dXJl",
]


def read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture
def bundled(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of an archive that was written where secrets are in every source."""
    held = {"id": "ex-7", "instance_id": "i1", "turn_id": None, "provider": "openai", "path": "x"}
    env, _ = serve(
        {
            "GET /local/health": {"status": "ok", "said": f"key {SECRETS[0]}"},
            "GET /v1/instances": [{"id": "i1"}, {"id": "i2"}],
            "GET /local/budget": (404, {"detail": "There is no budget."}),
            "GET /local/instances/i1/budget": {"usd": 5, "spent": {"usd": 1}},
            "GET /local/instances/i1/breakpoint": {
                "match": {"text": "my secret", "tool": "exec", "model": None}, "once": False,
            },
            "GET /local/instances/i2/budget": (404, {"detail": "There is no budget."}),
            "GET /local/instances/i2/breakpoint": (404, {"detail": "There is none."}),
            "GET /local/held-calls?wait_s=0.0": [
                held | {"held_at": "2026", "until": "2027", "error": "my secret"}
            ],
            "GET /local/instances/i1/approvals": [
                {"id": "a1", "command": "my secret", "since": "2026", "until": "2027"}
            ],
            "GET /local/instances/i1/activity": {
                "status": "busy",
                "turns": [
                    {"kind": "job", "text": "my secret", "tools": [
                        {"name": "exec", "arguments": "my secret"}
                    ]}
                ],
            },
            "GET /local/instances/i2/approvals": (409, {"detail": "It is too old."}),
            "GET /local/instances/i2/activity": {"status": "idle", "turns": []},
        }
    )  # fmt: skip
    (tmp_path / "default.key").write_text(SECRETS[0])
    (tmp_path / "secret.key").write_bytes(SECRET)
    bare = [each for each in SECRETS if not each.startswith(("planted5", "planted6"))]
    lines = [*bare, f"Authorization: Bearer {SECRETS[5]}", f"http://{SECRETS[4]}@proxy/"]
    (tmp_path / "server.log").write_text("\n".join(f"said {line}" for line in lines))
    env |= NO_ENGINE | {
        "OPENAI_API_KEY": SECRETS[3],
        "CHOWDER_OPENAI_BASE_URL": f"https://{SECRETS[4]}@proxy.example/v1",
        "CHOWDER_BASE_IMAGE": f"image-{SECRETS[3]}",
        "CHOWDER_PORT": "3000",
    }
    (tmp_path / "store.id").write_text("0123456789ab")
    (tmp_path / "server.log.1").write_text("former")
    # The engine's answer; tests/e2e has real ones.
    agents = {"chowder-0123456789ab": "\n".join(lines)}
    monkeypatch.setattr(
        "chowder_local.engine.store_resources.read_logs", lambda store_id, env, lines: agents
    )
    path = tmp_path / "bundle.zip"
    assert run(["doctor", "--bundle", str(path)], env) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return read(path)


def test_a_bundle_has_what_a_report_needs(bundled: dict[str, str]) -> None:
    assert list(bundled) == [
        "versions.json", "settings.json", "findings.json", "health.json", "control.json",
        "containers.json", "server.log", "server.log.1", "agents/chowder-0123456789ab.log",
    ]  # fmt: skip
    assert json.loads(bundled["settings.json"])["port"] == 3000
    assert json.loads(bundled["settings.json"])["openai_base_url"].endswith("@proxy.example/v1")
    assert json.loads(bundled["health.json"])["status"] == "ok"
    assert "engine" in [each["subject"] for each in json.loads(bundled["findings.json"])]
    assert "openclaw" in json.loads(bundled["versions.json"])
    assert bundled["server.log"].startswith("said ")


def test_a_bundle_has_budgets_breakpoints_approvals_and_activity_without_texts(
    bundled: dict[str, str],
) -> None:
    control = json.loads(bundled["control.json"])
    assert control["budgets"] == {"i1": {"usd": 5, "spent": {"usd": 1}}}
    assert control["breakpoints"]["i1"]["match"] == {"text": "…", "tool": "exec"}
    assert [each["id"] for each in control["held_calls"]] == ["ex-7"]
    assert control["approvals"] == {
        "i1": [{"id": "a1", "since": "2026", "until": "2027"}],
        "i2": {"problem": "It is too old. (HTTP 409)"},
    }
    tools = [{"name": "exec"}]
    assert control["activity"]["i1"]["turns"] == [{"kind": "job", "tools": tools}]
    assert "my secret" not in bundled["control.json"]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_in_a_bundle(bundled: dict[str, str], secret: str) -> None:
    forms = {secret, json.dumps(secret)[1:-1]}
    assert [name for name, text in bundled.items() for form in forms if form in text] == []


def test_content_that_cannot_be_read_is_replaced_by_its_error(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    env = {**NO_ENGINE, "CHOWDER_DATA_DIR": str(tmp_path / "empty")}
    run(["doctor", "--bundle", str(path)], env)
    files = read(path)
    assert json.loads(files["health.json"]) == {"problem": "no server runs"}
    assert json.loads(files["server.log"]) == {"problem": "No such file or directory"}
    assert json.loads(files["containers.json"]) == {"problem": "No such file or directory"}


def test_an_existing_archive_is_not_overwritten(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "bundle.zip"
    path.write_text("mine")
    env = {**NO_ENGINE, "CHOWDER_DATA_DIR": str(tmp_path / "empty")}
    assert run(["doctor", "--bundle", str(path)], env) == 1
    assert path.read_text() == "mine"
    assert "cannot be written: File exists" in capsys.readouterr().err
