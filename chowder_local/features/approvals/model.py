"""Bodies: commands that wait for an approval, and the policy by which an agent asks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from chowder_local.api.schemas.fields import Id, View
from chowder_local.core.strict_model import StrictModel
from chowder_local.features.approvals.openclaw import AllowedCommand, Ask, Decision, Security

if TYPE_CHECKING:
    from chowder_local.features.approvals.openclaw import Approval

MAX_PATTERN = 1_000

# Not the enumerations: clients in Go have one name for each value of all of them.
AskField = Annotated[
    Literal["off", "on_miss", "always"],
    Field(
        description="`always`: before each command; `on_miss`: before those that the `allowlist` "
        "does not have, if `security` is `allowlist`; `off`: never.",
        examples=["always"],
    ),
]
SecurityField = Annotated[
    Literal["deny", "allowlist", "full"],
    Field(
        description="`full`: any command may run; `allowlist`: those of the `allowlist`, and those "
        "that somebody allows; `deny`: none.",
        examples=["full"],
    ),
]
FallbackField = Annotated[
    Literal["deny", "allowlist", "full"],
    Field(description="What may run of the commands about which nobody decides in time."),
]


class ApprovalView(View):
    """A command that waits for an approval. Times are by the agent's clock."""

    id: Id
    command: str = Field(examples=["rm -rf build"])
    cwd: str | None = Field(examples=["/data/.openclaw/workspace"])
    session: str | None = Field(
        description="Name of its session; `main` is the main one, null one that the API did not "
        "name."
    )
    session_key: str | None = Field(examples=["agent:main:main"])
    since: datetime
    until: datetime = Field(description="When OpenClaw gives up, and denies it by default.")
    warnings: list[str] = Field(
        description="What OpenClaw warns of.", examples=[["Contains inline-eval: python3 -c"]]
    )
    decisions: list[Decision] = Field(
        description="What may be decided. Where the agent always asks, `allow_always` may not."
    )

    @classmethod
    def from_approval(cls, approval: Approval, session: str | None) -> Self:
        return cls(session=session, **vars(approval))


class ApprovalDecision(StrictModel):
    """A decision about a command."""

    decision: Annotated[
        Decision,
        Field(
            description="`allow_once`: it runs; `allow_always`: it runs, and such commands do not "
            "wait any more; `deny`: it does not run, and the agent is told so."
        ),
    ]


class AllowedCommandField(View, StrictModel):
    """A program that needs no approval."""

    pattern: str = Field(
        min_length=1,
        max_length=MAX_PATTERN,
        description="The program's name, or its path; `*`, `**` and `?` are wildcards.",
        examples=["git"],
    )
    arg_pattern: str | None = Field(
        None,
        max_length=MAX_PATTERN,
        description="Regular expression of its arguments, or what OpenClaw keeps of a command that "
        "is always allowed; null: any.",
    )


class ApprovalPolicyView(View):
    """When an agent asks before it runs a command: the stricter of its own policy and `tools.exec`
    of its configuration.
    """

    ask: AskField
    security: SecurityField
    ask_fallback: FallbackField
    allowlist: list[AllowedCommandField]


class ApprovalPolicyChange(StrictModel):
    """A change of the policy; what is left out stays."""

    ask: AskField | None = None
    security: SecurityField | None = None
    ask_fallback: FallbackField | None = None
    allowlist: Annotated[
        list[AllowedCommandField] | None,
        Field(description="All programs that need no approval."),
    ] = None

    def words(self) -> dict[str, Ask | Security]:
        """What is given besides the list, by OpenClaw's names."""
        ask = {} if self.ask is None else {"ask": Ask(self.ask)}
        levels = {"security": self.security, "askFallback": self.ask_fallback}
        given = {name: Security(each) for name, each in levels.items() if each is not None}
        return {**ask, **given}

    def allowed(self) -> list[AllowedCommand] | None:
        """The list, if it is given."""
        if self.allowlist is None:
            return None
        return [AllowedCommand(each.pattern, each.arg_pattern) for each in self.allowlist]
