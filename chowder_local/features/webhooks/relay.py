"""Where agents send webhooks, on the relay's sockets."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.features.webhooks.errors import InboxUnknown
from chowder_local.features.webhooks.inbox import INBOX, MAX_BODY_BYTES
from chowder_local.http.bodies import BodyMemory

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from chowder_local.features.webhooks.inbox import Inbox

_log = logging.getLogger(__name__)

MAX_LARGE_BODIES = 8
MAX_LARGE_BODIES_PER_ADDRESS = 2


def routes(inbox: Inbox) -> list[BaseRoute]:
    """All inboxes, by the tokens in their addresses."""
    return [Route(f"/{INBOX}/{{token}}{{path:path}}", _Webhooks(inbox))]


@dataclass(eq=False, repr=False)
class _Webhooks:
    """Takes webhooks for inboxes, with any method."""

    inbox: Inbox

    def __post_init__(self) -> None:
        self._body_memory = BodyMemory(
            MAX_LARGE_BODIES * MAX_BODY_BYTES, MAX_LARGE_BODIES_PER_ADDRESS * MAX_BODY_BYTES
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        status, message = await self._receive(request)
        await JSONResponse({"detail": message}, status)(scope, receive, send)

    async def _receive(self, request: Request) -> tuple[int, str]:
        """The status of the answer, and what it says."""
        try:
            # Nobody without an inbox gets to send a body.
            owner = self.inbox.owner(request.path_params["token"])
            async with self._body_memory.body(request, MAX_BODY_BYTES) as body:
                await self.inbox.receive(
                    owner,
                    request.method,
                    request.path_params["path"],
                    request.url.query,
                    request.headers.items(),
                    body,
                )
        except InboxUnknown as error:
            return 404, str(error)
        except (BodiesTooMany, BodyTooLarge, ClientStalled) as error:
            return error.http_status or 503, str(error)
        except ClientDisconnect:
            return 400, ""
        except ChowderError as error:
            _log.warning("A webhook could not be kept: %s", error)
            return 503, str(error)
        return 200, "The webhook is in the inbox."
