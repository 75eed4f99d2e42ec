"""Two runs side by side."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.core.errors.agents import RunNotFound
from chowder_local.dashboard.instances import instance_choices
from chowder_local.dashboard.pages import page
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.relay.runs import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance
    from chowder_local.relay.runs import Comparison

NAME_MAX = 400
TURNS_OF_EACH = 10
"""How many of an agent's latest turns are offered."""
EXCERPT_CHARACTERS = 160


class DiffQuery(BaseModel):
    """The names of two runs, as the API takes them."""

    a: str = Field("", max_length=NAME_MAX)
    b: str = Field("", max_length=NAME_MAX)


async def show(request: Request) -> Response:
    query = parse_query(request, DiffQuery)
    found, problem = None, ""
    if query.a and query.b:
        try:
            found = await _compared(request, query)
        except RunNotFound as unknown:
            problem = str(unknown)
    choices = await instance_choices(request)
    return await page(
        request,
        "diff.html",
        here="/model-calls",
        query=query,
        found=found,
        problem=problem,
        choices=[choice for each in choices for choice in _choices(request, each)],
        characters=EXCERPT_CHARACTERS,
    )


async def _compared(request: Request, query: DiffQuery) -> Comparison:
    runs = services(request).runs
    makes = [await runs.prepare(caller(request), each) for each in (query.a, query.b)]
    return await services(request).recordings.run(lambda: compare(*(make() for make in makes)))


def _choices(request: Request, instance: Instance) -> Iterator[tuple[str, str]]:
    """Names of an agent's runs, each with what it is."""
    turns = [*islice(services(request).traces.of_instance(instance.id), TURNS_OF_EACH)]
    if turns:
        yield instance.id, f"all turns of {instance.name}"
    for each in turns:
        yield each.response_id or each.id, f"{instance.name}, {each.status}: {each.text[:60]}"
    if services(request).recordings.entries(instance.id) is not None:
        yield f"recording:{instance.id}", f"what {instance.name} replays"
