"""What OpenClaw's plugins make of the faults of the local messenger."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.agents.local_channel import LocalChannel
from tests.e2e.copies import local
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.api import Api

pytestmark = [
    pytest.mark.docker,
    pytest.mark.nightly,
    pytest.mark.usefixtures("channels_disconnected"),
]


class Fate(StrEnum):
    """What becomes of an answer that the messenger has not taken."""

    THERE = "a person reads it"
    ANYWAY = "a person reads it, and sometimes a notice as well"
    NOTICE = "the agent sends a notice with its next answer"
    LOST = "it is lost"
    UNREAD = "it is lost, or a notice comes if the person is silent for a while"


THERE, ANYWAY, NOTICE, LOST, UNREAD = Fate
FAULTS: Mapping[str, dict[str, Any]] = {
    "429": {"effect": "refused", "status": 429, "retry_after_s": 1},
    "503": {"effect": "refused", "status": 503},
    "cut": {"effect": "cut"},
}
FATES: Mapping[str, list[Fate]] = {
    "discord": [THERE, THERE, THERE],
    "googlechat": [NOTICE, NOTICE, NOTICE],
    "line": [THERE, LOST, LOST],
    "matrix": [THERE, THERE, NOTICE],
    "mattermost": [ANYWAY, ANYWAY, ANYWAY],
    "msteams": [THERE, LOST, LOST],
    "nostr": [NOTICE, NOTICE, NOTICE],
    "signal": [UNREAD, UNREAD, UNREAD],
    "slack": [THERE, NOTICE, NOTICE],
    "telegram": [THERE, NOTICE, THERE],
    "whatsapp": [LOST, LOST, THERE],
}
"""As the table of docs/guides/fault-injection.md has them, in the order of the faults."""
UNCONFIRMED = "confirm whether my previous reply reached this chat"

PERSON = "Dora"

TRIED_ORDER = ["discord", "googlechat", "line", "matrix", "mattermost", "msteams"]
"""The channels in which the order of messages was tried with a real agent."""

each_channel = pytest.mark.parametrize("name", FATES)


@pytest.fixture
def channel(api: Api, patient: str, name: str) -> LocalChannel:
    """A channel in which Dora is known."""
    channel = LocalChannel(api, patient, name)
    channel.connect_offline()
    channel.say(PERSON, "Hello", approve=True)
    return channel


@each_channel
def test_an_answer_that_is_not_taken_fares_as_the_guide_says(channel: LocalChannel) -> None:
    for (name, fault), fate in zip(FAULTS.items(), FATES[channel.name], strict=True):
        question, next_question = f"Does a {name} matter?", f"What after a {name}?"
        _inject(channel, fault)
        number = channel.write(PERSON, question)
        eventually(partial(_is_used_up, channel), f"the answer has met a {name}")
        is_there = fate in {THERE, ANYWAY}
        if is_there:
            eventually(partial(_answers, channel, question), f"{question} is answered")
        channel.write(PERSON, next_question)
        eventually(partial(_answers, channel, next_question), f"{next_question} is answered")
        if fate is NOTICE:
            eventually(partial(_answers, channel, UNCONFIRMED, number), f"a notice about {name}")
        assert bool(_answers(channel, question)) is is_there
        if fate not in {ANYWAY, UNREAD}:
            assert bool(_answers(channel, UNCONFIRMED, number)) is (fate is NOTICE)


@each_channel
def test_what_comes_twice_is_answered_once_and_an_ended_connection_comes_back(
    channel: LocalChannel,
) -> None:
    _inject(channel, {"effect": "twice"})
    channel.say(PERSON, "Once?")
    _inject(channel, {"effect": "disconnect"})
    # Who waits for the answer has a channel connected again that does not so by itself.
    channel.say(PERSON, "Back?")
    assert [len(_answers(channel, each)) for each in ("Once?", "Back?")] == [1, 1]


@pytest.mark.parametrize("name", TRIED_ORDER)
def test_the_agent_gets_messages_late_and_in_another_order(channel: LocalChannel) -> None:
    for fault, earlier, later in (
        ({"effect": "late", "delay_s": 1}, "First?", "Second?"),
        ({"effect": "out_of_order"}, "Fourth?", "Third?"),
    ):
        _inject(channel, fault)
        number = channel.write(PERSON, earlier)
        channel.write(PERSON, later)
        order = (earlier, later) if fault["effect"] == "late" else (later, earlier)
        eventually(partial(_has_got, channel, *order, number), f"the agent gets {order}")


def _inject(channel: LocalChannel, fault: dict[str, Any]) -> None:
    scope = {"kind": "channel", "channel": channel.name, "instance_id": channel.instance_id}
    local(channel.api, "POST", "faults", json=scope | fault)


def _is_used_up(channel: LocalChannel) -> bool:
    return not local(channel.api, "GET", "faults").json()


def _answers(channel: LocalChannel, words: str, after: int = 0) -> list[str]:
    """What a person reads in the end that has these words, but for the message before."""
    texts: dict[int, str] = {}
    for each in _agent_messages(channel, after):
        texts[each["of"] or each["id"]] = each["text"].partition(" Before that: ")[0]
    return [each for each in texts.values() if words in each]


def _has_got(channel: LocalChannel, earlier: str, later: str, after: int) -> bool:
    """Whether an answer to the later message shows that the agent had the other before it.

    OpenClaw may leave the earlier one without an answer of its own, or answer both at once.
    """
    apart, together = f'"{later}" Before that: "{earlier}"', f'"{earlier}\n{later}"'
    return any(
        apart in each["text"] or together in each["text"]
        for each in _agent_messages(channel, after)
    )


def _agent_messages(channel: LocalChannel, after: int) -> list[dict[str, Any]]:
    """The agent's messages, and its edits of them."""
    return [
        each
        for each in channel.messages(after=after)
        if each["author"] == "agent" and each["kind"] in {"message", "edit"} and each["text"]
    ]
