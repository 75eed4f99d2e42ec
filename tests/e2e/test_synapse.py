"""The stand-in for a Matrix homeserver beside Synapse, the server of the protocol's authors."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import venv
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

import httpx
import pytest
import yaml

from chowder_local.core.domain import InstanceStatus
from chowder_local.features.messengers.matrix import BOT, SERVER, Matrix
from chowder_local.features.messengers.service import Messengers
from chowder_local.features.messengers.stand_in import BOT_NAME, Call
from tests.e2e.made_once import made_once
from tests.e2e.serving import free_port
from tests.e2e.waiting import eventually
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chowder_local.features.messengers.mailbox import Mailbox

pytestmark = pytest.mark.nightly

PACKAGES = Path(__file__).parent / "synapse.txt"
INSTALL_TIMEOUT_S = 600
SECRET = "of registrations"
IS_DIRECT = ".content.is_direct: bool"
"""The flag of an invitation, which the stand-in keeps: without it, OpenClaw takes a group with one
other member for a private room."""
NOTHING, NOWHERE = "$nothing", "!nowhere:local"
TEXT = {"msgtype": "m.text", "body": "Hi"}


class Server(Protocol):
    """A homeserver on which Ada has said hello to the agent in a private room."""

    ada: str
    room: str
    event: str

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """The status and the JSON of the agent's call."""


class Synapse:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.token = self._register(BOT_NAME)
        person = {"Authorization": f"Bearer {self._register('ada')}"}
        self.ada = f"@ada:{SERVER}"

        def asked_by_ada(method: str, path: str, form: Any) -> Any:
            answer = self._http.request(
                method, f"/_matrix/client/v3/{path}", json=form, headers=person
            )
            return answer.raise_for_status().json()

        invitation = {"invite": [BOT], "is_direct": True}
        self.room = asked_by_ada("POST", "createRoom", invitation)["room_id"]
        joined = self._http.post(
            f"/_matrix/client/v3/join/{quote(self.room)}",
            json={},
            headers={"Authorization": f"Bearer {self.token}"},
        )
        joined.raise_for_status()
        # As the agent would, whose stand-in has it from the beginning.
        self._http.put(
            f"/_matrix/client/v3/user/{quote(BOT)}/account_data/m.direct",
            json={self.ada: [self.room]},
            headers={"Authorization": f"Bearer {self.token}"},
        ).raise_for_status()
        sent = f"rooms/{quote(self.room)}/send/m.room.message/1"
        self.event = asked_by_ada("PUT", sent, {**TEXT, "body": "Hello"})["event_id"]

    def _register(self, name: str) -> str:
        path = "/_synapse/admin/v1/register"
        nonce = self._http.get(path).json()["nonce"]
        signed = "\0".join([nonce, name, "pass", "notadmin"]).encode()
        mac = hmac.new(SECRET.encode(), signed, hashlib.sha1).hexdigest()
        form = {"nonce": nonce, "username": name, "password": "pass", "admin": False, "mac": mac}
        token: str = self._http.post(path, json=form).raise_for_status().json()["access_token"]
        return token

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        token = more.get("token") or self.token
        answer = self._http.request(
            method,
            f"/_matrix/client/{path}",
            json=more.get("form"),
            params=more.get("query"),
            headers={"Authorization": f"Bearer {token}"},
        )
        return answer.status_code, answer.json()


class StandIn:
    def __init__(self, mailbox: Mailbox, room: str, event: str) -> None:
        self._mailbox = mailbox
        self.ada, self.room, self.event = Matrix().sender("Ada"), room, event

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        token = more.get("token") or self._mailbox.secret
        headers = {"authorization": f"Bearer {token}"}
        call = Call(
            method,
            f"_matrix/client/{unquote(path)}",
            more.get("query") or {},
            headers,
            more.get("form") or {},
        )
        reply = await Matrix().reply(call, self._mailbox)
        return reply.status, json.loads(reply.body)


@pytest.fixture
def synapse(tmp_path: Path) -> Iterator[Synapse]:
    def make(place: Path) -> None:
        venv.create(place, with_pip=True)
        command = [str(place / "bin/pip"), "install", "--quiet", "--require-hashes"]
        done = subprocess.run(
            [*command, "--requirement", str(PACKAGES)],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    made = made_once("synapse", make, PACKAGES.read_bytes(), sys.version, sys.base_prefix)
    port = free_port()
    listener = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "type": "http",
        "resources": [{"names": ["client"]}],
    }
    config = {
        "server_name": SERVER,
        "listeners": [listener],
        "database": {"name": "sqlite3", "args": {"database": str(tmp_path / "db")}},
        "registration_shared_secret": SECRET,
        "macaroon_secret_key": SECRET,
        "report_stats": False,
        "signing_key_path": str(tmp_path / "key"),
        "media_store_path": str(tmp_path / "media"),
        "trusted_key_servers": [],
    }
    (tmp_path / "homeserver.yaml").write_text(yaml.safe_dump(config))
    program = [str(made / "bin/python"), "-m", "synapse.app.homeserver"]
    program += ["-c", str(tmp_path / "homeserver.yaml")]
    subprocess.run([*program, "--generate-keys"], check=True, cwd=tmp_path, capture_output=True)
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(program, cwd=tmp_path, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return httpx.get(f"{url}/_matrix/client/versions", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        eventually(answers, "Synapse answers", 120)
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            yield Synapse(http)
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def stand_in(folder: Path) -> AsyncIterator[StandIn]:
    folder.mkdir()
    async with open_world(folder) as world:
        instance = await world.placed(InstanceStatus.RUNNING)
        mailbox = await world.feature(Messengers).mailbox(instance, "matrix")
        said = await mailbox.add("person", person="Ada", text="Hello")
        made = StandIn(mailbox, "", f"${said.id}")
        _, rooms = await made.call("GET", "v3/joined_rooms")
        (made.room,) = rooms["joined_rooms"]
        yield made


async def answers_of(server: Server) -> dict[str, tuple[int, Any]]:
    """What a homeserver answers to each call of OpenClaw's plugin, by what it is about."""
    room, event, user = (quote(each, safe="") for each in (server.room, server.event, server.ada))
    found: dict[str, tuple[int, Any]] = {}

    async def ask(name: str, method: str, path: str, **more: Any) -> Any:
        found[name] = await server.call(method, path, **more)
        return found[name][1]

    await ask("versions", "GET", "versions")
    await ask("a wrong token", "GET", "v3/account/whoami", token="wrong")
    await ask("whoami", "GET", "v3/account/whoami")
    await ask("no such call", "GET", "v3/nonsense")
    await ask("push rules", "GET", "v3/pushrules/")
    await ask("capabilities", "GET", "v3/capabilities")
    await ask("filter", "POST", f"v3/user/{quote(BOT)}/filter", form={"room": {}})
    first = await ask("first sync", "GET", "v3/sync", query={"timeout": "0"})
    since = {"since": first["next_batch"], "timeout": "0"}
    await ask("sync without news", "GET", "v3/sync", query=since)
    await ask("joined rooms", "GET", "v3/joined_rooms")
    await ask("profile", "GET", f"v3/profile/{user}")
    await ask("display name", "GET", f"v3/profile/{user}/displayname")
    await ask("joined members", "GET", f"v3/rooms/{room}/joined_members")
    await ask("members", "GET", f"v3/rooms/{room}/members")
    await ask("state", "GET", f"v3/rooms/{room}/state")
    await ask("create event", "GET", f"v3/rooms/{room}/state/m.room.create/")
    await ask("a member", "GET", f"v3/rooms/{room}/state/m.room.member/{user}")
    await ask("no such state", "GET", f"v3/rooms/{room}/state/m.room.topic/")
    await ask("event", "GET", f"v3/rooms/{room}/event/{event}")
    await ask("no such event", "GET", f"v3/rooms/{room}/event/{NOTHING}")
    await ask("no such room", "GET", f"v3/rooms/{quote(NOWHERE)}/joined_members")
    await ask("typing", "PUT", f"v3/rooms/{room}/typing/{quote(BOT)}",
        form={"typing": True, "timeout": 30_000})  # fmt: skip
    send = f"v3/rooms/{room}/send/m.room.message"
    sent = await ask("send", "PUT", f"{send}/t1", form=TEXT)
    assert await ask("send again", "PUT", f"{send}/t1", form=TEXT) == sent
    edit = {
        **TEXT,
        "m.new_content": {**TEXT, "body": "Hey"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": sent["event_id"]},
    }
    await ask("edit", "PUT", f"{send}/t2", form=edit)
    reaction = {"rel_type": "m.annotation", "event_id": server.event, "key": "👍"}
    await ask("react", "PUT", f"v3/rooms/{room}/send/m.reaction/t3",
        form={"m.relates_to": reaction})  # fmt: skip
    await ask("relations", "GET", f"v1/rooms/{room}/relations/{event}")
    await ask("history", "GET", f"v3/rooms/{room}/messages", query={"dir": "b", "limit": "2"})
    await ask("receipt", "POST", f"v3/rooms/{room}/receipt/m.read/{event}", form={})
    await ask("redact", "PUT", f"v3/rooms/{room}/redact/{quote(sent['event_id'])}/t4", form={})
    await ask("sync", "GET", "v3/sync", query=since)
    return found


def shape(value: Any, place: str = "") -> set[str]:
    """The members of a JSON value with their types; rooms and users are names of members, too.

    The state of a new room is in its timeline.
    """
    if isinstance(value, dict):
        names = {key: {"!": "ROOM", "@": "USER"}.get(key[:1], key) for key in value}
        names |= {"state": "timeline"} if "timeline" in value else {}
        return set().union(*(shape(each, f"{place}.{names[key]}") for key, each in value.items()))
    if isinstance(value, list):
        kinds = [each.get("type", "") if isinstance(each, dict) else "" for each in value]
        parts = (shape(each, f"{place}[{kind}]") for each, kind in zip(value, kinds, strict=True))
        return set().union(*parts)
    return {f"{place}: {type(value).__name__}"}


async def test_the_stand_in_answers_what_synapse_answers(synapse: Synapse, tmp_path: Path) -> None:
    async with stand_in(tmp_path / "world") as ours:
        answers, judged = await answers_of(ours), await answers_of(synapse)
    differing: dict[str, Any] = {}
    for name, (status, answer) in answers.items():
        their_status, theirs = judged[name]
        if status != their_status or status != HTTPStatus.OK:
            if (status, answer.get("errcode")) != (their_status, theirs.get("errcode")):
                differing[name] = [(status, answer), judged[name]]
        elif more := {
            each for each in shape(answer) - shape(theirs) if not each.endswith(IS_DIRECT)
        }:
            differing[name] = sorted(more)
    assert not differing, json.dumps(differing, indent=1, ensure_ascii=False)
