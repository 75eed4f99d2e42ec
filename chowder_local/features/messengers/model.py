"""Bodies: what people and agents say in channels of the local messenger."""

from __future__ import annotations

from typing import Annotated

from pydantic import Base64Bytes, BaseModel, Field, StrictBool

from chowder_local.core.strict_model import StrictModel
from chowder_local.features.messengers.mailbox import ChannelMessage

MAX_TEXT_CHARS = 20_000
MAX_IMAGE_CHARS = 7_000_000
MAX_WAIT_S = 600.0
MAX_POLL_S = 25.0

Person = Annotated[str, Field(min_length=1, max_length=64, examples=["Ada"])]


class ChannelMessageCreation(StrictModel):
    """What a person says to the agent, in private or in a group."""

    person: Person = Field(alias="from", description="The name of who says it.")
    text: Annotated[str, Field(max_length=MAX_TEXT_CHARS, examples=["Hello"])] = ""
    group: Person | None = Field(
        None,
        description="The group in which it is said. Most channels answer there when the agent is "
        "mentioned.",
        examples=["Team"],
    )
    thread: Person | None = Field(None, description="The thread of the group.", examples=["Plans"])
    image: Annotated[Base64Bytes, Field(max_length=MAX_IMAGE_CHARS)] | None = Field(
        None, description="A picture, in Base64.", examples=["iVBORw0KGgo="]
    )
    approve: StrictBool = Field(
        False, description="Approves the person first, so that the agent gives no pairing code."
    )
    wait_s: Annotated[float, Field(ge=0, le=MAX_WAIT_S)] = Field(
        0.0, description="For how long to wait for the agent's answer."
    )


class ChannelAnswersView(BaseModel):
    """What was said, and what the agent has answered until then."""

    message: ChannelMessage
    answers: list[ChannelMessage] = Field(
        description="As a person reads them in the end: with edits made, without deleted ones."
    )


class ChannelMessageQuery(StrictModel):
    """The messages to list."""

    after: int = Field(0, ge=0, description="Only those with a higher id.")
    wait_s: Annotated[float, Field(ge=0, le=MAX_POLL_S)] = Field(
        0.0, description="For how long to wait if there is none."
    )
    person: Person | None = None
    group: Person | None = None
    limit: int = Field(100, ge=1, le=1000, description="The latest of them are listed.")
