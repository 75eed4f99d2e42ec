"""The page with what an instance says without being asked, and the webhooks that it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.features.webhooks.service import Webhooks
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'


async def test_messages_and_webhooks_are_shown_latest_first_and_escaped(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    path = f"/instances/{agent.id}/unasked"
    assert "There are none." in (await visitor.get(path)).text
    said = {"kind": "job", "job": HOSTILE, "session_key": HOSTILE, "trace_id": "t"}
    for text in ("first", HOSTILE):
        content = {**said, "model_calls": 1, "text": text, "is_cut": True}
        await world.messages.add(agent.id, world.clock(), content)
    headers = [("x-event", HOSTILE)]
    await world.feature(Webhooks).inbox.receive(
        agent.id, "POST", HOSTILE, HOSTILE, headers, HOSTILE.encode()
    )
    page = (await visitor.get(path)).text
    elements = Elements(page)
    ids = [each.get("id") for each in elements.all("li")]
    assert ids == ["message-2", "message-1", "webhook-1"]
    assert all("src" in each for each in elements.all("script"))
    assert not [each for _, each in elements.tags if "onerror" in each]
    assert world.secret_box.inbox_token(agent.id) in page
    assert (await visitor.post(f"/instances/{agent.id}/inbox/clear")).status_code == 200
    assert "It is empty." in (await visitor.get(path)).text
