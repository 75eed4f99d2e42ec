"""Bodies: scripted replies and their use."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import Id
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    from chowder_local.core.domain import OrganizationId
    from chowder_local.relay.scripts.registry import ActiveScript


EXAMPLE: JsonDict = {
    "unmatched": "fail",
    "replies": [{"match": {"text": "weather"}, "reply": "It is sunny."}],
}


class ReplyScriptChange(ReplyScript):
    """A script of replies, in the format of a script file."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class UnmatchedView(BaseModel):
    """A model call that no rule matched."""

    at: datetime
    instance_id: Id
    provider: Annotated[str, Field(examples=["anthropic"])]
    model: Annotated[str, Field(examples=["gpt-4o"])]
    session: Annotated[
        str | None,
        Field(
            description="The session's name; null for the main session and OpenClaw's own.",
            examples=["project-alpha"],
        ),
    ]
    turn: int
    text: Annotated[str, Field(description="The user's message.", examples=["Hello!"])]
    tool: Annotated[
        str | None, Field(description="The tool whose result follows, if any.", examples=["exec"])
    ]
    result: Annotated[str | None, Field(description="The tool's result.", examples=["1000"])]


class ScriptView(BaseModel):
    """An active script and its use."""

    script: Annotated[ReplyScript, Field(description="As it was set.", examples=[EXAMPLE])]
    used: Annotated[list[int], Field(description="How often each rule was used.", examples=[[1]])]
    unmatched: Annotated[
        list[UnmatchedView], Field(description="The latest calls that no rule matched.")
    ]

    @classmethod
    def from_running(cls, running: ActiveScript, organization_id: OrganizationId) -> Self:
        """The script, with the unmatched calls of one organization only."""
        return cls(
            script=running.script,
            used=running.used,
            unmatched=[
                UnmatchedView(
                    at=each.at,
                    instance_id=each.instance_id,
                    tool=each.request.tool,
                    **vars(each.request),
                )
                for each in running.unmatched
                if each.organization_id == organization_id
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The view as JSON; the script without its defaults."""
        view = self.model_dump(mode="json")
        return view | {"script": self.script.model_dump(mode="json", exclude_unset=True)}


class RepliesView(BaseModel):
    """The scripts of an organization or instance, and of the server."""

    own: Annotated[
        ScriptView | None,
        Field(description="The script of the organization or instance; null: none."),
    ]
    server: Annotated[
        ScriptView | None,
        Field(description="The script that the server was started with, which is tried last."),
    ]
