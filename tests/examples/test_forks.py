"""A user's test file: an agent that is taught once, and a fork of it for every test."""

import pytest


@pytest.fixture(scope="module")
def taught(chowder_organization):
    agent = chowder_organization.create_instance("taught")
    agent.say("My name is Ada.")
    yield agent
    agent.delete()


def test_a_fork_remembers(taught, chowder_fork):
    agent = chowder_fork(taught)
    assert 'Before that: "My name is Ada."' in agent.say("Who am I?")


def test_what_is_said_to_a_fork_the_original_never_hears(taught, chowder_fork):
    chowder_fork(taught).say("Forget me.")
    heard = [turn["text"] for turn in taught.transcript() if turn["role"] == "user"]
    assert heard == ["My name is Ada."]
