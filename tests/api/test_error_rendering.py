"""The status and shape of each error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors import ChowderError, agents, process, requests, sandboxes, upstream
from chowder_local.features.feature import own_features
from chowder_local.features.mcp.server import CallRefused
from chowder_local.features.webhooks.errors import HookRefused, InboxUnknown
from chowder_local.http.error_rendering import detail_of, error_response, status_of

if TYPE_CHECKING:
    from tests.api.conftest import Api


def all_below(kind: type[ChowderError]) -> set[type[ChowderError]]:
    return {kind}.union(*(all_below(each) for each in kind.__subclasses__()))


own_features()
EVERY = sorted(all_below(ChowderError), key=lambda kind: kind.__name__)

NEVER_ANSWERED: set[type[ChowderError]] = {
    # Raised before or instead of a server.
    process.DataDirLocked,
    sandboxes.EngineRemote,
    process.PortTaken,
    process.RelayPortTaken,
    process.SettingsInvalid,
    # Raised by the command line.
    process.ApiRefused,
    sandboxes.ImageBuildFailed,
    sandboxes.ImageKept,
    sandboxes.ImageUnknown,
    sandboxes.BootTimedOut,
    process.RemoteFailed,
    process.ServerDiffers,
    process.ServerElsewhere,
    process.ServerNotReady,
    process.ServerNotRunning,
    process.ServerSilent,
    process.ServerOfContainer,
    process.ServerStuck,
    # Raised by the model relay, which renders errors in the provider's format.
    requests.BodiesTooMany,
    upstream.RelayTokenInvalid,
    # Only agents get it, whose relay renders it.
    InboxUnknown,
    # Have a status of their own.
    requests.FaultAnswered,
    upstream.ProviderFailed,
    HookRefused,
    ChowderError,
    # The answer of a tool for editors.
    CallRefused,
}
"""Errors without a status, because no client of the API gets them."""


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_that_can_reach_a_client_has_a_status(
    kind: type[ChowderError],
) -> None:
    assert (kind.http_status is not None) != (kind in NEVER_ANSWERED)


def test_every_status_is_in_the_contract() -> None:
    # Not in the contract: 415 for an unknown compression, and 507 for a full disk.
    contract = {400, 401, 402, 403, 404, 409, 413, 422, 500, 502}
    assert {kind.http_status for kind in EVERY} - {None} <= contract | {415, 507}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


async def test_every_error_has_its_code_in_a_header(shared: Api) -> None:
    for method, path, code in (
        ("GET", "/v1/instances/x", "instance_not_found"),
        ("GET", "/v1/nowhere", "not_found"),
        ("POST", "/v1/instances", "input_invalid"),
        ("DELETE", "/v1/organization", "method_not_allowed"),
        ("POST", "/v1/instances/x/responses", "instance_not_found"),
    ):
        answer = await shared.call(method, path, is_documented=False)
        assert answer.headers["X-Error-Code"] == code, path
        assert answer.json().get("error", {"code": code})["code"] == code
    refused = await shared.get("/v1/organization", key=None)
    assert refused.headers["X-Error-Code"] == "key_missing"


def test_an_error_without_a_status_is_a_500() -> None:
    class BrandNew(ChowderError):
        """Has no status."""

    assert status_of(BrandNew("Oh.")) == 500
    assert detail_of(BrandNew("Oh.")) == "Oh."


@pytest.mark.parametrize(
    ("conflict", "should_retry"),
    [
        (requests.InstanceStateWrong("provisioning", "running"), "true"),
        (requests.InstanceStateWrong("stopped", "running"), "false"),
        (requests.IdempotencyKeyInUse(), "true"),
        (agents.InstanceInUse(), "true"),
        (agents.ConversationsAtRest(), "false"),
        (sandboxes.HostFull(2), "false"),
    ],
)
def test_a_conflict_says_whether_a_retry_may_help(
    conflict: ChowderError, should_retry: str
) -> None:
    answer = error_response(conflict, {"type": "http", "path": "/"})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, should_retry)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, 400), (401, 401), (403, 403), (429, 429), (500, 500), (529, 529), (None, 502),
     (200, 502), (302, 502), (0, 502), (999, 502)],
)  # fmt: skip
def test_a_providers_error_status_is_kept(status: int | None, expected: int) -> None:
    assert status_of(upstream.ProviderFailed("openai", status, "words")) == expected


@pytest.mark.parametrize(
    "failure",
    [
        agents.GatewayUnavailable("gone"),
        upstream.ProviderFailed("openai", 503, "Down."),
        agents.RpcRefused("no"),
    ],
)
def test_gateway_and_provider_errors_have_the_contracts_shape(
    failure: ChowderError,
) -> None:
    assert detail_of(failure) == {"error": str(failure)}


def test_a_gateway_error_has_the_contracts_message() -> None:
    assert detail_of(agents.GatewayUnavailable("x")) == {"error": "Gateway unavailable – x"}


def test_an_invalid_request_lists_its_problems() -> None:
    problem = {"loc": ["body", "name"], "msg": "Field required", "type": "missing"}
    assert detail_of(requests.InputInvalid([problem])) == [problem]


def test_the_detail_of_every_other_error_is_text() -> None:
    assert detail_of(requests.InstanceNotFound()) == "Instance not found."
    assert detail_of(requests.InstanceLimitReached(1, 1)) == (
        "Instance limit reached (1/1). Upgrade your subscription."
    )
