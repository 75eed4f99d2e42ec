"""Scoped keys and tiers on a real server: what a key opens, when it ends, what a click buys."""

from __future__ import annotations

import html
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

SESSION = "keys"


@pytest.fixture
def agent(quick_api: Api) -> Iterator[str]:
    instance_id = quick_api.created("of a key")
    quick_api.until(instance_id, "running")
    yield instance_id
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204


@pytest.fixture
def key(quick_api: Api, agent: str) -> dict[str, Any]:
    return quick_api.scoped_key(agent, "read", "interact")


@pytest.fixture
def visitor(quick_server: ServerProcess, key: dict[str, Any]) -> Iterator[Api]:
    """A client that has nothing but the scoped key."""
    with Api(quick_server.base_url, key["raw_key"]) as visitor:
        yield visitor


@pytest.mark.slow
def test_a_revoked_key_fails_at_once_while_its_open_stream_ends_whole(
    quick_api: Api, visitor: Api, agent: str, key: dict[str, Any]
) -> None:
    with closing(visitor.events(agent, "a long story", session=SESSION)) as events:
        first = next(events)
        assert quick_api.delete(f"keys/{key['id']}").status_code == 204
        assert visitor.get("instances").status_code == 401
        assert visitor.message(agent, "more", session=SESSION).status_code == 401
        # The story does not end before somebody says something to the agent.
        quick_api.say(agent, "The end.", session="another")
        *_, last = events
    assert (first["type"], last["type"]) == ("response.created", "response.completed")


@pytest.mark.slow
def test_keys_and_their_last_use_outlive_the_server(
    quick_api: Api, visitor: Api, quick_server: ServerProcess, agent: str, key: dict[str, Any]
) -> None:
    revoked = quick_api.scoped_key(agent, "read")
    assert quick_api.delete(f"keys/{revoked['id']}").status_code == 204
    assert visitor.status(agent) == "running"
    before = quick_api.get("keys").json()
    quick_server.down()
    quick_server.up()
    after = quick_api.get("keys").json()
    # The organization's own key was used in between, but it is not in the list.
    assert after == before
    shown = {each["id"]: each for each in after}
    assert shown[key["id"]]["last_used_at"] is not None
    assert shown[revoked["id"]]["is_active"] is False
    assert visitor.status(agent) == "running"
    with Api(quick_server.base_url, revoked["raw_key"]) as client:
        assert client.get("instances").status_code == 401


@pytest.mark.slow
def test_a_click_on_the_checkout_makes_room(quick_server: ServerProcess) -> None:
    with Api(quick_server.base_url, "none") as nobody:
        signed_up = nobody.post("organization/signup", json={"name": "Fish & <Chips>"}).json()
    assert signed_up["organization"]["subscription_tier"] == "shrimp"
    with Api(quick_server.base_url, signed_up["api_key"]) as api:
        # It has no model key, so what it makes ends in `error` without a sandbox, and counts.
        first = api.created("first")
        over = api.post("instances", json={"name": "second"})
        words = "Instance limit reached (1/1). Upgrade your subscription."
        assert (over.status_code, over.json()) == (402, {"detail": words})
        url = api.post("subscription/checkout", json={"tier": "crab"}).json()["url"]
        with httpx.Client(trust_env=False) as browser:
            shown = browser.get(url)
            assert "Fish &amp; &lt;Chips&gt;" in shown.text
            action = re.search(r'action="([^"]+)"', shown.text)
            assert action
            clicked = browser.post(
                str(shown.url.join(html.unescape(action[1]))), data={}, follow_redirects=True
            )
        assert clicked.status_code == 200
        assert "Fish &amp; &lt;Chips&gt; is on crab" in clicked.text
        subscription = api.get("subscription").json()
        assert (subscription["tier"], subscription["instance_limit"]) == ("crab", 10)
        second = api.created("second")
        for instance_id in (first, second):
            assert api.delete(f"instances/{instance_id}").status_code == 204
    session = url.partition("session=")[2]
    assert session not in quick_server.log()
