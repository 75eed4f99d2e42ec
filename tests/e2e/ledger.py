"""What clients were told before a kill, and what else may be true of what they asked."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.e2e.api import BOOT_TIMEOUT_S, text_of
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.e2e.api import Api

WAYS = {"write": 12, "say": 8, "move": 8, "snapshot": 2, "delete": 1}
"""How often a client does what."""


@dataclass
class Told:
    """One instance as its only client knows it: what is certain, and what may be as well."""

    name: str
    id: str | None = None
    """None if the create was never answered."""
    statuses: set[str] = field(default_factory=lambda: {"provisioning", "running"})
    files: dict[str, set[str | None]] = field(default_factory=dict)
    """By path, what may be in it; None if it may not exist."""
    words: dict[str, set[str | None]] = field(default_factory=dict)
    """By session, what may be the last that was said in it; None if nothing was."""
    snapshots: set[str] = field(default_factory=set)


class Client:
    """Does one thing after the other to one instance, and keeps account of it."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        self._api = api
        self._chance = chance
        self.told: Told | None = None
        self.gone: list[Told] = []
        """Those whose delete was answered."""
        self.counts: Counter[str] = Counter()

    def act(self) -> bool:
        """One call; False if it was refused.

        Raises httpx.TransportError if the server dies meanwhile; all is accounted for then, too.
        """
        refused = self.counts["refused"]
        if self.told is None:
            self._create()
            return True
        (way,) = self._chance.choices(list(WAYS), list(WAYS.values()))
        acts: dict[str, Callable[[Told, str], None]] = {
            "write": self._write, "say": self._say, "move": self._move,
            "snapshot": self._snapshot, "delete": self._delete,
        }  # fmt: skip
        if self.told.id is not None:
            acts[way](self.told, f"instances/{self.told.id}")
        return self.counts["refused"] == refused

    def ensure_running(self) -> None:
        """Starts with an instance that runs: in place of none, and of new ones that failed.

        An engine that is just back may be silent for seconds more, which fails what is new.
        """
        eventually(self._is_made, "a new instance is made", BOOT_TIMEOUT_S)
        self.settle()

    def _is_made(self) -> bool:
        if self.told is None:
            self._create()
        told = self.told
        if told is None or told.id is None or "provisioning" not in told.statuses:
            return True
        row = self._api.get(f"instances/{told.id}").json()
        if row["status"] == "error":
            assert row["error_message"]
            self._delete(told, f"instances/{told.id}")
            return False
        return bool(row["status"] != "provisioning")

    def settle(self) -> None:
        """Looks at what is true now, which has to be one of what may be; then only that is."""
        told = self.told
        if told is None:
            return
        rows = [row for row in self._api.get("instances").json() if row["name"] == told.name]
        if told.id is None or "terminated" in told.statuses:
            # Never answered: there is one of it, or none, and that is the answer.
            assert len(rows) <= 1, rows
            if not rows:
                assert told.id is None or self._api.status(told.id) == "terminated"
                self.told = None
                return
            told.statuses.discard("terminated")
        (row,) = rows
        told.id = row["id"]
        if "provisioning" in told.statuses or row["status"] == "provisioning":
            # Being made, or being made again because its sandbox had not lived through it.
            assert "running" in told.statuses, (told, row)
            row = self._api.until(row["id"], "running")
        assert row["status"] in told.statuses, (told, row)
        told.statuses = {row["status"]}
        if row["status"] == "running":
            self._settle_content(told)

    def _create(self) -> None:
        self.told = told = Told(f"kill-{secrets.token_hex(4)}")
        answer = self._api.post("instances", json={"name": told.name})
        assert answer.status_code == 201, answer.text
        told.id = answer.json()["id"]
        self.counts["create"] += 1

    def _write(self, told: Told, path: str) -> None:
        name = f"workspace/{self._chance.choice('abc')}.txt"
        content = secrets.token_hex(self._chance.choice([4, 40_000]))
        may_be = told.files.setdefault(name, {None})
        may_be.add(content)
        answer = self._api.put(f"{path}/files/content", json={"path": name, "content": content})
        if answer.status_code == httpx.codes.NO_CONTENT:
            told.files[name] = {content}
            self.counts["write"] += 1
        else:
            self._refused(answer)

    def _say(self, told: Told, _: str) -> None:
        session = self._chance.choice(["one", "two"])
        answer = self._said(told, session)
        if answer.status_code == httpx.codes.OK:
            self.counts["say"] += 1
        else:
            self._refused(answer)

    def _said(self, told: Told, session: str) -> httpx.Response:
        """The answer, which quotes what was said before; a turn that was cut off may be."""
        had = told.words.setdefault(session, {None})
        words = f"Hello from {session}, {secrets.token_hex(4)}: what was before?"
        told.words[session] = had | {words}
        assert told.id is not None
        answer = self._api.message(told.id, words, session=session)
        if answer.status_code == httpx.codes.OK:
            found = re.search(r'Before that: "([^"]*)"', text_of(answer.json()))
            last = found[1] if found else None
            assert last in had, (session, had, answer.text)
            told.words[session] = {words}
        return answer

    def _move(self, told: Told, path: str) -> None:
        verb, after = ("start", "running") if "stopped" in told.statuses else ("stop", "stopped")
        told.statuses = told.statuses | {after}
        answer = self._api.post(f"{path}/{verb}")
        if answer.status_code == httpx.codes.OK:
            assert answer.json()["status"] == after
            told.statuses = {after}
            self.counts[verb] += 1
        else:
            self._refused(answer)

    def _snapshot(self, told: Told, path: str) -> None:
        answer = self._api.post(f"../local/{path}/snapshots", json={})
        if answer.status_code == httpx.codes.CREATED:
            told.snapshots.add(answer.json()["id"])
            self.counts["snapshot"] += 1
        else:
            self._refused(answer)

    def _delete(self, told: Told, path: str) -> None:
        told.statuses = told.statuses | {"terminated"}
        answer = self._api.delete(path)
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
        self.gone.append(told)
        self.told = None
        self.counts["delete"] += 1

    def _settle_content(self, told: Told) -> None:
        for name, may_be in told.files.items():
            path = f"instances/{told.id}/files/content"
            answer = self._api.get(path, params={"path": name})
            found = answer.json()["content"] if answer.is_success else None
            assert found in may_be, (
                name,
                found and found[:20],
                [each and each[:20] for each in may_be],
            )
            told.files[name] = {found}
        kept = self._api.get(f"../local/instances/{told.id}/snapshots").json()
        assert told.snapshots <= {each["id"] for each in kept}, (told, kept)
        for session in told.words:
            answer = self._said(told, session)
            assert answer.status_code == httpx.codes.OK, answer.text

    def _refused(self, answer: httpx.Response) -> None:
        """Said in words, and no promise: it is stopped, boots, or its turn was cut off."""
        assert answer.status_code in {409, 502}, answer.text
        assert answer.json()["detail"]
        self.counts["refused"] += 1
