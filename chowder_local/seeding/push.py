"""Which steps of a push would set back what was changed there, and what a push does not carry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.config.edits import changed_paths, leaves
from chowder_local.seeding.desired_state import digest
from chowder_local.seeding.home import is_executable
from chowder_local.seeding.plan import Configure, Create, WriteFile, contains
from chowder_local.seeding.seen import as_text, nest, settings_of
from chowder_local.seeding.three_way import Change, compare
from chowder_local.seeding.untrusted_names import is_git_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.seeding.desired_state import DesiredInstance, DesiredOrganization
    from chowder_local.seeding.home import Home
    from chowder_local.seeding.plan import SeedStep
    from chowder_local.seeding.seen import SeenAgent
    from chowder_local.seeding.target import CurrentInstance, CurrentOrganization

PUSH_DOES = {
    Change.HERE: "writes it",
    Change.THERE: "leaves it",
    Change.BOTH: "asks about it",
}
_MEMORY = re.compile(r"workspace/(memory/.*|memory\.md|dreams\.md)", re.IGNORECASE)


def is_memory(path: str) -> bool:
    """Whether a file of a home is what the agent itself remembers."""
    return _MEMORY.fullmatch(path) is not None


@dataclass
class PushPlan:
    """The steps of a push, and what it leaves alone."""

    steps: list[SeedStep] = field(default_factory=list)
    """All of them in order, with those that are conflicts."""
    conflicts: list[SeedStep] = field(default_factory=list)
    """The steps that would undo a change there."""
    stays: list[str] = field(default_factory=list)
    """What was changed only there."""
    memory: list[str] = field(default_factory=list)
    """Files of agents' memories, which nobody asked for."""

    def chosen(self, *, keeps_ours: bool) -> list[SeedStep]:
        return [each for each in self.steps if keeps_ours or each not in self.conflicts]


def plan_push(
    steps: Iterable[SeedStep],
    desired: DesiredOrganization,
    current: CurrentOrganization,
    seen: Mapping[str, SeenAgent],
    *,
    with_memory: bool,
) -> PushPlan:
    """Sorts the steps of a seeding by what was `seen` there of each instance, by its name.

    A memory's files are left out unless `with_memory`, or the seed file names them under `files`.
    """
    found = PushPlan()
    declared = {each.name: each for each in desired.instances}
    for step in steps:
        if isinstance(step, WriteFile):
            agent, name = current.instances.get(step.instance), step.instance
            is_named = step.path in declared[name].files
            if is_memory(step.path) and not is_named and not with_memory:
                found.memory.append(f"{step.path} of {name}")
            else:
                _sort_file(found, step, agent, seen.get(name))
        elif isinstance(step, Configure):
            name = step.instance
            _sort_settings(found, step, declared[name], current.instances[name], seen.get(name))
        else:
            found.steps.append(step)
    return found


def _sort_file(
    found: PushPlan, step: WriteFile, agent: CurrentInstance | None, seen: SeenAgent | None
) -> None:
    path, base, there = step.path, seen.files if seen else {}, agent.files if agent else {}
    change = compare(base, {path: digest(step.content)}, there, [path]).get(path)
    how = "changed there" if path in there else "deleted there"
    if change is Change.THERE:
        found.stays.append(f"{path} of {step.instance}: {how}")
        return
    if change is Change.BOTH:
        reason = f"{how}, too" if path in base else "it differs there, and was never seen"
        step = replace(step, description=f"{step.description} ({reason})")
        found.conflicts.append(step)
    found.steps.append(step)


def _sort_settings(
    found: PushPlan,
    step: Configure,
    desired: DesiredInstance,
    agent: CurrentInstance,
    seen: SeenAgent | None,
) -> None:
    is_removal = step.change is not desired.openclaw_config
    here, there = settings_of(desired.openclaw_config), settings_of(agent.openclaw_config)
    base = seen.settings if seen else {}
    changes = compare(as_text(base), as_text(here), as_text(there))
    safe: dict[tuple[str, ...], Any] = {}
    for path, value in leaves(step.change):
        name = ".".join(path)
        if not is_removal and contains(agent.openclaw_config, nest({path: value})):
            continue
        # A secret is only in a file in which somebody has written it.
        change = changes.get(name, Change.HERE)
        if change is Change.THERE and not is_removal:
            how = "changed there" if name in there else "removed there"
            found.stays.append(f"setting {name} of {step.instance}: {how}")
        elif change is Change.HERE:
            safe[path] = value
        else:
            reason = (
                "changed there, too" if name in base else "it differs there, and was never seen"
            )
            conflict = _configure(step, {path: value}, is_removal=is_removal)
            conflict = replace(conflict, description=f"{conflict.description} ({reason})")
            found.conflicts.append(conflict)
            found.steps.append(conflict)
    if safe:
        found.steps.append(_configure(step, safe, is_removal=is_removal))


def _configure(
    step: Configure, values: Mapping[tuple[str, ...], Any], *, is_removal: bool
) -> Configure:
    change = nest(values)
    names = ", ".join(changed_paths(change))
    verb = f"remove {names} from the configuration of" if is_removal else "configure"
    description = f"{verb} {step.instance}" + ("" if is_removal else f": {names}")
    return replace(step, description=description, change=change)


def note_pushed(
    seen: SeenAgent,
    desired: DesiredInstance,
    current: CurrentInstance | None,
    written: Mapping[str, str],
    taken: Iterable[SeedStep],
) -> None:
    """Notes where both sides are alike after a push, with the digests of what it has `written`."""
    there = {**(current.files if current else {}), **written}
    for path, (content, _) in desired.home_files().items():
        if there.get(path) == (own := digest(content)):
            seen.files[path] = own
    here = settings_of(desired.openclaw_config)
    theirs = as_text(settings_of(current.openclaw_config if current else {}))
    alike = {name for name, text in as_text(here).items() if theirs.get(name) == text}
    for step in taken:
        if isinstance(step, Configure) and step.instance == desired.name:
            alike |= set(changed_paths(step.change))
        if isinstance(step, Create) and step.instance.name == desired.name:
            alike |= set(here)
    for name in alike:
        if name in here:
            seen.settings[name] = here[name]
        else:
            seen.settings.pop(name, None)


def not_carried(desired: DesiredInstance, home: Home | None) -> Iterator[str]:
    """What no call of the API carries from a declared home: modes, empty folders, git's own."""
    for path, file in desired.home.items():
        entry = home.entry(path) if home else None
        here, there = is_executable(file), "x" in str(entry and entry["permissions"])
        if here is not there:
            kind, change = ("executable", "+x") if here else ("not executable", "-x")
            yield (
                f"{path} of {desired.name}: no call makes it {kind}. Have the agent run chmod "
                f"{change}."
            )
    if not desired.home:
        return
    path, file = next(iter(desired.home.items()))
    root = file.parents[path.count("/")]
    for folder in sorted(each for each in root.rglob("*") if each.is_dir()):
        path = folder.relative_to(root).as_posix()
        if folder.name == ".git":
            yield f"{path} of {desired.name}: it is git's own."
        is_there = home is not None and home.entry(path) is not None
        if not is_git_folder(path) and not is_there and not any(folder.iterdir()):
            yield f"{path} of {desired.name}: no call makes an empty folder. Put a file into it."
