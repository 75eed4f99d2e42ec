"""deepeval test run test_deepeval_desk.py: each sample on a fork, by the fixtures of pytest."""

import pytest
from deepeval import assert_test
from deepeval.metrics import PatternMatchMetric
from deepeval.test_case import LLMTestCase


@pytest.fixture(scope="module")
def desk(chowder_organization):
    agent = chowder_organization.create_instance("desk")
    agent.write_file("workspace/stock.txt", "3 parcels")
    yield agent
    agent.delete()


@pytest.mark.chowder_replies("replies.yaml")
@pytest.mark.parametrize(
    ("question", "pattern"),
    [
        ("I take two parcels.", ".*1 parcel.*"),
        # The order before was placed with another fork.
        ("How many are left?", ".*3 parcels.*"),
    ],
)
def test_the_desk(desk, chowder_fork, question, pattern):
    fork = chowder_fork(desk)
    answer = fork.say(question)
    assert "exec" in [each["name"] for each in fork.transcript() if each["role"] == "tool_call"]
    sample = LLMTestCase(input=question, actual_output=answer)
    assert_test(sample, [PatternMatchMetric(pattern=pattern)])
