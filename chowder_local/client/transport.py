"""The HTTP connection of the client, and the errors of its calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import httpx

from chowder_local.core.addresses import is_loopback
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import ApiRefused, ServerNotRunning, ServerSilent
from chowder_local.core.untrusted_json import MESSAGE_MAX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

# Pytest shows the line of a test that fails, and none of the client.
__tracebackhide__ = True

Json = dict[str, Any]


class _Null:
    """Unlike None, which leaves a member out."""

    def __repr__(self) -> str:
        return "NULL"


NULL: Any = _Null()
"""Sends null for a member, which takes its value away."""


class Transport:
    """The connection of all calls; see `client.Client`."""

    _parse: Callable[[bytes], Any] = staticmethod(json.loads)

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        timeout_s: float = 30.0,
        turn_timeout_s: float = 600.0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self.server_time = ""
        """The time of the last answer by the server's clock, as HTTP has it."""
        self._turn_timeout = httpx.Timeout(timeout_s, read=turn_timeout_s)
        self._endless = httpx.Timeout(timeout_s, read=None)
        address = urlsplit(self._root)
        self._http = httpx.Client(
            base_url=self._root,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            # Loading the CA certificates takes longer than most calls.
            verify=tls or address.scheme == "https",
            # A proxy of the environment cannot reach this machine's loopback address.
            trust_env=not is_loopback(address.hostname or ""),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The base URL for an SDK, with `/v1`."""
        return f"{self._root}/v1"

    def close(self) -> None:
        """Closes the connections to the server."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The answer to a call that has no method here, such as one of another package's feature.

        `path` begins with `/local` or `/v1`; `options` are httpx's, such as `json` and `params`.
        """
        return self._value(method, path, **options)

    def _call(self, method: str, path: str, **options: Any) -> Json:
        value = self._value(method, path, **options)
        if isinstance(value, dict):
            return value
        raise ServerSilent(f"The program at {self._root} is not a chowder-local server.")

    def _list(self, method: str, path: str, **options: Any) -> list[Json]:
        return list(self._value(method, path, **options) or [])

    def _value(self, method: str, path: str, **options: Any) -> Any:
        return self._answer(method, path, **options)[0]

    def _answer(self, method: str, path: str, **options: Any) -> tuple[Any, httpx.Headers]:
        """The JSON value of an answer, None if it is none, and the answer's headers."""
        try:
            with self._stream(method, path, **options) as response:
                content = response.read()
        except ChowderError as error:
            # Leaves out the frames of context managers, which pytest would show.
            raise error.with_traceback(None)  # noqa: B904 - the same error
        try:
            return self._parse(content) if content else {}, response.headers
        except ValueError:
            return None, response.headers

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, path, **options) as response:
                if not response.is_success:
                    response.read()
                    refused = ApiRefused(response.status_code, _message(response), _code(response))
                    refused.retry_after = response.headers.get("Retry-After")
                    with suppress(ValueError, RecursionError):
                        refused.body = response.json()
                    raise refused
                self.server_time = response.headers.get("Date", "")
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise ServerNotRunning(self._root) from None
        except httpx.TimeoutException:
            raise ServerSilent(f"The server at {self._root} did not answer in time.") from None
        except httpx.RequestError as failure:
            raise ServerSilent(
                f"The connection to the server at {self._root} broke off: {failure}"
            ) from failure


def given(**members: Any) -> Json:
    """The members that are not None, as JSON and queries take them; NULL becomes null."""
    return {name: _plain(value) for name, value in members.items() if value is not None}


def _plain(value: Any) -> Any:
    if value is NULL:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, str) or not isinstance(value, Sequence) else list(value)


def if_found(show: Callable[..., Json], *arguments: str | None) -> Json | None:
    """What a call shows; None if the server answers 404."""
    try:
        return show(*arguments)
    except ApiRefused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def segment(text: str) -> str:
    """A text as one segment of a path; slashes and other special characters are escaped."""
    return quote(text, safe="")


def optional(before: str, text: str | None) -> str:
    """A part of a path that is left out without its text."""
    return "" if text is None else before + segment(text)


def _code(response: httpx.Response) -> str | None:
    """The code of an error response: that of a message's error may be the provider's own."""
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        code = None
    return code if isinstance(code, str) else response.headers.get("X-Error-Code")


def _message(response: httpx.Response) -> str:
    """The message of an error response, in any of the contract's shapes."""
    try:
        detail = response.json()["detail"]
        if isinstance(detail, dict):
            detail = detail.get("error", detail)
        if isinstance(detail, list):
            detail = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in detail
            )
    except (ValueError, KeyError, TypeError, RecursionError):
        return response.text.strip()[:500] or response.reason_phrase
    return str(detail)[:MESSAGE_MAX]
