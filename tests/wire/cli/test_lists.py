"""What the lists of all nouns have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chowder_local.cli.main import run

if TYPE_CHECKING:
    from tests.wire.cli.conftest import Output, Serve

INSTANCE = {"id": "0a1b2c3d-4e5f", "name": "fish", "status": "running", "error_message": None}
LISTS = {
    "instances": ("GET /v1/instances", "instances create NAME"),
    "keys": ("GET /v1/keys", "keys create NAME"),
    "faults": ("GET /local/faults", "faults add KIND"),
    "snapshots": ("GET /local/snapshots", "snapshots create INSTANCE"),
}
"""By noun: the call, and what an empty list tells to do."""


@pytest.mark.parametrize("noun", LISTS)
def test_an_empty_list_says_how_to_get_one(serve: Serve, capsys: Output, noun: str) -> None:
    call, hint = LISTS[noun]
    env, _ = serve({"GET /v1/instances": [], call: []})
    assert run([noun, "ls"], env) == 0
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("noun", LISTS)
def test_a_list_as_json_is_that_of_the_api(serve: Serve, capsys: Output, noun: str) -> None:
    listed = [INSTANCE | {"unheard_of": "x"}]
    env, _ = serve({"GET /v1/instances": [INSTANCE], LISTS[noun][0]: listed})
    assert run([noun, "ls", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == listed
