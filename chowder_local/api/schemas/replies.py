"""Bodies: scripts of replies, and what has come of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import Id
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    from chowder_local.core.domain import OrganizationId
    from chowder_local.relay.scripts.registry import Running


EXAMPLE: JsonDict = {
    "unmatched": "fail",
    "replies": [{"match": {"text": "weather"}, "reply": "It is sunny."}],
}


class ReplyScriptChange(ReplyScript):
    """A script of replies, as a file has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class UnmatchedView(BaseModel):
    """Something that no rule was about."""

    at: datetime
    instance_id: Id
    provider: Annotated[str, Field(examples=["anthropic"])]
    model: Annotated[str, Field(examples=["gpt-4o"])]
    session: Annotated[
        str | None,
        Field(
            description="Its name; null for the main one and those that are nobody's here.",
            examples=["project-alpha"],
        ),
    ]
    turn: int
    text: Annotated[str, Field(description="What the person said.", examples=["Hello!"])]
    tool: Annotated[
        str | None, Field(description="What came back since, if anything did.", examples=["exec"])
    ]
    result: Annotated[str | None, Field(description="What it came to.", examples=["1000"])]


class ScriptView(BaseModel):
    """A script in force, and what has come of it."""

    script: Annotated[ReplyScript, Field(description="As it was given.", examples=[EXAMPLE])]
    used: Annotated[
        list[int], Field(description="How often each rule has counted.", examples=[[1]])
    ]
    unmatched: Annotated[
        list[UnmatchedView], Field(description="The latest that no rule was about.")
    ]

    @classmethod
    def of(cls, running: Running, organization_id: OrganizationId) -> Self:
        """The view; of what others asked, nothing is in it."""
        return cls(
            script=running.script,
            used=running.used,
            unmatched=[
                UnmatchedView(at=each.at, instance_id=each.instance_id, **vars(each.ask))
                for each in running.unmatched
                if each.organization_id == organization_id
            ],
        )

    def as_given(self) -> dict[str, Any]:
        """As JSON; all that a script leaves out would hide what it says."""
        shown = self.model_dump(mode="json")
        return shown | {"script": self.script.model_dump(mode="json", exclude_unset=True)}


class RepliesView(BaseModel):
    """What the offline model says instead."""

    own: Annotated[
        ScriptView | None,
        Field(description="The organization's script, or the instance's; null: none."),
    ]
    server: Annotated[
        ScriptView | None,
        Field(description="The one that the server was started with, which is asked last."),
    ]
