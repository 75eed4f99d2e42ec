"""The relay gets the model key of the calling sandbox's organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.credentials import ModelCredentials
from chowder_local.accounts.organizations import ModelKeys
from chowder_local.core.domain import (
    OFFLINE_KEY,
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
    WarmSandbox,
)
from chowder_local.core.errors.upstream import RelayTokenInvalid
from chowder_local.core.model_endpoints import Endpoint
from chowder_local.core.secrets import SecretBox
from chowder_local.relay.calls import Credential, CredentialResolver

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINTS = {
    "lab": Endpoint("lab", "http://lab.example/v1"),
    "cloud": Endpoint("cloud", "https://cloud.example/v1", key="sk-cloud"),
}
OPENAI, GEMINI = ModelProvider.OPENAI, ModelProvider.GEMINI


@pytest.fixture
async def instance(accounts: Any) -> Instance:
    details, _ = await accounts.organizations.signup("Kitchen", model_keys={OPENAI: "sk-o"})
    instance = Instance(
        id=InstanceId("instance-1"),
        organization_id=details.organization.id,
        name="cook",
        status=InstanceStatus.RUNNING,
        model_provider=OPENAI,
        sandbox_id=SandboxId("chowder-1"),
        created_at=accounts.clock(),
        updated_at=accounts.clock(),
    )
    await accounts.instances.add(instance, None)
    return instance


@pytest.fixture
def resolver(accounts: Any) -> CredentialResolver:
    model_keys = ModelKeys(accounts.organizations, ENDPOINTS, OrganizationId("default"))
    return ModelCredentials(
        accounts.secret_box, accounts.instances, accounts.warm_sandboxes, model_keys
    )


@pytest.fixture
def token(accounts: Any, instance: Instance) -> str:
    return str(accounts.secret_box.relay_token(instance.sandbox_id))


async def test_a_sandbox_gets_its_organizations_key(
    resolver: CredentialResolver, instance: Instance, token: str
) -> None:
    expected = Credential(instance.organization_id, instance.id, instance.sandbox_id, key="sk-o")
    assert await resolver.resolve(token, OPENAI) == expected
    assert (await resolver.resolve(token, GEMINI)).key is None


async def test_a_changed_key_takes_effect_at_once(
    accounts: Any, resolver: CredentialResolver, instance: Instance, token: str
) -> None:
    await resolver.resolve(token, OPENAI)
    for key in ("sk-new", ""):
        await accounts.organizations.change(instance.organization_id, model_api_keys={OPENAI: key})
        assert (await resolver.resolve(token, OPENAI)).key == (key or None)


async def test_the_sandbox_of_a_terminated_instance_gets_no_credential(
    accounts: Any, resolver: CredentialResolver, instance: Instance, token: str
) -> None:
    await accounts.instances.change(
        instance.id, now=accounts.clock(), status=InstanceStatus.TERMINATED
    )
    with pytest.raises(RelayTokenInvalid):
        await resolver.resolve(token, OPENAI)


async def test_a_warm_sandbox_gets_the_offline_model_until_it_is_dropped(
    accounts: Any, resolver: CredentialResolver
) -> None:
    warm_sandbox = WarmSandbox(SandboxId("chowder-9"), "alike", accounts.clock())
    token = accounts.secret_box.relay_token(warm_sandbox.sandbox_id)
    await accounts.warm_sandboxes.add(warm_sandbox)
    assert await resolver.resolve(token, OPENAI) == Credential(
        None, None, warm_sandbox.sandbox_id, OFFLINE_KEY
    )
    await accounts.warm_sandboxes.drop(warm_sandbox.sandbox_id)
    with pytest.raises(RelayTokenInvalid):
        await resolver.resolve(token, OPENAI)


async def test_a_warm_up_is_answered_offline_although_an_instance_waits_for_it(
    accounts: Any, resolver: CredentialResolver, instance: Instance, token: str
) -> None:
    offline = Credential(None, None, instance.sandbox_id, OFFLINE_KEY)
    with accounts.warm_sandboxes.warming(instance.sandbox_id):
        assert await resolver.resolve(token, OPENAI) == offline
    assert (await resolver.resolve(token, OPENAI)).key == "sk-o"


async def test_an_invalid_token_is_refused(
    accounts: Any, resolver: CredentialResolver, instance: Instance, token: str, tmp_path: Path
) -> None:
    other = SecretBox.load(tmp_path / "other.key")
    for wrong in (
        "",
        instance.sandbox_id,
        token[:-1],
        other.relay_token(instance.sandbox_id),
        accounts.secret_box.gateway_token(instance.sandbox_id),
        # A valid token of a sandbox without an instance.
        accounts.secret_box.relay_token("chowder-2"),
    ):
        with pytest.raises(RelayTokenInvalid):
            await resolver.resolve(wrong, OPENAI)


async def test_an_endpoint_without_a_key_is_for_all_organizations(
    resolver: CredentialResolver, token: str
) -> None:
    assert (await resolver.resolve(token, "lab")).key == ""


async def test_the_key_of_an_endpoint_is_for_the_default_organization_only(
    accounts: Any, resolver: CredentialResolver, instance: Instance, token: str
) -> None:
    assert (await resolver.resolve(token, "cloud")).key is None
    theirs = ModelKeys(accounts.organizations, ENDPOINTS, instance.organization_id)
    own = ModelCredentials(accounts.secret_box, accounts.instances, accounts.warm_sandboxes, theirs)
    assert (await own.resolve(token, "cloud")).key == "sk-cloud"


async def test_an_unknown_provider_has_no_key(resolver: CredentialResolver, token: str) -> None:
    assert (await resolver.resolve(token, "other")).key is None
