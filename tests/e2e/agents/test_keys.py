"""A scoped key with a real agent: what it opens, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api

if TYPE_CHECKING:
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

SESSION = "keys"


def test_a_scoped_key_polls_and_chats_and_does_nothing_else(
    server: ServerProcess, api: Api, instance: str
) -> None:
    key = api.scoped_key(instance, "read", "interact")
    with Api(server.base_url, key["raw_key"]) as page:
        assert page.status(instance) == "running"
        assert [each["id"] for each in page.get("instances").json()] == [instance]
        assert "hello from a page" in page.say(instance, "hello from a page", session=SESSION)
        events = list(page.events(instance, "and streamed", session=SESSION))
        assert events[-1]["type"] == "response.completed"
        refused = {
            page.patch(f"instances/{instance}", json={"name": "mine"}).status_code,
            page.get(f"instances/{instance}/files").status_code,
            page.post(f"instances/{instance}/stop").status_code,
            page.delete(f"instances/{instance}").status_code,
            page.get("organization").status_code,
            page.get("keys").status_code,
        }
    assert refused == {403}
    listed = {each["id"]: each for each in api.get("keys").json()}
    assert listed[key["id"]]["last_used_at"] is not None
