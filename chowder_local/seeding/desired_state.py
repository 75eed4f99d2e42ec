"""The state that a seed file declares, with the variables in it and the places of its files."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Self, cast

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from chowder_local.core import untrusted_json, untrusted_yaml
from chowder_local.core.domain import OFFLINE_KEY, ModelProvider, Permission, Tier
from chowder_local.core.errors.agents import ConfigRefused
from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.strict_model import StrictModel
from chowder_local.features.approvals.model import ApprovalPolicyChange
from chowder_local.features.breakpoints.model import BreakpointMatch, BreakpointSetting
from chowder_local.features.budgets.model import BudgetSetting
from chowder_local.features.jobs.model import JobCreation
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.jobs import Schedule
from chowder_local.seeding.untrusted_names import is_git_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODEL_KEY = re.compile(r"offline|env:[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Sources:
    """The environment, and the folder that paths in a seed file are relative to."""

    folder: Path
    env: Mapping[str, str]


def digest(content: str | bytes | Path) -> str:
    if isinstance(content, Path):
        with content.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _sources(info: ValidationInfo) -> Sources:
    return cast("Sources", info.context)


def _model_key(reference: str, info: ValidationInfo) -> str:
    if MODEL_KEY.fullmatch(reference) is None:
        raise ValueError("write env:NAME, with the key in that variable, or offline")
    if reference == OFFLINE_KEY:
        return OFFLINE_KEY
    name = reference.removeprefix("env:")
    value = _sources(info).env.get(name, "").strip()
    if not value:
        raise ValueError(f"Set {name} in the environment, or write offline")
    return value


def _below_home(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or not all(parts) or {".", ".."} & set(parts):
        raise ValueError("it should be a path below the agent's home, such as workspace/notes.md")
    return path


def _folder_name(name: str) -> str:
    if "/" in name or name in {".", ".."}:
        raise ValueError("it should be the name of one folder")
    return name


def _readable(file: Path) -> Path:
    try:
        file.open("rb").close()
    except OSError as failure:
        raise ValueError(f"{file} cannot be read: {failure.strerror}") from None
    return file


def _relative_path(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("it should be a path, relative to the seed file")
    return _sources(info).folder / value


def _file(value: Any, info: ValidationInfo) -> Path:
    return _readable(_relative_path(value, info))


def _skill(value: Any, info: ValidationInfo) -> dict[str, Path]:
    folder = _relative_path(value, info)
    if not (folder / "SKILL.md").is_file():
        raise ValueError(f"{folder} should be a folder with a SKILL.md in it")
    return _files_in(folder)


def _home(value: Any, info: ValidationInfo) -> dict[str, Path]:
    folder = _relative_path(value, info)
    if not folder.is_dir():
        raise ValueError(f"{folder} should be a folder")
    files = {path: file for path, file in _files_in(folder).items() if not is_git_folder(path)}
    for file in files.values():
        if file.is_symlink():
            raise ValueError(f"{file} is a link; write the file itself")
    return files


def _files_in(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): _readable(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _as_file(value: Any) -> Any:
    return {"content": value} if isinstance(value, str) else value


def _nested_config(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as failure:
        raise ValueError(f"it should be valid as JSON: {failure}") from None
    try:
        return agent_config.to_merge_patch(value)
    except ConfigRefused as refused:
        raise ValueError(str(refused)) from None


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


Name = Annotated[str, Field(min_length=1, max_length=128)]
ModelId = Annotated[str, Field(min_length=1, max_length=256)]
HomePath = Annotated[str, AfterValidator(_below_home)]
Text = Annotated[str, Field(min_length=1)]


class _Part(StrictModel):
    # Somebody may write a key itself instead of env:NAME.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    _location: Location = PrivateAttr()

    @property
    def location(self) -> Location:
        return self._location

    def set_location(self, location: Location) -> None:
        """Sets the location in the file of this part and of the parts in its lists."""
        self._location = location
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, list):
                for index, each in enumerate(value):
                    if isinstance(each, _Part):
                        each.set_location(location / name / index)


class DesiredFile(_Part):
    """A file's content: either `content` or `from`."""

    content: str | None = Field(None, description="Text of the file.")
    from_: Annotated[Path, BeforeValidator(_file, json_schema_input_type=str)] | None = Field(
        None, alias="from", description="Path of the file to copy, relative to the seed file."
    )

    @model_validator(mode="before")
    @classmethod
    def _check_is_one(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.keys() <= {"content", "from"}:
            given = [each for each in value.values() if each is not None]
            if len(given) != 1:
                raise ValueError("write its content, or {from: path}")
        return value

    @property
    def source(self) -> bytes | Path:
        return (self.content or "").encode() if self.from_ is None else self.from_


class DesiredSession(_Part):
    """Messages that are sent to a session, once and in order."""

    name: Name | None = Field(None, description="Name of the session; without it, the main one.")
    model: ModelId | None = Field(
        None, description="Model of the messages; without it, the default one of the provider."
    )
    messages: list[Text] = Field(
        min_length=1, description="The messages. Later versions of the file may only add some."
    )

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of the messages, for an agent's marker."""
        return tuple(map(digest, self.messages))


class DesiredJob(_Part, JobCreation):
    """A scheduled job, found again by its name."""

    def has(self, job: Mapping[str, Any]) -> bool:
        """Whether a job of the API is as it is declared; one-time jobs are off after their run."""
        wanted = self.model_dump(include={"message", "session", "deliver"})
        found = {name: job[name] for name in wanted}
        if found["deliver"] is not None:
            found["deliver"] = {name: each for name, each in found["deliver"].items() if each}
        schedule = {**job["schedule"]}
        if schedule["at"] is not None:
            schedule["at"] = datetime.fromisoformat(schedule["at"])
        is_on = job["is_enabled"] is self.is_enabled or self.schedule.kind == "at"
        model = str(job["model"] or "")
        return (
            wanted == found
            and self.schedule.schedule() == Schedule(**schedule)
            and is_on
            and (self.model is None or model.rpartition("/")[2] == self.model.rpartition("/")[2])
        )


class DesiredBudget(_Part, BudgetSetting):
    """A budget; what is spent of it stays counted when a later version of the file changes it."""

    def has(self, budget: Mapping[str, Any] | None) -> bool:
        """Whether a budget of the API has these limits."""
        wanted = self.model_dump()
        return budget is not None and all(budget[name] == each for name, each in wanted.items())


class DesiredBreakpoint(_Part, BreakpointSetting):
    """A breakpoint. The server forgets it when it stops or, with `once`, when it holds a call."""

    def has(self, found: Mapping[str, Any] | None) -> bool:
        """Whether a breakpoint of the API is as it is declared."""
        wanted = (self.match or BreakpointMatch()).model_dump(mode="json")
        return (
            found is not None
            and found["once"] is self.once
            and all(found["match"].get(name) == each for name, each in wanted.items())
        )


class DesiredPolicy(_Part, ApprovalPolicyChange):
    """When an instance asks before it runs a command."""

    def has(self, policy: Mapping[str, Any] | None) -> bool:
        """Whether a policy of the API is as it is declared."""
        wanted = self.model_dump(mode="json", exclude_none=True)
        return policy is not None and all(policy[name] == each for name, each in wanted.items())


class DesiredInstance(_Part):
    """An instance with its configuration, files, skills, sessions and jobs."""

    name: Name = Field(description="Name of the instance, unique in the organization.")
    model_provider: ModelProvider = Field(
        ModelProvider.ANTHROPIC,
        description="Provider of the default model; it cannot change once the instance exists.",
    )
    openclaw_config: Annotated[dict[str, Any], AfterValidator(_nested_config)] = Field(
        default_factory=dict,
        description="Overrides of OpenClaw's configuration, nested or with dotted paths.",
    )
    files: dict[
        HomePath,
        Annotated[DesiredFile, BeforeValidator(_as_file, json_schema_input_type=str | DesiredFile)],
    ] = Field(
        default_factory=dict,
        description="Files by their path below the agent's home, such as `workspace/notes.md`.",
    )
    home: Annotated[dict[str, Path], BeforeValidator(_home, json_schema_input_type=str)] = Field(
        default_factory=dict,
        description="A folder whose files go to the same paths below the agent's home, relative "
        "to the seed file; `pull` writes one.",
    )
    skills: dict[
        Annotated[Name, AfterValidator(_folder_name)],
        Annotated[dict[str, Path], BeforeValidator(_skill, json_schema_input_type=str)],
    ] = Field(
        default_factory=dict,
        description="Skills by name: the path of a folder with a `SKILL.md`, relative to the seed "
        "file.",
    )
    sessions: list[DesiredSession] = Field(
        default_factory=list, description="Sessions, and the messages to send to them."
    )
    jobs: list[DesiredJob] = Field(
        default_factory=list, description="Scheduled jobs, by name, as the API takes them."
    )
    budget: DesiredBudget | None = Field(
        None, description="What its model calls may take; without it, the budget stays as it is."
    )
    breakpoint: DesiredBreakpoint | None = Field(
        None,
        description="Which of its model calls are held, from the end of the seeding on; without "
        "it, the breakpoint stays as it is.",
    )
    approvals: DesiredPolicy | None = Field(
        None, description="When it asks before it runs a command, as the API takes it."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _check_unique("session", (each.name or "the main one" for each in self.sessions))
        _check_unique("job", (each.name for each in self.jobs))
        return self

    @property
    def needs_running(self) -> bool:
        """Whether something of it can be compared with a running agent only."""
        return any((self.home, self.files, self.skills, self.sessions, self.jobs, self.approvals))

    def home_files(self) -> dict[str, tuple[bytes | Path, Location]]:
        """Content, or the file that has it, and location of each file by its path."""
        files: dict[str, tuple[bytes | Path, Location]] = {
            path: (file, self.location / "home") for path, file in self.home.items()
        }
        for name, contents in self.skills.items():
            for path, file in contents.items():
                files[f"workspace/skills/{name}/{path}"] = (file, self.location / "skills" / name)
        for path, declared in self.files.items():
            files[path] = (declared.source, self.location / "files" / path)
        return files


class DesiredKey(_Part):
    """A scoped key for instances of the same organization."""

    name: Name = Field(description="Name of the key, unique in the organization.")
    instances: list[Name] = Field(min_length=1, description="Names of the instances.")
    permissions: list[Permission] = Field(
        min_length=1, description="What the key may do with each of the instances."
    )
    expires_at: Annotated[datetime, AfterValidator(_in_utc)] | None = Field(
        None, description="When the key expires, in UTC unless a zone is given; without it, never."
    )


class DesiredOrganization(_Part):
    """An organization with its model keys, instances and scoped keys."""

    name: Name = Field(
        description="Name of the organization. `default` is the server's default organization; "
        "any other is signed up for."
    )
    tier: Tier | None = Field(None, description="Tier to move to; without it, the tier stays.")
    model_keys: dict[ModelProvider, Annotated[str, AfterValidator(_model_key)]] = Field(
        default_factory=dict,
        repr=False,
        description="Model keys by provider: `env:NAME` for the key in that environment variable, "
        "or `offline` for the offline model.",
    )
    budget: DesiredBudget | None = Field(
        None, description="What its model calls may take; without it, the budget stays as it is."
    )
    instances: list[DesiredInstance] = Field(
        default_factory=list, description="Instances of the organization."
    )
    keys: list[DesiredKey] = Field(
        default_factory=list, description="Scoped keys of the organization."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _check_unique("instance", (each.name for each in self.instances))
        _check_unique("key", (each.name for each in self.keys))
        names = {each.name for each in self.instances}
        for key in self.keys:
            if missing := [name for name in key.instances if name not in names]:
                raise ValueError(f"key {key.name}: the organization has no instance {missing[0]}")
        return self


class Document(_Part):
    """All that a seed file declares."""

    organizations: list[DesiredOrganization] = Field(
        min_length=1, description="Organizations. What the file does not name stays as it is."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _check_unique("organization", (each.name for each in self.organizations))
        return self


def read_seed(file: Path, env: Mapping[str, str]) -> Document:
    """Reads a seed file and the files in it. Raises SettingsInvalid if one is invalid."""
    content, location = read(file)
    if not isinstance(content, dict):
        example = "docs/guides/seeding-and-reset.md has an example."
        location.fail(f"It should begin with 'organizations:'; {example}")
    try:
        document = Document.model_validate(content, context=Sources(file.parent, env))
    except ValidationError as invalid:
        problem = invalid.errors(include_url=False, include_input=False)[0]
        message = problem["msg"].removeprefix("Value error, ").rstrip(".")
        path = tuple(part for part in problem["loc"] if part != "[key]")
        replace(location, path=path).fail(f"{message[:1].upper()}{message[1:]}.")
    document.set_location(location)
    return document


def _check_unique(kind: str, names: Iterable[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{kind} {repeated[0]} is there twice; names must be unique")


@dataclass(frozen=True)
class Location:
    """A place in a seed file, for error messages."""

    file: Path
    root: yaml.Node | None = field(default=None, repr=False)
    path: tuple[int | str, ...] = ()
    """The names and indexes that lead to the place."""

    def __truediv__(self, part: int | str) -> Location:
        return replace(self, path=(*self.path, part))

    def fail(self, message: str) -> NoReturn:
        """Raises SettingsInvalid with the file, the line, the place and the message."""
        line = untrusted_yaml.line_of(self.root, self.path)
        where = str(self.file) if line is None else f"{self.file}, line {line}"
        steps = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path]
        place = f", {''.join(steps).removeprefix('.')}" if steps else ""
        raise SettingsInvalid(f"{where}{place}: {message}")


def read(file: Path) -> tuple[Any, Location]:
    """The content of a seed file. Raises SettingsInvalid if it cannot be read or parsed."""
    try:
        text = file.read_text("utf-8")
    except OSError as failure:
        raise SettingsInvalid(f"{file} cannot be read: {failure.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(f"{file} is not text in UTF-8.") from None
    try:
        return _parse(file, text)
    except json.JSONDecodeError as broken:
        raise SettingsInvalid(f"{file}, line {broken.lineno}: {broken.msg}.") from None
    except untrusted_yaml.YamlInvalid as invalid:
        where = " cannot be read" if invalid.line is None else f", line {invalid.line}"
        raise SettingsInvalid(f"{file}{where}: {invalid}.") from None
    except ValueError as invalid:
        raise SettingsInvalid(f"{file} cannot be read: it is {invalid}.") from None


def _parse(file: Path, text: str) -> tuple[Any, Location]:
    is_json, root = file.suffix == ".json", None
    try:
        root = untrusted_yaml.compose(text)
    except untrusted_yaml.YamlInvalid:
        # Most JSON is YAML as well. For the rest, messages have no lines.
        if not is_json:
            raise
    location = Location(file, root)
    if root is not None:
        _check_unique_names(location, root)
    # `construct` follows; it would keep only the last of equal names.
    content = untrusted_json.read(text) if is_json else untrusted_yaml.construct(root)
    if is_json and untrusted_json.replace_surrogates(content) != content:
        raise ValueError("no Unicode: a text has half of a character, as \\ud800 is")
    return content, location


def _check_unique_names(location: Location, node: yaml.Node) -> None:
    """Raises SettingsInvalid if a name is there twice, because YAML uses the last one silently."""
    seen: set[str] = set()
    for name, _, value in untrusted_yaml.parts(node):
        if name in seen:
            (location / name).fail("This name is there twice; remove one of them.")
        seen.add(name)
        part = int(name) if isinstance(node, yaml.SequenceNode) else name
        _check_unique_names(location / part, value)
