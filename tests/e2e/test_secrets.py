"""Secrets that are planted everywhere, and looked for wherever they must not be."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import CLAUDE, Api, responses_path
from tests.e2e.bots import TOKEN
from tests.e2e.containers import containers, inside, networks, volumes
from tests.e2e.serving import ServerProcess
from tests.e2e.stand_in import StandIn, refusal
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

pytestmark = [pytest.mark.docker, pytest.mark.long]

MODEL_KEYS = {
    "anthropic": "sk-ant-api03-PLANTED-4be07a91",
    "openai": "sk-proj-PLANTED-90d3c2f7",
    "gemini": "AIzaPLANTED-7721fe0b",
}
NEW_MODEL_KEY = "sk-ant-api03-PLANTED-second-18aa"
SKILL_KEY = "skill-PLANTED-key-55c1"
SKILL_ROOM = "skill-PLANTED-room-e2d8"
CONFIG_ROOM, CONFIG_TOKEN = "config-PLANTED-room-4a1e", "123456:config-PLANTED-token-9b02"
CONFIG = {"skills.entries.pager.env": {"PAGER_DESK": CONFIG_ROOM}}
SLACK = {"bot_token": "xoxb-1-2-PLANTED-bot-03cd", "app_token": "xapp-1-A-2-PLANTED-app-66e0"}
BAD_KEY = "chd_org_PLANTED_nobodys_key_b61f"
ENVIRONMENT_KEY = "AIzaPLANTED-from-the-environment-c2"
MODELS = {"anthropic": CLAUDE, "openai": "gpt-4o", "gemini": "gemini-2.0-flash"}
REFUSALS = {"anthropic": (401, 400, 500), "openai": (401,), "gemini": (400,)}
"""How the providers refuse: whichever does, it goes the same way from the relay on."""
SKILL = "---\nname: pager\ndescription: Pages.\n---\n# pager\n"


@dataclass
class Planted:
    """A server after calls, and the secrets it was given or has made."""

    server: ServerProcess
    instance_id: str
    owned: dict[str, str]
    """Secrets that nothing but their owner may hold."""
    inner: dict[str, str]
    """Those that a sandbox holds in its own configuration, and nobody else."""
    failures: list[str] = field(default_factory=list)
    """Answers with an error."""
    answers: list[str] = field(default_factory=list)
    """Answers that are to tell no secret."""

    @property
    def secrets(self) -> dict[str, str]:
        return self.owned | self.inner

    def note(self, answer: httpx.Response, status: int | None = None) -> httpx.Response:
        """Keeps an answer to be searched; with `status`, it has to have that."""
        if status is not None:
            assert answer.status_code == status, answer.text
        text = f"{answer.headers}\n{answer.text}"
        (self.answers if answer.is_success else self.failures).append(text)
        return answer


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    """These tests' own, which a server that others share is not led to."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def wordy(
    stand_in: StandIn,
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server that logs all that it can."""
    settings = {"CHOWDER_LOG_LEVEL": "debug", "GEMINI_API_KEY": ENVIRONMENT_KEY}
    folder = tmp_path_factory.mktemp("secrets")
    server = ServerProcess(folder / "data", stand_in.settings | settings)
    with served(server, engine, request.config):
        yield server


@pytest.fixture(scope="module")
def after_messages(wordy: ServerProcess) -> Planted:
    """The server after messages to an agent, which have used all secrets of its organization."""
    with Api(wordy.base_url, "none") as nobody:
        made = nobody.post("organization/signup", json={"name": "planted"}).json()
    owned = {f"{name} key": key for name, key in MODEL_KEYS.items()}
    owned |= {"organization key": made["api_key"], "second model key": NEW_MODEL_KEY}
    owned |= {"unknown key": BAD_KEY, "environment's key": ENVIRONMENT_KEY}
    with Api(wordy.base_url, made["api_key"]) as api:
        changed = api.patch("organization", json={"model_api_keys": MODEL_KEYS})
        instance_id = api.created("planted", openclaw_config=CONFIG)
        planted = Planted(wordy, instance_id, owned, {"configured variable": CONFIG_ROOM})
        planted.note(changed, 200)
        api.until(instance_id, "running")
        _keys(planted, api, instance_id)
        _tokens(planted, api, instance_id)
        _messages(planted, api, instance_id)
    return planted


@pytest.fixture(scope="module")
def planted(after_messages: Planted, stand_in: StandIn) -> Planted:
    """The server after calls of every kind."""
    instance_id = after_messages.instance_id
    after_messages.inner |= {
        "skill key": SKILL_KEY,
        "skill variable": SKILL_ROOM,
        "telegram": TOKEN,
    }
    after_messages.inner |= {f"slack {name}": value for name, value in SLACK.items()}
    after_messages.inner |= {"configured token": CONFIG_TOKEN}
    key = after_messages.owned["organization key"]
    with Api(after_messages.server.base_url, key) as api:
        _refusals(after_messages, api, instance_id, stand_in)
        _credentials(after_messages, api, instance_id)
        _configured(after_messages, api, instance_id)
        _garbage(after_messages, api, instance_id)
        api.stop(instance_id)
        after_messages.note(api.message(instance_id, "Hello?"), 409)
        api.start(instance_id)
    return after_messages


@pytest.fixture(params=["after_messages", "planted"])
def after_calls(request: pytest.FixtureRequest) -> Planted:
    """The server after messages, and after calls of every kind."""
    planted: Planted = request.getfixturevalue(request.param)
    return planted


def _keys(planted: Planted, api: Api, instance_id: str) -> None:
    body = {"name": "page", "instance_ids": [instance_id], "permissions": ["interact"]}
    scoped = api.post("keys", json=body).json()
    planted.owned["scoped key"] = scoped["raw_key"]
    planted.note(api.get("keys"), 200)
    planted.note(api.get(f"keys/{scoped['id']}"), 200)
    for key, status in ((scoped["raw_key"], 403), (BAD_KEY, 401)):
        headers = {"Authorization": f"Bearer {key}"}
        planted.note(api.get("organization", headers=headers), status)
        planted.note(api.get(f"instances/{instance_id}?key={key}", headers=headers))
        planted.note(api.get(f"instances/{key}", headers=headers))
    planted.note(api.get("organization", headers={"Authorization": f"Basic {BAD_KEY}"}), 401)
    assert api.delete(f"keys/{scoped['id']}").status_code == 204
    headers = {"Authorization": f"Bearer {scoped['raw_key']}"}
    planted.note(api.get(f"instances/{instance_id}", headers=headers), 401)


def _tokens(planted: Planted, api: Api, instance_id: str) -> None:
    root = planted.server.base_url.removesuffix("/v1")
    reach = api.get(f"{root}/local/instances/{instance_id}/gateway").json()
    planted.inner["gateway token"] = reach["token"]
    content = api.get(f"instances/{instance_id}/files/content", params={"path": "openclaw.json"})
    config = json.loads(content.json()["content"])
    provider = config["models"]["providers"]["chowder-openai"]
    planted.inner["relay token"] = provider["apiKey"]
    # The gateway itself, asked with a token that is none of its own.
    url, body = f"{reach['gateway_url']}/v1/responses", {"model": "openclaw", "input": "Hi"}
    headers = {"Authorization": f"Bearer {BAD_KEY}"}
    planted.note(httpx.post(url, json=body, headers=headers, trust_env=False), 401)
    planted.note(httpx.post(url, json=body, trust_env=False), 401)


def _messages(planted: Planted, api: Api, instance_id: str) -> None:
    for model in MODELS.values():
        planted.note(api.message(instance_id, "Hello.", model=model, session="s"), 200)
    changed = {"model_api_keys": {"anthropic": NEW_MODEL_KEY}}
    planted.note(api.patch("organization", json=changed), 200)
    planted.note(api.message(instance_id, "With another key.", session="s"), 200)
    planted.note(api.patch("organization", json={"model_api_keys": {"openai": ""}}), 200)
    planted.note(api.message(instance_id, "With none.", model="gpt-4o"), 400)
    planted.note(api.patch("organization", json={"model_api_keys": MODEL_KEYS}), 200)


def _refusals(planted: Planted, api: Api, instance_id: str, stand_in: StandIn) -> None:
    """Model calls that a provider refuses, and one that finds no provider."""

    def streamed(model: str, session: str) -> httpx.Response:
        body = {"model": model, "input": "No.", "stream": True}
        return api.post(responses_path(instance_id, session), json=body)

    with ThreadPoolExecutor(1) as beside:
        for provider, statuses in REFUSALS.items():
            model, key = MODELS[provider], MODEL_KEYS[provider]
            quoting = f"Incorrect API key provided: {key}. Find yours in the console."
            for status in statuses:
                with stand_in.behaving(refusal(status, quoting)):
                    stream = beside.submit(streamed, model, f"{provider}x{status}")
                    session = f"{provider}{status}"
                    planted.note(api.message(instance_id, "No.", model=model, session=session))
                    planted.note(stream.result())
    with stand_in.gone():
        planted.note(api.message(instance_id, "Nobody there?", session="gone"))


def _credentials(planted: Planted, api: Api, instance_id: str) -> None:
    channels, skills = f"instances/{instance_id}/channels", f"instances/{instance_id}/skills"
    for wrong in (TOKEN, [TOKEN], {"a": TOKEN}):
        planted.note(api.post(f"{channels}/telegram/connect", json={"config": wrong}))
        planted.note(api.post(f"{channels}/line/connect", json={"config": {"token": wrong}}))
    planted.note(api.post(f"{channels}/slack/connect", json={"config": SLACK}))
    planted.note(api.get(f"{channels}/slack/status"), 200)
    planted.note(api.post(f"{channels}/slack/disconnect"), 204)
    file = {"path": "workspace/skills/pager/SKILL.md", "content": SKILL}
    planted.note(api.put(f"instances/{instance_id}/files/content", json=file), 204)
    change = {"apiKey": SKILL_KEY, "env": {"PAGER_ROOM": SKILL_ROOM}}
    planted.note(api.patch(f"{skills}/pager", json=change), 204)
    planted.note(api.get(f"{skills}/pager"), 200)
    planted.note(api.patch(f"{skills}/none", json=change))
    planted.note(api.patch(f"{skills}/pager", json={"apiKey": [SKILL_KEY]}), 422)
    install = {"slug": "nowhere/pager", "env": {"PAGER_ROOM": SKILL_ROOM}}
    planted.note(api.post(f"{skills}/install", json=install))


def _configured(planted: Planted, api: Api, instance_id: str) -> None:
    path = f"instances/{instance_id}"
    for wrong in (
        {"skills.entries.pager.env": {"PAGER_DESK": [CONFIG_ROOM]}},
        {"channels.telegram": {"botToken": CONFIG_TOKEN, "nonsense": True}},
        {"agents.defaults.thinkingDefault": CONFIG_ROOM},
        {"gateway.auth.token": CONFIG_TOKEN},
        {"channels.telegram.dmPolicy": CONFIG_ROOM, "channels.telegram.botToken": [CONFIG_TOKEN]},
    ):
        planted.note(api.patch(path, json={"openclaw_config": wrong}), 400)
        planted.note(api.post("instances", json={"name": "no", "openclaw_config": wrong}))
    change = {"channels.telegram.botToken": CONFIG_TOKEN, "channels.telegram.enabled": False}
    changed = api.patch(path, json={"openclaw_config": change})
    # Who asks for it is told it, and nobody else.
    assert changed.json()["openclaw_config"] == CONFIG | change, changed.text
    planted.note(api.get(f"{path}/status"), 200)


def _garbage(planted: Planted, api: Api, instance_id: str) -> None:
    """Bodies, paths and queries that are wrong, with secrets in them."""
    for secret in planted.secrets.values():
        for body in ({"name": [secret]}, {"model_api_keys": {"openai": {"a": secret}}}, [secret]):
            planted.note(api.patch("organization", json=body), 422)
        planted.note(api.patch("organization", json={"model_api_keys": {"nobody": secret}}))
        planted.note(api.post("organization/signup", content=secret), 422)
        planted.note(api.post("organization/signup", content=f'{{"name": "{secret}'), 422)
        planted.note(api.get(f"nowhere?token={secret}"), 404)
        planted.note(api.get("instances", headers={"Host": "evil.example", "Cookie": secret}), 403)
        headers = {"Origin": "https://evil.example", "Cookie": secret}
        planted.note(api.post("instances", json={"name": secret}, headers=headers), 403)
        query = {"path": "../..", "token": secret}
        planted.note(api.get(f"instances/{instance_id}/files/content", params=query), 400)


def found_in(secrets: dict[str, str], *places: str | bytes) -> set[str]:
    """The names of secrets that a place has."""
    texts = [place if isinstance(place, bytes) else place.encode() for place in places]
    return {name for name, secret in secrets.items() if any(secret.encode() in t for t in texts)}


def test_the_search_finds_what_is_there(planted: Planted) -> None:
    """Or the other tests would prove nothing."""
    assert len(planted.secrets) >= 14
    assert found_in(planted.secrets, *planted.secrets.values()) == set(planted.secrets)
    assert len(planted.failures) > 100
    assert "DEBUG" in planted.server.log()
    assert "403" in planted.server.log()


def test_no_secret_is_in_the_log_at_its_wordiest(after_calls: Planted) -> None:
    assert found_in(after_calls.secrets, after_calls.server.log()) == set()


def test_no_answer_tells_a_secret_not_even_one_that_a_provider_quotes(planted: Planted) -> None:
    assert found_in(planted.secrets, *planted.failures) == set()
    assert found_in(planted.secrets, *planted.answers) == set()


def test_no_event_and_no_metric_tells_a_secret(planted: Planted) -> None:
    root = planted.server.base_url.removesuffix("/v1")
    headers = {"Last-Event-ID": "none of yours"}
    told = []
    with (
        Api(planted.server.base_url, planted.owned["organization key"]) as api,
        api.stream("GET", f"{root}/local/events", headers=headers) as events,
    ):
        for line in events.iter_lines():
            told.append(line)
            # All that were told before this one, its last start, come before it.
            if '"status": "running"' in line and '"before": "stopped"' in line:
                break
        metrics = api.get(f"{root}/local/metrics")
    assert any("model.failed" in line for line in told)
    assert 'status="4xx"' in metrics.text
    own = {"default organization's key": planted.server.key}
    assert found_in(planted.secrets | own, "\n".join(told), metrics.text) == set()


def test_no_secret_is_in_a_bug_report(planted: Planted, tmp_path: Path) -> None:
    bundle, log = tmp_path / "bundle.zip", planted.server.data_dir / "server.log"
    # Where a server that was detached would have it.
    log.write_text(planted.server.log())
    command = [*planted.server.command(), "doctor", "--bundle", str(bundle)]
    subprocess.run(command, env=planted.server.env, check=True, stdout=subprocess.DEVNULL)
    log.unlink()
    with zipfile.ZipFile(bundle) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert b"DEBUG" in packed["server.log"]
    assert b"chowder-" in packed["containers.json"]
    own = {"default organization's key": planted.server.key}
    assert found_in(planted.secrets | own, *packed.values()) == set()


def test_no_secret_is_in_what_the_engine_tells_of_sandboxes(
    after_calls: Planted, engine: docker.DockerClient
) -> None:
    store_id = after_calls.server.store_id
    for found in (containers, volumes, networks):
        objects: Any = found(engine, store_id)
        assert objects
        for each in objects:
            assert found_in(after_calls.secrets, json.dumps(each.attrs)) == set()


def test_no_secret_is_in_a_command_line_or_an_environment_inside(
    after_calls: Planted, engine: docker.DockerClient
) -> None:
    (container,) = containers(engine, after_calls.server.store_id)
    _, said = inside(container, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
    assert "HOME=" in said
    assert found_in(after_calls.secrets, said) == set()


def test_what_an_organization_owns_is_nowhere_in_its_agents_sandbox(
    after_calls: Planted, engine: docker.DockerClient
) -> None:
    (container,) = containers(engine, after_calls.server.store_id)
    assert found_in(after_calls.owned, container.logs()) == set()
    for name, secret in after_calls.owned.items():
        code, _ = inside(container, f"grep -rlF -e '{secret}' /data /tmp 2>/dev/null")
        assert code == 1, f"{name} is inside"


def test_a_sandbox_has_its_own_tokens_in_files_that_only_the_agent_reads(
    after_calls: Planted, engine: docker.DockerClient
) -> None:
    (container,) = containers(engine, after_calls.server.store_id)
    token = after_calls.inner["gateway token"]
    code, said = inside(container, f"grep -rlF -e '{token}' /data | xargs stat -c '%a %u'")
    assert code == 0
    assert set(said.split("\n")) - {""} == {"600 1000"}


def test_no_secret_is_in_the_data_directory_but_in_its_key_files(after_calls: Planted) -> None:
    folder = after_calls.server.data_dir
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    database = {path.name for path in files if path.name.startswith("chowder.db")}
    assert database >= {"chowder.db", "chowder.db-wal"}
    assert any(b"planted" in content for content in files.values())
    # The one key that must be readable, for `env`; it is in its file and nowhere else.
    own = {"default organization's key": after_calls.server.key}
    secret = (folder / "secret.key").read_bytes()
    for path, content in files.items():
        assert found_in(after_calls.secrets, content) == set(), path
        assert found_in(own, content) == (set(own) if path.name == "default.key" else set())
        assert path.name == "secret.key" or secret not in content, path


def test_no_secret_is_on_the_servers_command_line(after_calls: Planted) -> None:
    pid = json.loads((after_calls.server.data_dir / "server.json").read_text())["pid"]
    if not os.path.isdir("/proc"):
        pytest.skip("there is no /proc")
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        assert found_in(after_calls.secrets, file.read()) == set()
