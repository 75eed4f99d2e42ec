"""The API in process; only the engine behind it is scripted."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.api.openapi.document import document
from chowder_local.api.routes import routes
from chowder_local.app.application import State, api
from chowder_local.core.domain import ApiKey, KeyId, Tier
from chowder_local.core.secrets import digest
from chowder_local.features.front import all_operations
from chowder_local.http.listener import with_state
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from chowder_local.core.domain import Instance

ALLOWED_ORIGIN = "https://app.example"
ALLOWED_HOSTS = ["server.test", "chowder.internal"]


@pytest.fixture
def app(world: World) -> ASGIApp:
    return app_of(world)


def app_of(world: World) -> ASGIApp:
    """The API over a world."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        yield world.state

    off = world.settings.features_off
    app = api([ALLOWED_ORIGIN], lifespan, world.metrics, ALLOWED_HOSTS, off)
    return with_state(app, world.state)


@dataclass
class Api:
    """A client of the API; it sends its organization's key unless told otherwise.

    A call fails if the document does not have the answer's status for its operation.
    `is_documented=False` is for what the document leaves out: refusals at the gate, injected
    faults and defects.
    """

    client: httpx.AsyncClient
    world: World

    async def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        key = request.pop("key", self.world.key)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        headers |= request.pop("headers", {})
        is_documented = request.pop("is_documented", True)
        answer = await self.client.request(method, path, headers=headers, **request)
        assert not is_documented or is_in_document(answer), f"{method} {path}: {answer.text}"
        return answer

    async def get(self, path: str, **request: Any) -> httpx.Response:
        return await self.call("GET", path, **request)

    async def post(self, path: str, **request: Any) -> httpx.Response:
        return await self.call("POST", path, **request)

    async def patch(self, path: str, **request: Any) -> httpx.Response:
        return await self.call("PATCH", path, **request)

    async def other_key(self) -> str:
        """The key of another organization."""
        _, key = await self.world.organizations.signup("Others")
        return key

    async def add_key(self, raw_key: str, **fields: Any) -> None:
        """Gives the organization one more key."""
        known: dict[str, Any] = {
            "id": KeyId(raw_key),
            "organization_id": self.world.organization_id,
            "name": "more",
            "prefix": raw_key[:12],
            "created_at": self.world.clock.now,
        }
        await self.world.key_queries.add(ApiKey(**known | fields), digest(raw_key))


@cache
def _documented() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """The document's paths as patterns, in the order in which routes match."""
    paths = document(all_operations())["paths"]
    return [
        (route.path_regex, paths[template])
        for route in routes(all_operations())
        # Former paths are left out.
        if (template := route.path.replace(":path}", "}")) in paths
    ]


def is_in_document(answer: httpx.Response) -> bool:
    """Whether the document has the answer's status; true for paths that it lacks."""
    method, path = answer.request.method.lower(), answer.request.url.path
    for regex, operations in _documented():
        if method in operations and regex.match(path):
            known = operations[method]["responses"]
            status = str(answer.status_code)
            return not {status, f"{status[0]}XX"}.isdisjoint(known)
    return True


@pytest.fixture
async def http(app: ASGIApp, world: World) -> AsyncIterator[Api]:
    async with open_client(app) as client:
        yield Api(client, world)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A client of an API that all tests of a module share: each leaves it as it found it, but for
    what no other test looks at. Its organization may have many agents.
    """
    async with open_world(tmp_path_factory.mktemp("shared")) as world:
        await world.organizations.move(world.organization_id, Tier.LOBSTER, is_paid_for=False)
        async with open_client(app_of(world)) as client:
            yield Api(client, world)


@pytest.fixture(scope="module")
async def agent(shared: Api) -> Instance:
    """A running instance of the shared organization."""
    return await shared.world.created()


def open_client(app: ASGIApp) -> httpx.AsyncClient:
    """A client of an application in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server.test")
