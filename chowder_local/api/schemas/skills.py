"""Bodies: an agent's skills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from chowder_local.api.schemas.fields import Overrides, View

if TYPE_CHECKING:
    from chowder_local.openclaw.skills import Installation

VARIABLES_MAX = 64
SECRET_MAX = 16 * 1024

Slug = Annotated[
    str,
    StringConstraints(
        max_length=256,
        pattern=(
            r"^(@[A-Za-z0-9][A-Za-z0-9._-]*/|skills-sh:[A-Za-z0-9-]+/[A-Za-z0-9._-]+/)?"
            r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"
        ),
    ),
]
Variable = Annotated[str, StringConstraints(max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, StringConstraints(max_length=SECRET_MAX, pattern=r"^[^\x00]*$")]
NonEmptyValue = Annotated[Value, StringConstraints(min_length=1)]
Secret = Annotated[Value, StringConstraints(strip_whitespace=True)]


class SkillQuery(BaseModel):
    """The skills to list."""

    eligible_only: bool = Field(False, description="Only those that the agent can use now.")


class SkillView(View):
    """A skill; `ready` if it is enabled and has all that it requires."""

    name: str = Field(examples=["weather"])
    description: str = Field(examples=["Says how the weather is."])
    source: str = Field(examples=["openclaw-bundled", "openclaw-workspace"])
    ready: bool = Field(validation_alias="is_ready")


class SkillDetailsView(SkillView):
    """A skill and its path in the sandbox."""

    path: str = Field(examples=["/data/.openclaw/workspace/skills/weather/SKILL.md"])


class SkillInstallation(BaseModel):
    """A skill to install from ClawHub."""

    slug: Slug = Field(
        description="`slug`, `@owner/slug` or `skills-sh:owner/repository/slug`.",
        examples=["weather", "@steipete/weather"],
    )
    env: dict[Variable, NonEmptyValue] | None = Field(
        None,
        max_length=VARIABLES_MAX,
        description="Environment variables for the skill, by name.",
        examples=[{"PAGER_KEY": "…"}],
    )


class SkillInstallationView(BaseModel):
    """The result of an installation, with the names of variables, never their values."""

    skill: str = Field(examples=["weather"])
    status: Literal["installed", "installed_missing_env"]
    output: str = Field(description="OpenClaw's output.", examples=["Installed weather@1.0.0"])
    env_applied: list[str] = Field(examples=[["WEATHER_KEY"]])
    required_env: list[str] = Field(examples=[["WEATHER_KEY"]])
    message: str = Field(examples=["Installed weather@1.0.0."])

    @classmethod
    def from_installation(cls, installation: Installation) -> Self:
        status = "installed_missing_env" if installation.missing_env else "installed"
        return cls(status=status, **vars(installation))


class SkillChange(BaseModel):
    """Settings of a skill, merged with its present ones; null or an empty text removes one."""

    # The validator below, as far as JSON Schema can express it.
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    enabled: StrictBool | None = None
    apiKey: Secret | None = Field(  # noqa: N815 - OpenClaw's name
        None, description="The value of the skill's one main variable.", examples=["sk-…"]
    )
    env: dict[Variable, Value | None] | None = Field(
        None,
        max_length=VARIABLES_MAX,
        description="Environment variables for the skill, by name.",
        examples=[{"PAGER_KEY": "…", "PAGER_ROOM": None}],
    )
    config: Overrides | None = Field(
        None, description="The skill's own settings.", examples=[{"units": "metric"}]
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("Name at least one of enabled, apiKey, env and config")
        return self

    @property
    def change(self) -> dict[str, Any]:
        """The members that are set, as a merge patch."""
        patch = self.model_dump(exclude_unset=True)
        if patch.get("env"):
            patch["env"] = {name: value or None for name, value in patch["env"].items()}
        if patch.get("apiKey") == "":
            patch["apiKey"] = None
        return patch
