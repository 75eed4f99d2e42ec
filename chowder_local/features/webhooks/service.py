"""Webhooks to agents: OpenClaw's own hooks, which are switched on when one is first called."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from chowder_local.core import untrusted_json
from chowder_local.features.webhooks.errors import HookRefused
from chowder_local.openclaw.config.agent_config import to_merge_patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import Instance
    from chowder_local.core.secrets import SecretBox
    from chowder_local.features.webhooks.inbox import Inbox
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.schedule.unasked_turns import UnaskedTurns
    from chowder_local.openclaw.gateway import Gateway, GatewayOf

log = logging.getLogger(__name__)

DEFAULT_PATH = "/hooks"
MAX_BODY_BYTES = 256 * 1024
"""OpenClaw's own limit."""
_NOT_SET_UP = {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}
_SUBSTITUTED = "${"


class HookAnswer(NamedTuple):
    """OpenClaw's answer: its status, and its JSON or text."""

    status: int
    content: Any


@dataclass(eq=False, repr=False, kw_only=True)
class Hooks:
    """Calls the hooks of running instances; one that was hibernated comes back."""

    residency: Residency
    unasked_turns: UnaskedTurns
    gateway_of: GatewayOf
    secret_box: SecretBox

    async def call(
        self, instance: Instance, name: str, body: bytes, headers: Mapping[str, str]
    ) -> HookAnswer:
        """Calls a hook with a body of JSON, and the caller's headers of it.

        Raises HookRefused with OpenClaw's reason, GatewayUnavailable, InstanceStateWrong.
        """
        async with self.residency.using(instance) as instance:
            gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
            headers = {**headers, "Authorization": f"Bearer {self._token(instance)}"}
            answer = await self._call(instance, gateway, name, body, headers)
            if answer.status in _NOT_SET_UP:
                path = await self._set_up(instance, gateway, answer.status)
                if path is not None:
                    answer = await self._call(instance, gateway, name, body, headers, path)
            if isinstance(answer.content, dict) and "mode" in answer.content:
                # A wake has no turn of its own, but makes a heartbeat come at once.
                self.unasked_turns.expect_hook(instance.sandbox_id)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise HookRefused(name, answer.status, _reason(answer))
        return answer

    async def _call(
        self,
        instance: Instance,
        gateway: Gateway,
        name: str,
        body: bytes,
        headers: Mapping[str, str],
        path: str = DEFAULT_PATH,
    ) -> HookAnswer:
        target = f"{path.rstrip('/')}/{quote(name, safe='/')}"
        status, content = await gateway.post_hook(target, headers, body)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            # A stop or a snapshot is in progress.
            await self.residency.wait_until_resumed(instance)
            status, content = await gateway.post_hook(target, headers, body)
        try:
            return HookAnswer(status, untrusted_json.read_encodable(content) if content else None)
        except ValueError:
            return HookAnswer(status, untrusted_json.message_of(content.decode("utf-8", "replace")))

    async def _set_up(self, instance: Instance, gateway: Gateway, status: int) -> str | None:
        """Sets OpenClaw's hooks up, with our token; their path, or None if they are as they are.

        OpenClaw does not show the token, so one that it refuses is replaced.
        """
        path: str | None = None

        def patch_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
            nonlocal path
            hooks = untrusted_json.object_of(config.get("hooks"))
            own_path = untrusted_json.text_of(hooks.get("path")) or DEFAULT_PATH
            is_on = hooks.get("enabled") is True
            if is_on and status == HTTPStatus.NOT_FOUND:
                # There is no hook of that name, unless all of them are elsewhere.
                path = own_path if own_path != DEFAULT_PATH else None
                return None
            path = own_path
            return {"hooks": {"enabled": True, "token": self._token(instance), "path": own_path}}

        await gateway.revise_config(patch_of)
        return path

    def _token(self, instance: Instance) -> str:
        """The token of the instance's settings, or else ours. It moves with the instance's home."""
        settings = to_merge_patch(instance.openclaw_config or {})
        token = untrusted_json.object_of(settings.get("hooks")).get("token")
        if isinstance(token, str) and token and _SUBSTITUTED not in token:
            return token
        return self.secret_box.hook_token(instance.id)


@dataclass(frozen=True)
class Webhooks:
    """Those to agents, and those from them."""

    hooks: Hooks
    inbox: Inbox


def _reason(answer: HookAnswer) -> str:
    content = answer.content
    error = content.get("error") if isinstance(content, dict) else content
    if isinstance(error, dict):
        error = error.get("message")
    return untrusted_json.message_of(error) or f"HTTP {answer.status}"
