"""The scripted replies of a test, and the mistakes in them that fail the test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from chowder_local.client import Client
    from chowder_local.client.transport import Json

__tracebackhide__ = True


@dataclass(eq=False, repr=False)
class Replies:
    """The rules by which the offline model answers one instance, or all of the organization's.

    A message that no rule matches fails the test. With `unused = "fail"`, a rule that was never
    used fails it as well.
    """

    client: Client
    instance_id: str | None = None

    def __post_init__(self) -> None:
        self._rules: list[Mapping[str, Any]] = []
        self._tools: list[str] = []
        self._is_set = False
        self._unmatched, self._unused = "fail", "ignore"
        self._used_before: list[int] = []
        self._unmatched_before: list[Json] = []

    def add(
        self, reply: Any, *, times: int | None = None, tools: Sequence[str] = (), **match: Any
    ) -> None:
        """Adds a rule, which counts after those before it: `add("Sunny.", text="weather")`.

        `reply` is a text, an action, or a list of them, and `match` the members of a rule's match;
        the reply script reference lists the members of both. `tools` are the names in them that
        are not of OpenClaw's tools, such as those of a client's functions. Raises ApiRefused if
        there is no such member or tool, or a value is invalid.
        """
        rule = {"match": match, "reply": reply} | ({} if times is None else {"times": times})
        used, unmatched = self.used, self.unmatched
        self._put([*self._rules, rule], [*self._tools, *tools])
        # The server counts a new script from zero.
        self._used_before, self._unmatched_before = used, unmatched

    def set(
        self,
        rules: Sequence[Mapping[str, Any]],
        unmatched: str = "fail",
        unused: str | None = None,
        tools: Sequence[str] = (),
    ) -> None:
        """Replaces all rules, and sets all counts to zero. Raises ApiRefused as `add`."""
        self._unmatched = unmatched
        self.unused = unused or self.unused
        self._put(list(rules), list(tools))
        self._used_before, self._unmatched_before = [], []

    def load(self, path: Path) -> None:
        """Replaces all rules and settings by those of a file.

        Raises SettingsInvalid if the file is invalid.
        """
        from chowder_local.relay.scripts.files import read_file

        script = read_file(path).model_dump(mode="json", exclude_unset=True)
        self.set(
            script.get("replies", []),
            script.get("unmatched", "offline"),
            script.get("unused"),
            script.get("tools", ()),
        )

    def clear(self) -> None:
        """Removes all rules, so that the offline model gives its usual answers."""
        self.client.clear_replies(self.instance_id)
        self._rules, self._tools, self._is_set = [], [], False
        self._unmatched, self._unused = "fail", "ignore"
        self._used_before, self._unmatched_before = [], []

    @property
    def unused(self) -> str:
        """Whether a rule that was never used fails the test: `fail` or `ignore`."""
        return self._unused

    @unused.setter
    def unused(self, value: str) -> None:
        if value not in ("fail", "ignore"):
            raise ValueError(f"unused must be 'fail' or 'ignore', not {value!r}")
        self._unused = value

    @property
    def used(self) -> list[int]:
        """The number of uses of each rule."""
        now = self._own()["used"] if self._rules else []
        return [a + b for a, b in zip_longest(now, self._used_before, fillvalue=0)]

    @property
    def unmatched(self) -> list[Json]:
        """The messages that no rule matched, the oldest first."""
        return [*self._unmatched_before, *(self._own()["unmatched"] if self._is_set else [])]

    @property
    def misses(self) -> list[str]:
        """The messages that no rule matched as texts, if they are an error."""
        if self._unmatched != "fail":
            return []
        return [
            f"{json.dumps(each['text'], ensure_ascii=False)} (turn {each['turn']}, "
            f"session {each['session'] or 'main'}, model {each['model']}"
            + (f", after the result of {each['tool']})" if each["tool"] else ")")
            for each in self.unmatched
        ]

    @property
    def leftovers(self) -> list[str]:
        """The rules that were never used as texts, if they are an error."""
        if self._unused != "fail":
            return []
        pairs = zip(self._rules, self.used, strict=True)
        return [
            f"{rule.get('name') or f'replies[{number}]'}: {json.dumps(rule, ensure_ascii=False)}"
            for number, (rule, used) in enumerate(pairs)
            if not used
        ]

    def problems(self) -> Iterator[str]:
        """Why the test fails: messages without a rule, and rules without a message."""
        if misses := self.misses:
            yield "No scripted reply matched: " + "\n".join(misses)
        if leftovers := self.leftovers:
            yield "These scripted replies were never used:\n" + "\n".join(leftovers)

    def _put(self, rules: list[Mapping[str, Any]], tools: list[str]) -> None:
        script = {"unmatched": self._unmatched, "tools": tools, "replies": rules}
        self.client.set_replies(script, self.instance_id)
        self._rules, self._tools, self._is_set = rules, tools, True

    def _own(self) -> Json:
        own: Json | None = self.client.replies(self.instance_id)["own"]
        return own or {"script": {}, "used": [], "unmatched": []}
