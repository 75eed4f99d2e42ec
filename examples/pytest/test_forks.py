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


def test_what_is_said_to_a_fork_no_other_hears(taught, chowder_fork):
    one, other = chowder_fork(taught), chowder_fork(taught)
    one.say("Forget me.")
    assert 'Before that: "My name is Ada."' in other.say("Who am I?")
