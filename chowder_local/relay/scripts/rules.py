"""The members of a reply script, in a file as in the API."""

from __future__ import annotations

import asyncio
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.core.strict_model import StrictModel, nearest
from chowder_local.core.untrusted_json import is_deeper
from chowder_local.relay.prompt_format import AGENT_TOOL_NAMES, client_name
from chowder_local.relay.scripts.expressions import (
    SIZE_MAX,
    PatternInvalid,
    TemplateInvalid,
    compile_pattern,
    size,
)
from chowder_local.relay.scripts.expressions import check as check_template
from chowder_local.relay.wire.conversation import StreamStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regex import Pattern

MAX_RULES = 1_000
MAX_TOOLS = 200
TOOL_NAME_MAX = 100
MAX_UNKNOWN_TOOLS = 5
"""The limit for the names that are reported; a text may have more than a million."""
MAX_CHUNKS = 10_000
MAX_LEVELS = 32
"""The limit for the arguments of a call."""
MAX_BYTES = 4_000_000
"""The limit for a script that the API takes."""
MAX_PATTERN_SIZE = 50_000
"""The limit for all regular expressions of a script together."""
MAX_WAIT_S = 600.0
OVERLOADED = "overloaded"


def _flag(value: Any) -> Any:
    # Python takes 1 for true.
    if not isinstance(value, bool):
        raise ValueError("should be true")
    return value


def _shallow(arguments: dict[str, Any]) -> dict[str, Any]:
    # The dashboard shows them indented, which would multiply them by their levels.
    if is_deeper(arguments, MAX_LEVELS):
        raise ValueError(f"should be nested no deeper than {MAX_LEVELS} levels")
    return arguments


Seconds = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
Count = Annotated[int, Field(ge=0)]
Ordinal = Annotated[int, Field(ge=1)]
MatchText = Annotated[str, Field(max_length=10_000)]
Id = Annotated[str, Field(max_length=200)]
Arguments = Annotated[dict[str, Any], AfterValidator(_shallow)]


class _Part(StrictModel):
    model_config = ConfigDict(frozen=True)


class Condition(_Part):
    """When a rule applies: all members that are given must match. Without any it always applies."""

    text: MatchText | None = Field(
        None, description="Text that the latest user message contains, in any case."
    )
    equals: MatchText | None = Field(
        None, description="The whole latest user message; case matters, outer white space does not."
    )
    regex: str | None = Field(
        None,
        description="Regular expression of Python that is found in the latest user message; case "
        "matters.",
    )
    turn: Ordinal | None = Field(
        None, description="How many user messages the conversation has, including this one."
    )
    session: MatchText | None = Field(
        None, description="Name of the session; `main` and an explicit null are the main one."
    )
    job: MatchText | None = Field(
        None, description="Name of the scheduled job whose message it is."
    )
    model: Id | None = Field(None, description="Id of the model; `*` and `?` are wildcards.")
    provider: ModelProvider | None = Field(None, description="Provider of the model.")
    tool: str | None = Field(
        None, description="Name of the tool whose result has come since the message."
    )
    result: MatchText | None = Field(
        None, description="Text that the tool's result contains, in any case."
    )
    result_equals: MatchText | None = Field(
        None, description="The whole result; case matters, outer white space does not."
    )
    result_regex: str | None = Field(
        None, description="Regular expression of Python that is found in the result; case matters."
    )

    @model_validator(mode="after")
    def _compiled(self) -> Self:
        # Compiled now, because that takes too long during a model call.
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
        """Whether `session` is given; null counts, too."""
        return "session" in self.model_fields_set

    @property
    def is_of_result(self) -> bool:
        """Whether a member is about a tool's result; then the rule needs one to match."""
        members = (self.tool, self.result, self.result_equals, self.result_regex)
        return any(each is not None for each in members)


class Pause(_Part, StreamStep):
    """Sends nothing for a while."""

    wait_s: Seconds = Field(description="Seconds to wait.")

    async def play(self) -> bytes:
        await asyncio.sleep(self.wait_s)
        return b""


class Verbatim(_Part, StreamStep):
    """Sends text as it is, such as a broken event."""

    raw: str = Field(description="Text to send, in UTF-8.")

    async def play(self) -> bytes:
        return self.raw.encode()


class Cut(_Part, StreamStep):
    """Breaks the connection."""

    cut: Annotated[Literal[True], BeforeValidator(_flag)] = Field(description="Always true.")

    async def play(self) -> bytes:
        raise StreamBroken("the reply script cut the answer off")


class ToolCall(_Part):
    """A call of one of the agent's tools, or of a function of the client's."""

    name: str = Field(
        min_length=1,
        validation_alias=AliasChoices("name", "call"),
        description="Name of the tool; this member may be called `call`, too.",
    )
    arguments: Arguments = Field(
        default_factory=dict, description="Arguments of the call, by name."
    )


class TokenCounts(_Part):
    """Token counts that the answer reports. Without one, it is about what a real model counts."""

    input_tokens: Count | None = Field(None, description="Tokens of the request.")
    output_tokens: Count | None = Field(None, description="Tokens of the answer.")


class Action(_Part):
    """One answer of the model: text, tool calls, both, or an error."""

    text: str | None = Field(None, description="Text of the answer.")
    template: str | None = Field(
        None,
        description="Text of the answer with names in double braces: `text`, `turn`, `session`, "
        "`model`, `provider`, `tool`, `result`, and `groups[1]` or `groups.name` of the `regex` "
        "(`groups[0]` is the whole match). Filters may follow, as in `{{ text | upper }}`: "
        "`upper`, `lower`, `capitalize`, `trim`, `length`, `tojson`, `default('…')`.",
    )
    chunks: list[str | Pause | Verbatim | Cut] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHUNKS,
        description="Pieces in which the text is streamed, and what happens between them.",
    )
    call: str | None = Field(
        None,
        min_length=1,
        validation_alias=AliasChoices("call", "name"),
        description="Name of the one tool to call; this member may be called `name`, too.",
    )
    arguments: Arguments | None = Field(None, description="Arguments of `call`, by name.")
    calls: list[ToolCall] | None = Field(
        None, min_length=1, description="Several tool calls at once, instead of `call`."
    )
    usage: TokenCounts = Field(
        default_factory=TokenCounts, description="Token counts that the answer reports."
    )
    delay_s: Seconds = Field(0.0, description="Seconds before the answer begins.")
    pace_s: Seconds = Field(0.0, description="Seconds between two pieces of the text.")
    error: Annotated[int, Field(ge=400, le=599)] | Literal["overloaded"] | None = Field(
        None,
        description="HTTP status of the provider's error; `overloaded` is the status that the "
        "provider has for that.",
    )
    message: str | None = Field(None, description="Message of the error.")
    retry_after_s: Seconds | None = Field(
        None,
        description="Seconds in the error's `Retry-After`. With a 429 and up to 10 s the relay "
        "waits and calls once more, which counts as another use of the rule.",
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
        texts = [self.text, self.template, self.chunks]
        calls = [self.call, self.calls]
        if sum(each is not None for each in texts) > 1:
            raise ValueError("give one of text, template and chunks")
        if self.call is not None and self.calls is not None:
            raise ValueError("give call or calls, not both")
        if self.arguments is not None and self.call is None:
            raise ValueError("arguments go with call")
        is_answer = any(each is not None for each in texts + calls)
        if self.error is None and (self.message, self.retry_after_s) != (None, None):
            raise ValueError("message and retry_after_s go with error")
        if is_answer == (self.error is not None):
            raise ValueError("give text, template, chunks, call or calls; or else error")
        return self


def _kind(value: Any) -> str:
    """The kind of a reply, so that problems are reported for that kind only."""
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


class Rule(_Part):
    """A reply, and when the model gives it."""

    name: str | None = Field(None, description="Name of the rule in error messages and reports.")
    match: Condition = Field(
        default_factory=Condition, description="When the rule applies; without it, always."
    )
    reply: Reply = Field(
        description="A text, an action, or a list of them: the first for the message, the next "
        "for the results of its tool calls, and so on."
    )
    times: Ordinal | None = Field(
        None, description="How often the rule applies; without it, always."
    )

    @property
    def answers(self) -> list[Action]:
        """The actions: the first for the message, the next for its tool results, and so on."""
        replies = self.reply if isinstance(self.reply, list) else [self.reply]
        return [Action(text=each) if isinstance(each, str) else each for each in replies]


class ReplyScript(_Part):
    """Rules, of which the first that matches applies, and what happens without one."""

    unmatched: Literal["offline", "fail"] = Field(
        "offline",
        description="`offline`: the offline model answers calls that no rule matches as it does "
        "without a script. `fail`: such a call is an error that quotes the message.",
    )
    unused: Literal["ignore", "fail"] = Field(
        "ignore",
        description="`fail`: a test with the pytest plugin fails if a rule was never used. The "
        "server itself only counts the uses.",
    )
    tools: list[Annotated[str, Field(max_length=TOOL_NAME_MAX)]] = Field(
        default_factory=list,
        max_length=MAX_TOOLS,
        description="Names of the tools in the rules that are not OpenClaw's own: functions of "
        "clients, and tools of MCP servers and plugins.",
    )
    replies: list[Rule] = Field(
        default_factory=list,
        max_length=MAX_RULES,
        description="The rules, in the order in which they are tried.",
    )

    @model_validator(mode="before")
    @classmethod
    def _not_too_much(cls, script: Any) -> Any:
        # This comes before compiling, which takes 1 to 20 ms for each expression.
        if isinstance(script, dict) and _pattern_size(script.get("replies")) > MAX_PATTERN_SIZE:
            raise ValueError(
                f"all regular expressions together may have {MAX_PATTERN_SIZE:,} characters, with "
                "repetitions such as (abc){100} written out"
            )
        return script

    @model_validator(mode="after")
    def _known_tools(self) -> Self:
        # The script is refused at once: a misspelt name would fail only when its rule answers a
        # message.
        known = AGENT_TOOL_NAMES.union(self.tools)
        unknown = (
            each for each in self._named_tools() if not known & {each[1], client_name(each[1])}
        )
        problems: list[InitErrorDetails] = [
            {"type": _unknown_tool(name, known), "loc": place, "input": name}
            for place, name in islice(unknown, MAX_UNKNOWN_TOOLS)
        ]
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    def _named_tools(self) -> Iterator[tuple[tuple[int | str, ...], str]]:
        """The places and names of the tools in the rules."""
        for number, rule in enumerate(self.replies):
            if rule.match.tool is not None:
                yield ("replies", number, "match", "tool"), rule.match.tool
            for index, action in enumerate(rule.answers):
                step = (index,) if isinstance(rule.reply, list) else ()
                place = ("replies", number, "reply", *step)
                if action.call is not None:
                    yield (*place, "call"), action.call
                for at, each in enumerate(action.calls or ()):
                    yield (*place, "calls", at, "name"), each.name


def _unknown_tool(name: str, known: frozenset[str]) -> PydanticCustomError:
    name = name[:TOOL_NAME_MAX]
    near = nearest(name, sorted(known))
    message = (
        f"there is no tool {name!r}{f'; did you mean {near!r}?' if near else '.'} "
        "List functions of your client, and tools of MCP servers and plugins, under `tools` of "
        f"the script. The others are: {', '.join(sorted(known))[:2000]}"
    )
    return PydanticCustomError("unknown_tool", "{message}", {"message": message})


def _pattern_size(rules: Any) -> int:
    """The size of all patterns of rules that are not validated yet and may be anything."""
    matches = [each.get("match") for each in rules or () if isinstance(each, dict)]
    patterns = [
        match.get(name)
        for match in matches
        if isinstance(match, dict)
        for name in ("regex", "result_regex")
    ]
    # A pattern that is too long by itself is refused later, with its place.
    return sum(min(size(each), SIZE_MAX) for each in patterns if isinstance(each, str))
