"""The calls of approvals: their rows of the route table, and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.access import Access
from chowder_local.api.operations import Operation
from chowder_local.features.approvals.model import (
    ApprovalDecision,
    ApprovalPolicyChange,
    ApprovalPolicyView,
    ApprovalView,
)
from chowder_local.features.approvals.service import Approvals
from chowder_local.http.bodies import parse
from chowder_local.http.services import instance_of, service, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.features.approvals.openclaw import Approval


async def list_approvals(request: Request) -> list[ApprovalView]:
    """The commands of the agent that wait for an approval, the longest first.

    Those of a stopped agent wait frozen: start it to decide about them.
    """
    instance = await instance_of(request)
    waiting = await service(request, Approvals).list(instance)
    return [_view(request, instance, each) for each in waiting]


async def decide_approval(request: Request) -> ApprovalView:
    """Lets a command run that waits for an approval, or denies it.

    OpenClaw asks by the policy of `GET /local/instances/{instance_id}/approvals/policy`.
    """
    instance = await instance_of(request)
    body = await parse(request, ApprovalDecision)
    approval_id = request.path_params["approval_id"]
    decided = await service(request, Approvals).decide(instance, approval_id, body.decision)
    return _view(request, instance, decided)


async def get_approval_policy(request: Request) -> ApprovalPolicyView:
    """When the agent asks before it runs a command. By default it never does."""
    policy = await service(request, Approvals).policy(await instance_of(request))
    return ApprovalPolicyView.model_validate(policy)


async def set_approval_policy(request: Request) -> ApprovalPolicyView:
    """Changes when the agent asks before it runs a command, from the next command on."""
    instance = await instance_of(request)
    change = await parse(request, ApprovalPolicyChange)
    policy = await service(request, Approvals).set_policy(
        instance, change.words(), change.allowed()
    )
    return ApprovalPolicyView.model_validate(policy)


def _view(request: Request, instance: Instance, approval: Approval) -> ApprovalView:
    key = approval.session_key
    found = None if key is None else services(request).session_names.find(instance.id, key)
    session = None if found is None else found.name or "main"
    return ApprovalView.from_approval(approval, session)


OPERATIONS = (
    Operation(
        "GET",
        "/local/instances/{instance_id}/approvals",
        list_approvals,
        Access.ORGANIZATION,
        "listApprovals",
        "List what waits for approval",
        answer=[ApprovalView],
        errors=(409, 502),
        tool="list_approvals",
    ),
    Operation(
        "GET",
        "/local/instances/{instance_id}/approvals/policy",
        get_approval_policy,
        Access.ORGANIZATION,
        "getApprovalPolicy",
        "Show when an agent asks",
        answer=ApprovalPolicyView,
        errors=(409, 502),
        tool="get_approval_policy",
    ),
    Operation(
        "PUT",
        "/local/instances/{instance_id}/approvals/policy",
        set_approval_policy,
        Access.ORGANIZATION,
        "setApprovalPolicy",
        "Set when an agent asks",
        body=ApprovalPolicyChange,
        answer=ApprovalPolicyView,
        errors=(400, 409, 502),
        is_audited=True,
        tool="set_approval_policy",
    ),
    Operation(
        "POST",
        "/local/instances/{instance_id}/approvals/{approval_id}",
        decide_approval,
        Access.ORGANIZATION,
        "decideApproval",
        "Allow or deny a command",
        body=ApprovalDecision,
        answer=ApprovalView,
        errors=(400, 409, 502),
        tool="decide_approval",
    ),
)
