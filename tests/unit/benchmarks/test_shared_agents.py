"""Which server and agent of a quick run a row shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench import SharedAgent
from benchmarks.catalogue import QUICK
from benchmarks.servers import Server

SETTINGS = {"PAUSED_TTL_S": "0.1", "WARM_POOL_SIZE": "1"}


@pytest.mark.parametrize(
    ("wanted", "is_fit"),
    [
        (SETTINGS, True),
        ({"PAUSED_TTL_S": "0.1"}, True),
        ({"PAUSED_TTL_S": "0.1", "WARM_POOL_SIZE": "0"}, False),
        ({"PAUSED_TTL_S": "900"}, False),
        ({"WARM_POOL_SIZE": "1"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_row_shares_a_server_with_its_settings_and_perhaps_a_warm_pool(
    wanted: dict[str, str], *, is_fit: bool
) -> None:
    with Server(Path("unused"), {}) as server:
        assert SharedAgent(server, {}, SETTINGS).fits(wanted) is is_fit


def test_an_agent_is_forked_before_other_rows_talk_with_it() -> None:
    assert list(QUICK)[:2] == ["create-warm", "fork"]
