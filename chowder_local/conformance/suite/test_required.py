"""What each call requires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.conformance.drift import invalid
from chowder_local.conformance.harmless_requests import calls, send
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient


@pytest.mark.read_only
def test_every_missing_member_is_named(api: ContractClient, present: str) -> None:
    with every_row() as row:
        for operation, call in calls():
            required = {("body", each) for each in call.required} | {
                ("query", each) for each in call.query if not each.endswith("?")
            }
            # Uploads send no JSON and have a test of their own.
            if required and operation != "uploadFile":
                with row(operation):
                    problems = invalid(send(api, operation, present))
                    missing = {tuple(each["loc"]) for each in problems if each["type"] == "missing"}
                    assert missing == required
