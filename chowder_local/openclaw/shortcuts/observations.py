"""What the image build has seen of its release of OpenClaw."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

OBSERVATIONS_FILE = "/opt/openclaw/observations.json"
"""Its path in the sandbox image, where `docker/sandbox/warm` writes it."""

Columns = dict[str, list[str]]
"""The columns of each table."""


class Tables(BaseModel):
    """The tables of the two databases; None for one that OpenClaw does not keep there."""

    conversations: Columns | None = None
    state: Columns | None = None


class Prompt(BaseModel):
    """The last model call of a conversation, in Anthropic's format, without its tools.

    The user has said `first`, was answered, and has said `look`. The agent has called a function of
    the client's, which returned `found`.
    """

    system: Any
    messages: list[dict[str, Any]]


class Observations(BaseModel):
    """One run of the gateway: what it wrote, asked, answered, and which files it had."""

    model_config = ConfigDict(frozen=True)

    openclaw: str
    """The release's version."""
    unfit: dict[str, str]
    """The shortcuts of the image itself that it was built without, with the reasons."""
    home: list[str]
    """What is in the state directory."""
    tables: Tables
    messages: list[dict[str, Any]]
    """Stored messages of a conversation."""
    prompt: Prompt
    marker: str
    """The message of a model call that failed."""
    failures: list[str]
    """The gateway's answers to turns whose model calls failed so."""
    answers: dict[str, Any]
    """The payloads of control calls, by method."""
    processes: list[str]
    """Command lines."""


def read_observations(content: bytes | None) -> Observations | None:
    """The observations in an image's file; None if the image has none that can be read."""
    if content is None:
        return None
    try:
        return Observations.model_validate_json(content)
    except ValidationError:
        return None
