"""What a script of replies may say; a file and the API take the same."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.relay.scripts.patterns import SIZE_MAX, PatternInvalid, compile_pattern, size
from chowder_local.relay.scripts.templates import TemplateInvalid
from chowder_local.relay.scripts.templates import check as check_template
from chowder_local.relay.wire.reply import StreamStep

if TYPE_CHECKING:
    from regex import Pattern

MAX_RULES = 1_000
MAX_CHUNKS = 10_000
MAX_BYTES = 4_000_000
"""Of a script that comes by the API."""
MAX_PATTERN_SIZE = 50_000
"""Of all regular expressions of a script together."""
MAX_WAIT_S = 600.0
OVERLOADED = "overloaded"


def _no_flag(value: Any) -> Any:
    # YAML has `yes` and `no`, and Python counts with them.
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Number = BeforeValidator(_no_flag)
Seconds = Annotated[float, Number, Field(ge=0, le=MAX_WAIT_S)]
Count = Annotated[int, Number, Field(ge=0)]
Ordinal = Annotated[int, Number, Field(ge=1)]
Looked = Annotated[str, Field(max_length=10_000)]
Id = Annotated[str, Field(max_length=200)]


class _Strict(BaseModel):
    """A misspelt member would otherwise be a rule that never does what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(_Strict):
    """When a rule counts; all that is given must be so, and nothing given is always so."""

    text: Looked | None = Field(None, description="Is in the person's latest words, in any case.")
    equals: Looked | None = Field(
        None, description="Is all of them, to the letter; white space around them aside."
    )
    regex: str | None = Field(
        None, description="Is found in them, as a regular expression of Python."
    )
    turn: Ordinal | None = Field(
        None, description="How many messages the conversation has, this one included."
    )
    session: Looked | None = Field(
        None, description="The name of the session; null, if it is there, is the main one."
    )
    model: Id | None = Field(None, description="The model's id; * and ? stand for anything.")
    provider: ModelProvider | None = Field(None, description="Whose model is asked.")
    tool: str | None = Field(None, description="The tool that has come back since.")
    result: Looked | None = Field(None, description="Is in what that tool came to, in any case.")
    result_equals: Looked | None = Field(
        None, description="Is all of it, to the letter; white space around it aside."
    )
    result_regex: str | None = Field(None, description="Is found in what that tool came to.")

    @model_validator(mode="after")
    def _compiled(self) -> Self:
        # Now, because the model calls for which they are needed have no time for that.
        _ = self.pattern, self.result_pattern
        return self

    @field_validator("regex", "result_regex")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        try:
            return pattern and compile_pattern(pattern).pattern
        except PatternInvalid as invalid:
            raise ValueError(str(invalid)) from None

    @cached_property
    def pattern(self) -> Pattern[str] | None:
        return compile_pattern(self.regex) if self.regex else None

    @cached_property
    def result_pattern(self) -> Pattern[str] | None:
        return compile_pattern(self.result_regex) if self.result_regex else None

    @property
    def is_of_session(self) -> bool:
        """Whether it matters which session it is; null counts, too."""
        return "session" in self.model_fields_set

    @property
    def is_of_result(self) -> bool:
        """Whether it is about a tool's result, so that it never counts before there is one."""
        given = (self.tool, self.result, self.result_equals, self.result_regex)
        return any(each is not None for each in given)


class Pause(_Strict, StreamStep):
    """Nothing is sent for a while."""

    wait_s: Seconds

    async def play(self) -> bytes:
        await asyncio.sleep(self.wait_s)
        return b""


class Verbatim(_Strict, StreamStep):
    """These bytes are sent as they are: a broken event, say."""

    raw: str

    async def play(self) -> bytes:
        return self.raw.encode()


class Break(_Strict, StreamStep):
    """The connection breaks here."""

    cut: Literal[True]

    async def play(self) -> bytes:
        raise StreamBroken("the script of its replies cut it off")


class ToolCall(_Strict):
    """A tool for the agent, or for the client whose function it is, to use."""

    name: str = Field(min_length=1, validation_alias=AliasChoices("name", "call"))
    arguments: dict[str, Any] = Field(default_factory=dict)


class TokenCounts(_Strict):
    """What the answer says it took; about what a real model would count, where nothing is said."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None


class Action(_Strict):
    """One answer of the model: words, tool calls, both, or an error."""

    text: str | None = Field(None, description="What is said.")
    template: str | None = Field(
        None,
        description="The same with names in double braces: text, turn, session, model, provider, "
        "tool, result, and of the regex groups[1] or groups.name (groups[0] is all of it); filters "
        "may follow, as in {{ text | upper }}.",
    )
    chunks: list[str | Pause | Verbatim | Break] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHUNKS,
        description="What is said, in the pieces in which it is streamed.",
    )
    call: str | None = Field(
        None,
        min_length=1,
        validation_alias=AliasChoices("call", "name"),
        description="The one tool that is called.",
    )
    arguments: dict[str, Any] | None = Field(None, description="With what it is called.")
    calls: list[ToolCall] | None = Field(None, min_length=1, description="Several, at once.")
    usage: TokenCounts = Field(default_factory=TokenCounts)
    delay_s: Seconds = Field(0.0, description="How long nothing comes at first.")
    pace_s: Seconds = Field(0.0, description="How long nothing comes between two pieces.")
    error: Annotated[int, Number, Field(ge=400, le=599)] | Literal["overloaded"] | None = Field(
        None, description="The status with which the provider fails; overloaded is its own."
    )
    message: str | None = Field(None, description="What the provider says with it.")
    retry_after_s: Seconds | None = Field(
        None,
        description="When to try again, it says. With a 429 and up to 10 s the relay waits and "
        "asks once more, which counts as another use of the rule.",
    )

    @field_validator("template")
    @classmethod
    def _readable(cls, template: str | None) -> str | None:
        try:
            return template and check_template(template)
        except TemplateInvalid as invalid:
            raise ValueError(str(invalid)) from None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        said = [self.text, self.template, self.chunks]
        called = [self.call, self.calls]
        if sum(each is not None for each in said) > 1:
            raise ValueError("give one of text, template and chunks")
        if self.call is not None and self.calls is not None:
            raise ValueError("give call or calls")
        if self.arguments is not None and self.call is None:
            raise ValueError("arguments go with call")
        is_answer = any(each is not None for each in said + called)
        if self.error is None and (self.message, self.retry_after_s) != (None, None):
            raise ValueError("message and retry_after_s go with error")
        if is_answer == (self.error is not None):
            raise ValueError("give text, template, chunks, call or calls; or else error")
        return self


def _kind(value: Any) -> str:
    """Of which kind a reply is, so that what is wrong with it is said of that kind alone."""
    if isinstance(value, str):
        return "text"
    return "answer" if isinstance(value, (dict, Action)) else "answers"


Answer = Annotated[
    Annotated[str, Tag("text")] | Annotated[Action, Tag("answer")], Discriminator(_kind)
]
Reply = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Action, Tag("answer")]
    | Annotated[list[Answer], Field(min_length=1, max_length=MAX_RULES), Tag("answers")],
    Discriminator(_kind),
]


class Rule(_Strict):
    """What is replied, and when."""

    name: str | None = Field(None, description="What it is called where it is told of.")
    match: Match = Field(default_factory=Match)
    reply: Reply = Field(
        description="Words, an answer, or a list: one for the message, the next for what its tool "
        "calls came to, and so on."
    )
    times: Ordinal | None = Field(None, description="How often it counts; for ever, if not set.")

    @property
    def answers(self) -> list[Action]:
        """What is answered: to the message, to what came back first, and so on."""
        given = self.reply if isinstance(self.reply, list) else [self.reply]
        return [Action(text=each) if isinstance(each, str) else each for each in given]


class ReplyScript(_Strict):
    """Rules, of which the first that matches counts, and what becomes of all else."""

    unmatched: Literal["offline", "fail"] = Field(
        "offline",
        description="offline: what no rule matches is answered as if there were none. fail: it is "
        "an error that says what was asked.",
    )
    unused: Literal["ignore", "fail"] = Field(
        "ignore",
        description="fail: a test with the pytest plugin fails if a rule was never used. The "
        "server tells how often each was used, and does nothing about it.",
    )
    replies: list[Rule] = Field(
        default_factory=list, max_length=MAX_RULES, description="The rules, in their order."
    )

    @model_validator(mode="before")
    @classmethod
    def _not_too_much(cls, script: Any) -> Any:
        # Before any is compiled: each takes a millisecond, some of them twenty.
        if isinstance(script, dict) and _pattern_size(script.get("replies")) > MAX_PATTERN_SIZE:
            raise ValueError(
                f"all regular expressions together may have {MAX_PATTERN_SIZE:,} characters, with "
                "what has to be repeated, as in (abc){100}, counted as often"
            )
        return script


def _pattern_size(rules: Any) -> int:
    """Of what has not been looked at yet, so it may be anything."""
    matches = [each.get("match") for each in rules or () if isinstance(each, dict)]
    found = [
        match.get(name)
        for match in matches
        if isinstance(match, dict)
        for name in ("regex", "result_regex")
    ]
    # One that is too long by itself is refused where it stands, with its place.
    return sum(min(size(each), SIZE_MAX) for each in found if isinstance(each, str))
