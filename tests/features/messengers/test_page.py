"""The page with what people and an agent say in channels of the local messenger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.features.messengers.mailbox import MessageKind
from chowder_local.features.messengers.service import STAND_INS, Messengers
from chowder_local.openclaw.channels import ADMIT, LIST_PAIRINGS
from tests.api.dashboard.conftest import Elements
from tests.api.test_channels import UP, patches, set_config, set_states

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'
LOCAL = {"enabled": True, "apiRoot": "http://relay.local:2470/messengers/telegram/x"}


@pytest.fixture
async def agent(visitor: Visitor) -> Instance:
    set_config(visitor.http.world, telegram=LOCAL, slack={"enabled": True})
    set_states(visitor.http.world, "telegram", UP)
    visitor.http.world.programs.answers[LIST_PAIRINGS] = {"requests": []}
    return await visitor.http.world.created()


def has_no_script(html: str) -> bool:
    elements = Elements(html)
    scripts = [each for each in elements.all("script") if "src" not in each]
    return not scripts and not [each for _, each in elements.tags if "onerror" in each]


async def test_conversations_show_both_sides_and_what_the_agent_did_to_messages(
    visitor: Visitor, agent: Instance
) -> None:
    path = f"/instances/{agent.id}/messengers"
    assert "Nobody has said anything." in (await visitor.get(path)).text
    mailbox = await visitor.http.world.feature(Messengers).mailbox(agent, "telegram")
    said = await mailbox.add("person", person=HOSTILE, group=HOSTILE, text=HOSTILE, thread=HOSTILE)
    place: dict[str, Any] = {"person": None, "group": HOSTILE, "payload": {"raw": HOSTILE}}
    await mailbox.add_typing(**place)
    answer = await mailbox.add("agent", text="Draft", **place)
    await mailbox.add("agent", kind=MessageKind.EDIT, of=answer.id, text="Final", **place)
    await mailbox.add("agent", kind=MessageKind.REACTION, of=said.id, text="👀", **place)
    await mailbox.add("agent", kind=MessageKind.DELETION, of=answer.id, **place)
    await mailbox.add("person", person="Bob", text="x" * 30_000)
    html = (await visitor.get(path)).text
    assert has_no_script(html)
    assert "x" * 20_001 not in html
    words = " ".join(html.split())
    assert html.index("Telegram · Bob") < html.index("Telegram · group")
    assert f"{agent.name} types · <time" in words
    assert f'edit of <a href="#said-{answer.id}">' in words
    assert f'reaction of <a href="#said-{said.id}">' in words
    assert "<del>Draft</del>" in words
    (payload,) = Elements(html).all("details", id=f"payload-{answer.id}")
    raw = (await visitor.get(payload["hx-get"] or "")).text
    assert has_no_script(raw)
    assert "&#34;raw&#34;" in raw
    assert "no longer kept" in (await visitor.get(f"{path}/telegram/payloads/{'9' * 30}")).text


@pytest.mark.parametrize("channel", STAND_INS)
async def test_a_persons_message_has_a_payload_too(
    visitor: Visitor, agent: Instance, channel: str
) -> None:
    path = f"/instances/{agent.id}/messengers"
    mailbox = await visitor.http.world.feature(Messengers).mailbox(agent, channel)
    said = await mailbox.add("person", person="Ada", text="Good morning")
    (details,) = Elements((await visitor.get(path)).text).all("details", id=f"payload-{said.id}")
    payload = (await visitor.get(details["hx-get"] or "")).text
    assert "Good morning" in payload or "?iv=" in payload


async def test_the_form_says_something_as_a_person(visitor: Visitor, agent: Instance) -> None:
    path = f"/instances/{agent.id}/messengers"
    form = {"from": "Ada", "group": "", "text": "Hello", "channel": "telegram"}
    answer = await visitor.post(f"{path}/say", form)
    assert "Ada has said it in Telegram." in answer.text
    mailbox = await visitor.http.world.feature(Messengers).mailbox(agent, "telegram")
    (said,) = mailbox.messages
    assert (said.person, said.group, said.text) == ("Ada", None, "Hello")
    refused = await visitor.post(f"{path}/say", form | {"channel": "slack"})
    assert refused.status_code == 409
    assert (await visitor.post(f"{path}/say", form | {"channel": "pigeon"})).status_code == 404
    assert (await visitor.post(f"{path}/say", form | {"from": ""})).status_code == 422


async def test_who_waits_is_named_and_approved(visitor: Visitor, agent: Instance) -> None:
    world, path = visitor.http.world, f"/instances/{agent.id}/messengers"
    mailbox = await world.feature(Messengers).mailbox(agent, "telegram")
    await mailbox.add("person", person=HOSTILE, text="Hi")
    sender = STAND_INS["telegram"].sender(HOSTILE)
    times = {"createdAt": "2026-05-04T03:00:00Z", "lastSeenAt": "2026-05-04T03:00:00Z"}
    world.programs.answers[LIST_PAIRINGS] = {"requests": [{"code": "ABCD", "id": sender, **times}]}
    world.programs.answers[ADMIT] = {"is_found": True}
    html = (await visitor.get(f"{path}/connected")).text
    assert has_no_script(html)
    assert "&lt;script&gt;" in html
    buttons = [each["hx-post"] or "" for each in Elements(html).all("button")]
    assert f"{path}/slack/connect" in buttons
    assert f"{path}/telegram/connect" not in buttons
    (approve,) = [each for each in buttons if each.endswith("/approve")]
    answer = await visitor.post(approve)
    assert "answers this person from now on" in answer.text
    assert 'id="connected" hx-swap-oob="true"' in answer.text
    (params,) = world.programs.called(ADMIT)
    assert params["code"] == "ABCD"


async def test_a_channel_is_connected_offline(visitor: Visitor, agent: Instance) -> None:
    path = f"/instances/{agent.id}/messengers"
    answer = await visitor.post(f"{path}/telegram/connect")
    assert "telegram is connected." in answer.text
    (change,) = patches(visitor.http.world)
    assert "/messengers/telegram/" in change["channels"]["telegram"]["apiRoot"]
    visitor.http.world.gateway.diverts = False
    assert (await visitor.post(f"{path}/msteams/connect")).status_code == 409
