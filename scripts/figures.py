"""Prints how large the code is, how far each feature reaches, and how many modules a create, a
message and `up` pass.

A release says with it how the figures moved: `.venv/bin/python -P scripts/figures.py`. The ways are
taken on a server with a scripted engine; a module counts if one of its functions begins.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chowder_local"
BRACKETS = set("()[]{},")
WRITTEN_DECLARATIONS = {
    "chowder_local/store/tables.py": "class InstanceRow",
    "chowder_local/core/domain.py": "class Instance:",
    "chowder_local/store/instances.py": "class InstanceChanges",
    "chowder_local/instances/lifecycle/creation.py": "class InstanceDraft",
    "chowder_local/api/schemas/instances.py": "class InstanceView",
}
"""Where the fields of an instance are, or were, declared by hand."""
OTHER_DECLARATIONS = {
    "chowder_local/client/plain_calls.py": "gateway_url",
    "chowder_local/conformance/published.yaml": "gateway_url",
    "js/src/openapi.d.ts": "gateway_url",
}
"""Those that are generated, or the hosted service's."""

BESIDE_KERNEL = ("features", "testing", "trials", "conformance", "seeding", "engine/swarm")
TABLES = {
    "cli/main.py", "features/feature.py", "client/plain_calls.py", "core/events.py",
}  # fmt: skip
"""Name every feature, or are generated."""


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def code_lines(path: Path) -> int:
    """Lines that are not blank, docstring, comment, import or a lone bracket."""
    text = path.read_text()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(
        bool(line) and number not in left_out and line[0] != "#" and not set(line) <= BRACKETS
        for number, line in lines
    )


def constructor_lines(path: Path) -> int:
    """Parameters of `__init__`, and assignments of these to attributes."""
    count = 0
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = node.args
            names = {each.arg for each in (*arguments.args[1:], *arguments.kwonlyargs)}
            count += len(names)
            count += sum(
                isinstance(each, ast.Assign)
                and isinstance(each.targets[0], ast.Attribute)
                and isinstance(each.value, ast.Name)
                and each.value.id in names
                for each in node.body
            )
    return count


def features() -> list[Path]:
    """The folders of features."""
    return sorted(each.parent for each in (PACKAGE / "features").glob("*/__init__.py"))


def reach(feature: Path) -> int:
    """How many modules beside a feature name it, without tables of all features."""
    name = re.compile(rf"(?i)(?<![a-z]){feature.name.removesuffix('s')}")
    return sum(
        bool(name.search(each.read_text()))
        for each in sources(PACKAGE)
        if not each.is_relative_to(feature)
        and "migrations" not in each.parts
        and str(each.relative_to(PACKAGE)) not in TABLES
    )


def kernel_lines() -> int:
    """Lines of code of what is no feature, and no part of its own beside the kernel."""
    beside = [PACKAGE / each for each in BESIDE_KERNEL]
    return sum(
        code_lines(each)
        for each in sources(PACKAGE)
        if not any(each.is_relative_to(folder) for folder in beside)
    )


@contextmanager
def passed() -> Iterator[dict[str, None]]:
    """The modules whose functions begin within the block, in any thread and in that order."""
    names: dict[str, None] = {}
    known: dict[str, str | None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name == "<module>":
            return
        file = code.co_filename
        if file not in known:
            path = Path(file)
            is_ours = path.is_relative_to(PACKAGE)
            known[file] = str(path.relative_to(PACKAGE)) if is_ours else None
        if (name := known[file]) is not None:
            names.setdefault(name)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def ways() -> dict[str, str]:
    """The modules that a warm create passes, and those of a streamed message."""
    import httpx

    from tests.api.conftest import app_of
    from tests.scripted.programs import done
    from tests.scripted.serving import eventually
    from tests.scripted.world import open_world

    with tempfile.TemporaryDirectory() as folder:
        async with open_world(Path(folder), warm_pool_size=1, boot_concurrency=1) as world:
            world.programs.answers["sessions.delete"] = done()
            while await world.pool.adjust():
                pass
            transport = httpx.ASGITransport(app_of(world))
            headers = {"Authorization": f"Bearer {world.key}"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://server.test", headers=headers
            ) as client:
                with passed() as in_request:
                    answer = await client.post("/v1/instances", json={"name": "Ada"})
                instance_id = answer.raise_for_status().json()["id"]
                with passed() as behind:
                    await eventually(
                        lambda: not world.provisioner.is_in_progress(instance_id), "it is ready"
                    )
                with passed() as message:
                    path = f"/v1/instances/{instance_id}/responses"
                    body = {"model": "anthropic/claude", "input": "Hello.", "stream": True}
                    (await client.post(path, json=body)).raise_for_status()
    return {
        "modules that a warm create passes, in the request + behind it": (
            f"{len(in_request)} + {len(behind.keys() - in_request.keys())}"
        ),
        "modules that a streamed message passes (its model call apart)": str(len(message)),
    }


def main() -> None:
    """Prints a Markdown table."""
    package, tests = sources(PACKAGE), sources(ROOT / "tests")
    written, others = map(_declarations, (WRITTEN_DECLARATIONS, OTHER_DECLARATIONS))
    rows = {
        "lines of code in chowder_local": f"{sum(map(code_lines, package)):,}",
        "lines of code of the kernel": f"{kernel_lines():,}",
        **{
            f"lines of code of {each.name}, and modules beside it that name it": (
                f"{sum(map(code_lines, sources(each))):,}, {reach(each)}"
            )
            for each in features()
        },
        "modules": str(sum(each.name != "__init__.py" for each in package)),
        "constructor lines": str(sum(map(constructor_lines, package))),
        "declarations of an instance's fields, by hand + others": f"{written} + {others}",
        **asyncio.run(ways()),
        "lines of code in tests": f"{sum(map(code_lines, tests)):,}",
    }
    lines = [f"| {name} | {figure} |\n" for name, figure in rows.items()]
    sys.stdout.writelines(["| what | figure |\n", "| --- | --- |\n", *lines])


def _declarations(marks: Mapping[str, str]) -> int:
    return sum(mark in (ROOT / file).read_text() for file, mark in marks.items())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
