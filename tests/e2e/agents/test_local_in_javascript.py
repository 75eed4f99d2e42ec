"""People talk to a real agent in a channel of the local messenger, by the helper for JavaScript."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_javascript import helped

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.occasional]


def test_people_talk_to_an_agent_in_a_channel(server: ServerProcess, tmp_path: Path) -> None:
    said = helped(tmp_path / "js", server, "messenger.test.js")
    assert "# pass 1\n" in said, said
