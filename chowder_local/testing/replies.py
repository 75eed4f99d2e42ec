"""What the offline model says in a test, and what of it fails the test."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from chowder_local.client import Client
    from chowder_local.client.transport import Json


class Replies:
    """What the offline model says to one instance, or to all of the organization's; what no rule
    is about is an error.

    With `unused = "fail"` a rule that was never used is one as well.
    """

    def __init__(self, client: Client, instance_id: str | None = None) -> None:
        self._client = client
        self._instance_id = instance_id
        self._rules: list[Mapping[str, Any]] = []
        self._is_set = False
        self._unmatched, self._unused = "fail", "ignore"
        self._used_before: list[int] = []
        self._unmatched_before: list[Json] = []

    def add(self, reply: Any, *, times: int | None = None, **match: Any) -> None:
        """Adds a rule, which counts after those before it: `add("Sunny.", text="weather")`.

        `reply` is a text, an answer, or a list of them; README has all that they and `match` may
        be.
        """
        rule = {"match": match, "reply": reply} | ({} if times is None else {"times": times})
        used, unmatched = self.used, self.unmatched
        self._put([*self._rules, rule])
        # The server begins to count anew.
        self._used_before, self._unmatched_before = used, unmatched

    def set(
        self,
        rules: Sequence[Mapping[str, Any]],
        unmatched: str = "fail",
        unused: str | None = None,
    ) -> None:
        """Replaces all rules, and counts anew."""
        self._unmatched = unmatched
        self.unused = unused or self.unused
        self._put(list(rules))
        self._used_before, self._unmatched_before = [], []

    def load(self, path: Path) -> None:
        """Replaces all rules by those of a file, and takes over its settings."""
        from chowder_local.relay.scripts.parser import read_file

        script = read_file(path).model_dump(mode="json", exclude_unset=True)
        self.set(
            script.get("replies", []), script.get("unmatched", "offline"), script.get("unused")
        )

    def clear(self) -> None:
        """Removes all rules: the offline model answers again."""
        self._client.clear_replies(self._instance_id)
        self._rules, self._is_set = [], False
        self._unmatched, self._unused = "fail", "ignore"
        self._used_before, self._unmatched_before = [], []

    @property
    def unused(self) -> str:
        """Whether a rule that was never used fails the test: `fail`, or `ignore`."""
        return self._unused

    @unused.setter
    def unused(self, value: str) -> None:
        if value not in ("fail", "ignore"):
            raise ValueError(f"unused is 'fail' or 'ignore', not {value!r}")
        self._unused = value

    @property
    def used(self) -> list[int]:
        """How often each rule was used."""
        now = self._own()["used"] if self._rules else []
        return [a + b for a, b in zip_longest(now, self._used_before, fillvalue=0)]

    @property
    def unmatched(self) -> list[Json]:
        """What no rule was about, the first of it first."""
        return [*self._unmatched_before, *(self._own()["unmatched"] if self._is_set else [])]

    @property
    def misses(self) -> list[str]:
        """What no rule was about as texts, if that is an error."""
        if self._unmatched != "fail":
            return []
        return [json.dumps(each, ensure_ascii=False) for each in self.unmatched]

    @property
    def leftovers(self) -> list[str]:
        """The rules that were never used as texts, if that is an error."""
        if self._unused != "fail":
            return []
        pairs = zip(self._rules, self.used, strict=True)
        return [
            f"{rule.get('name') or f'replies[{number}]'}: {json.dumps(rule, ensure_ascii=False)}"
            for number, (rule, used) in enumerate(pairs)
            if not used
        ]

    def problems(self) -> Iterator[str]:
        """What fails a test: questions without a rule, and rules without a question."""
        if misses := self.misses:
            yield "No scripted reply is about:\n" + "\n".join(misses)
        if leftovers := self.leftovers:
            yield "These scripted replies were never used:\n" + "\n".join(leftovers)

    def _put(self, rules: list[Mapping[str, Any]]) -> None:
        script = {"unmatched": self._unmatched, "replies": rules}
        self._client.set_replies(script, self._instance_id)
        self._rules, self._is_set = rules, True

    def _own(self) -> Json:
        own: Json | None = self._client.replies(self._instance_id)["own"]
        return own or {"script": {}, "used": [], "unmatched": []}
