"""What a client that speaks Chat Completions is told: agents speak the Responses API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.routing import Route

from chowder_local.core.errors.requests import ChatCompletionsMissing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_INSTANCE = re.compile(r"instances/[\w-]{1,64}/\Z")


async def refuse(request: Request) -> Response:
    """Raises ChatCompletionsMissing with the address to call instead."""
    above = request.path_params["above"]
    raise ChatCompletionsMissing(above if _INSTANCE.match(above) else "instances/{id}/")


def chat_completions_routes() -> list[Route]:
    """Where clients call whose base URL is the API's or an instance's."""
    return [Route("/v1/{above:path}chat/completions", refuse, methods=["POST"])]
