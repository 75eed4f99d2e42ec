"""Translates requests of the Responses API for OpenClaw's gateway (pure).

It accepts the forms that SDKs send and the gateway refuses: a missing item type, an unknown key,
OpenAI's own form of an image. Members without a meaning here are dropped (`DROPPED`), and members
that cannot be honoured are refused (`REFUSED`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.openclaw.responses import history, inputs, tools
from chowder_local.openclaw.responses.inputs import as_object
from chowder_local.openclaw.responses.tools import parse_tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.openclaw.responses.history import Input
    from chowder_local.openclaw.responses.tools import Format


PASSED_ON = frozenset(
    {
        "stream",
        "max_output_tokens",
        "max_tool_calls",
        "user",
        "temperature",
        "top_p",
        "metadata",
        "store",
        "previous_response_id",
    }
)
"""Members that go to the gateway unchanged."""

TRANSLATED = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "include",
    }
)
"""Members that are translated."""

DROPPED = frozenset(
    {
        "context_management", "frequency_penalty", "moderation", "presence_penalty",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
        "service_tier", "stream_options", "top_logprobs", "truncation",
    }
)  # fmt: skip
"""Members that are accepted without effect, like every unknown member. No effect either have
`store` (an agent always remembers), `previous_response_id` (the path selects the conversation),
`max_tool_calls`, `text.verbosity` and `reasoning` (the agent's own settings decide)."""

REFUSED = {
    "background": "a response in the background is not available; stream it instead.",
    "conversation": "conversations are not kept here; name one in the path instead: "
    "…/session/<any name>/responses.",
    "prompt": "prompt templates are not kept here; send the prompt's text.",
}
"""Members that cannot be honoured, with the reason for each."""

EFFORTS = ("low", "medium", "high")
TOOL_CALLS = "agent.tool_calls"
"""The member of `include` that asks for the tools that the agent ran; others have no effect."""


@dataclass(frozen=True)
class GatewayRequest:
    """A translated message: the gateway's request, and how to normalize its answer."""

    request: dict[str, Any]
    format: Format | None = None
    is_single: bool = False
    """Whether an answer may hold one function call at most."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The client's names of functions by their names at the gateway."""
    may_show_images: bool = False
    """Whether a vision model may be needed."""
    includes_tool_calls: bool = False
    """Whether the answer is to have the tools that the agent ran."""
    client_input: Input = field(default_factory=history.Input)
    """All items that the client has sent."""

    def with_items(self, items: Iterable[dict[str, Any]]) -> GatewayRequest:
        """A copy whose request has only these items as its input."""
        value = inputs.gateway_input(list(items))
        return replace(
            self,
            request={**self.request, "input": value},
            may_show_images=any(inputs.may_show_images(part) for part in _parts(value)),
        )


def parse_request(body: Mapping[str, Any]) -> GatewayRequest:
    """Translates a request's body.

    Raises MessageRefused if a member cannot be honoured, InputInvalid if there is no input.
    """
    for member, reason in REFUSED.items():
        if body.get(member):
            raise MessageRefused(f"{member}: {reason}")
    offer = parse_tools(body)
    text_format = tools.parse_format(as_object(body.get("text"), "text"))
    # If a call of a client's function is required, it comes before the formatted answer.
    answer_format = None if offer.is_call_required else text_format
    request = {key: body[key] for key in PASSED_ON if body.get(key) is not None}
    request["model"] = "openclaw"
    client_input = history.parse_input(body["input"])
    is_text = isinstance(body["input"], str)
    request["input"] = body["input"] if is_text else inputs.gateway_input(list(client_input.items))
    if inputs.is_blank(request["input"]):
        kind, text = inputs.BLANK
        raise InputInvalid([{"loc": ["body", "input"], "msg": text, "type": kind}])
    rules = [body.get("instructions"), offer.rule]
    if answer_format is not None:
        client_tools = offer.tools if offer.mode == "auto" else []
        request["tools"] = [*client_tools, answer_format.tool]
        rules.append(answer_format.rule(offer))
    elif offer.tools:
        request |= {"tools": offer.tools, "tool_choice": offer.choice}
    if instructions := "\n\n".join(filter(None, rules)):
        request["instructions"] = instructions
    if (effort := as_object(body.get("reasoning"), "reasoning").get("effort")) in EFFORTS:
        request["reasoning"] = {"effort": effort}
    return GatewayRequest(
        request=request,
        format=answer_format,
        is_single=offer.is_single,
        names=offer.names,
        may_show_images=any(inputs.may_show_images(part) for part in _parts(request["input"])),
        includes_tool_calls=TOOL_CALLS in (body.get("include") or ()),
        client_input=client_input,
    )


def _parts(items: str | list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items if isinstance(items, list) else []:
        content = item.get("content")
        yield from content if isinstance(content, list) else []
