"""What each failure is to a client: its status and its shape."""

from __future__ import annotations

import re

import pytest

from chowder_local.core.errors import ChowderError, agents, process, requests, sandboxes, upstream
from chowder_local.http.error_rendering import STATUSES, detail_of, status_of


def all_below(kind: type[ChowderError]) -> set[type[ChowderError]]:
    return {kind}.union(*(all_below(each) for each in kind.__subclasses__()))


EVERY = sorted(all_below(ChowderError), key=lambda kind: kind.__name__)

NEVER_ANSWERED: set[type[ChowderError]] = {
    # Before there is a server, or instead of one.
    process.DataDirLocked,
    sandboxes.EngineRemote,
    process.PortTaken,
    process.RelayPortTaken,
    process.SettingsInvalid,
    # The command line's own.
    process.ApiRefused,
    sandboxes.ImageBuildFailed,
    sandboxes.ImageKept,
    sandboxes.ImageUnknown,
    sandboxes.BootTimedOut,
    process.ServerDiffers,
    process.ServerElsewhere,
    process.ServerNotReady,
    process.ServerNotRunning,
    process.ServerSilent,
    process.ServerOfContainer,
    process.ServerStuck,
    # The model relay's, which words its refusals as the provider would.
    requests.BodiesTooMany,
    upstream.RelayTokenInvalid,
    # Its status is the provider's own.
    upstream.ProviderFailed,
}
"""Failures without a row, because no client of the API ever gets one."""


@pytest.mark.parametrize("kind", EVERY)
def test_every_failure_that_can_reach_a_client_has_its_status(
    kind: type[ChowderError],
) -> None:
    assert (kind in STATUSES) != (kind in NEVER_ANSWERED)


def test_every_status_is_one_of_the_contract() -> None:
    assert set(STATUSES.values()) <= {400, 401, 402, 403, 404, 409, 413, 422, 500, 502} | {
        # Where the contract is silent: an unknown compression.
        415,
    }


def test_every_failure_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_a_failure_that_is_new_is_a_500_until_it_has_a_row() -> None:
    class BrandNew(ChowderError):
        """Has no row."""

    assert status_of(BrandNew("Oh.")) == 500
    assert detail_of(BrandNew("Oh.")) == "Oh."


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, 400), (401, 401), (403, 403), (429, 429), (500, 500), (529, 529), (None, 502),
     (200, 502), (302, 502), (0, 502), (999, 502)],
)  # fmt: skip
def test_a_providers_failure_keeps_its_status_if_it_is_one(
    status: int | None, expected: int
) -> None:
    assert status_of(upstream.ProviderFailed("openai", status, "words")) == expected


@pytest.mark.parametrize(
    "failure",
    [
        agents.GatewayUnavailable("gone"),
        upstream.ProviderFailed("openai", 503, "Down."),
        agents.RpcRefused("no"),
    ],
)
def test_what_fails_behind_the_proxy_has_the_contracts_shape(
    failure: ChowderError,
) -> None:
    assert detail_of(failure) == {"error": str(failure)}


def test_a_gateways_failure_reads_as_the_contract_has_it() -> None:
    assert detail_of(agents.GatewayUnavailable("x")) == {"error": "Gateway unavailable – x"}


def test_an_invalid_request_lists_its_problems() -> None:
    problem = {"loc": ["body", "name"], "msg": "Field required", "type": "missing"}
    assert detail_of(requests.InputInvalid([problem])) == [problem]


def test_every_other_failure_is_one_sentence() -> None:
    assert detail_of(requests.InstanceNotFound()) == "Instance not found."
    assert detail_of(requests.InstanceLimitReached(1, 1)) == (
        "Instance limit reached (1/1). Upgrade your subscription."
    )
