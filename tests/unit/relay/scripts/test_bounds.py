"""A reply script cannot exhaust the server's memory or time."""

import subprocess
import sys

# The limit of processor time is a hundred times what is needed.
BOUNDS = """
import asyncio, resource
resource.setrlimit(resource.RLIMIT_AS, (1024**3, 1024**3))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from pydantic import ValidationError
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.relay.scripts.registry import ScriptRegistry
"""
REFUSED = """
def loops(count):
    return "{% for a in range(" + count + ") %}" * 2 + "x" + "{% endfor %}" * 2

templates = [loops("99999"), loops("4000"), "{{ 9**9**9 }}", "{{ 'x' * 9**9 }}", "x" * 10**6]
patterns = [
    "a{1000000000}", "(?:(?:ab){90}){90}", "(?x)a{9 9 9 9 9 9 9}", "(" * 400 + ")" * 400,
    "a" * 1001,
]
scripts = [[{"reply": {"template": each}}] for each in templates]
scripts += [[{"match": {"regex": each}, "reply": "x"}] for each in patterns]
# Each of them is allowed, but not all together.
scripts += [[{"match": {"regex": "[a-z]{1000}"}, "reply": "x"}] * 1000]
for each in scripts:
    try:
        ReplyScript.model_validate({"replies": each})
    except ValidationError:
        print("refused")
    else:
        print("taken:", str(each)[:100])
"""
ANSWERED = """
request = ModelRequest("openai", "gpt-4o", 1, "ab" * 5_000_000 + "!")
for rule in (
    {"match": {"regex": "(?:(a)|(b))*(?=d)"}, "reply": "x"},
    {"reply": {"template": "{{ text | trim }}" * 1000}},
):
    scripts = ScriptRegistry(ReplyScript.model_validate({"replies": [rule] * 1000}))
    print(asyncio.run(scripts.answer("o", "i", request)).answer.message[:100])
"""


def printed(program: str) -> list[str]:
    command = [sys.executable, "-c", BOUNDS + program]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_templates_and_patterns_beyond_the_bounds_are_refused() -> None:
    assert printed(REFUSED) == ["refused"] * 11


def test_a_thousand_slow_rules_are_given_up_together() -> None:
    slow, long = printed(ANSWERED)
    assert "took longer than 0.5 s" in slow
    assert "the template" in long
