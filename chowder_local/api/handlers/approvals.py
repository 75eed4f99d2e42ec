"""Handlers: commands that wait for an approval, and the policy by which an agent asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.schemas.approvals import (
    ApprovalDecision,
    ApprovalPolicyChange,
    ApprovalPolicyView,
    ApprovalView,
)
from chowder_local.http.bodies import parse
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.openclaw.approvals import Approval


async def list_approvals(request: Request) -> list[ApprovalView]:
    """The commands of the agent that wait for an approval, the longest first.

    Those of a stopped agent wait frozen: start it to decide about them.
    """
    instance = await instance_of(request)
    waiting = await services(request).approvals.list(instance)
    return [_view(request, instance, each) for each in waiting]


async def decide_approval(request: Request) -> ApprovalView:
    """Lets a command run that waits for an approval, or denies it.

    OpenClaw asks by the policy of `GET /local/instances/{instance_id}/approvals/policy`.
    """
    instance = await instance_of(request)
    body = await parse(request, ApprovalDecision)
    approval_id = request.path_params["approval_id"]
    decided = await services(request).approvals.decide(instance, approval_id, body.decision)
    return _view(request, instance, decided)


async def get_approval_policy(request: Request) -> ApprovalPolicyView:
    """When the agent asks before it runs a command. By default it never does."""
    policy = await services(request).approvals.policy(await instance_of(request))
    return ApprovalPolicyView.model_validate(policy)


async def set_approval_policy(request: Request) -> ApprovalPolicyView:
    """Changes when the agent asks before it runs a command, from the next command on."""
    instance = await instance_of(request)
    change = await parse(request, ApprovalPolicyChange)
    policy = await services(request).approvals.set_policy(
        instance, change.words(), change.allowed()
    )
    return ApprovalPolicyView.model_validate(policy)


def _view(request: Request, instance: Instance, approval: Approval) -> ApprovalView:
    key = approval.session_key
    found = None if key is None else services(request).session_names.find(instance.id, key)
    session = None if found is None else found.name or "main"
    return ApprovalView.from_approval(approval, session)
