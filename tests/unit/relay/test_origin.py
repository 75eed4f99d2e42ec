"""Which conversation a model call is a part of."""

import pytest

from chowder_local.relay.origin import session_key_in

LINE = "Runtime: agent=main | session={} | sessionId=8dffdb59 | host=agent | channel=webchat\n"


@pytest.mark.parametrize(
    ("system", "key"),
    [
        ("You are.\n\n" + LINE.format("agent:main:main"), "agent:main:main"),
        (
            LINE.format("agent:main:quoted") + "…\n" + LINE.format("agent:main:s-1"),
            "agent:main:s-1",
        ),
        ("You are. " + LINE.format("agent:main:main"), None),
        ("Summarize.", None),
        ("", None),
    ],
)
def test_the_last_line_of_the_system_prompt_tells(system: str, key: str | None) -> None:
    assert session_key_in(system) == key
