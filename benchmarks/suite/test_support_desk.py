"""Tests as a new user writes them, of the agent of a support desk, offline."""

import json

import pytest

from chowder_local.client import ApiRefused

PRICES = "tea 3\ncoffee 4\n"


@pytest.fixture(scope="module")
def desk(chowder_organization):
    """An agent that knows its customer and its prices, which tests fork."""
    agent = chowder_organization.create_instance("desk")
    agent.write_file("workspace/prices.md", PRICES)
    agent.say("My name is Ada.")
    agent.say("I am a customer since 2019.")
    yield agent
    agent.delete()


def test_the_agent_answers(chowder_common_instance, chowder_session):
    assert "Hello" in chowder_common_instance.say("Hello", chowder_session)


def test_a_session_remembers(chowder_common_instance, chowder_session):
    chowder_common_instance.say("I am Grace.", chowder_session)
    assert 'Before that: "I am Grace."' in chowder_common_instance.say("Who?", chowder_session)


def test_another_session_does_not(chowder_common_instance, chowder_session):
    assert "Grace" not in chowder_common_instance.say("Who am I?", chowder_session)


def test_a_scripted_answer(chowder_common_instance, chowder_session, chowder_replies):
    chowder_replies.add("On its way.", regex=r"order (\d+)")
    assert chowder_common_instance.say("Where is order 7?", chowder_session) == "On its way."


def test_the_answer_of_a_tool(chowder_common_instance, chowder_session, chowder_replies):
    chowder_replies.add(
        [
            {"call": "exec", "arguments": {"command": "echo 3 parcels"}},
            {"template": "There are {{ result }}."},
        ],
        text="how many",
    )
    answer = chowder_common_instance.say("How many are left?", chowder_session)
    assert answer == "There are 3 parcels."


def test_the_request_to_the_model(chowder_common_instance, chowder_session):
    chowder_common_instance.say("What is in parcel 12?", chowder_session)
    assert "parcel 12" in json.dumps(chowder_common_instance.model_calls()[-1]["request"])


def test_a_conversation_of_five(chowder_common_instance, chowder_session):
    for item in ("tea", "coffee", "milk", "sugar", "bread"):
        assert item in chowder_common_instance.say(f"I want {item}.", chowder_session)


def test_a_server_that_is_busy(chowder_common_instance, chowder_faults):
    chowder_faults("message", status=429, retry_after_s=2)
    with pytest.raises(ApiRefused, match="429"):
        chowder_common_instance.say("Hi")


def test_a_fork_remembers(desk, chowder_fork):
    fork = chowder_fork(desk)
    assert 'Before that: "I am a customer since 2019."' in fork.say("Since when?")


def test_a_fork_has_the_files(desk, chowder_fork):
    fork = chowder_fork(desk)
    assert fork.read_file("workspace/prices.md") == PRICES


def test_a_fork_changes_only_itself(desk, chowder_fork):
    fork = chowder_fork(desk)
    fork.write_file("workspace/prices.md", "tea 5\n")
    fork.say("Tea is 5 now.")
    assert desk.read_file("workspace/prices.md") == PRICES


def test_two_forks_do_not_meet(desk, chowder_fork):
    one, other = chowder_fork(desk), chowder_fork(desk)
    one.say("The code is 1234.")
    assert "1234" not in other.say("What is the code?")


def test_a_fork_runs_a_tool(desk, chowder_fork, chowder_replies):
    chowder_replies.add(
        [
            {"call": "exec", "arguments": {"command": "head -n 1 prices.md"}},
            {"template": "{{ result }}."},
        ],
        text="price",
    )
    assert chowder_fork(desk).say("What is the price?") == "tea 3."


def test_a_restore_takes_an_agent_back(desk, chowder_snapshot):
    before = chowder_snapshot(desk)
    desk.say("Forget all prices.")
    desk.write_file("workspace/prices.md", "")
    desk.restore(before)
    assert desk.read_file("workspace/prices.md") == PRICES
    assert "Forget" not in desk.say("What did I say?")


def test_a_restart_keeps_the_conversation(chowder_instance):
    chowder_instance.say("My name is Linus.")
    chowder_instance.stop()
    chowder_instance.start()
    assert 'Before that: "My name is Linus."' in chowder_instance.say("Who am I?")


def test_a_new_agent_knows_nobody(chowder_instance):
    assert "Before that" not in chowder_instance.say("Who am I?")


def test_an_agent_writes_a_file(chowder_instance, chowder_replies):
    chowder_replies.add(
        [
            {"call": "write", "arguments": {"path": "note.md", "content": "Call Ada."}},
            "Written.",
        ],
        text="note",
    )
    assert chowder_instance.say("Take a note.") == "Written."
    assert chowder_instance.read_file("workspace/note.md") == "Call Ada."


def test_an_agent_has_instructions(chowder_instance):
    chowder_instance.write_file("workspace/SOUL.md", "Answer in rhymes.")
    chowder_instance.say("Good morning")
    assert "Answer in rhymes." in json.dumps(chowder_instance.model_calls()[-1]["request"])


def test_a_job_runs(chowder_instance, chowder_job):
    job = chowder_job(chowder_instance, "report", "Write the daily report.")
    assert job.run()["outcome"] == "ok"


def test_two_agents_do_not_share_a_conversation(chowder_organization):
    sales = chowder_organization.create_instance("sales")
    support = chowder_organization.create_instance("support")
    sales.say("The discount is 10 percent.")
    assert "discount" not in support.say("What do you know?")
    sales.delete()
    support.delete()


def test_a_scripted_file_of_replies(chowder_instance, chowder_replies):
    chowder_replies.unused = "fail"
    chowder_replies.add("Welcome.", equals="Hello")
    chowder_replies.add({"template": "Turn {{ turn }}."}, text="again")
    assert chowder_instance.say("Hello") == "Welcome."
    assert chowder_instance.say("And again") == "Turn 2."
