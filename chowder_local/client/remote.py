"""A client of a server that nobody here runs: bounded answers, no redirects, and patience."""

from __future__ import annotations

import re
import socket
import time
from contextlib import contextmanager, suppress
from http import HTTPStatus
from threading import Event, Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chowder_local.client.calls import Client
from chowder_local.client.transport import Json, segment
from chowder_local.core import untrusted_json
from chowder_local.core.addresses import is_loopback
from chowder_local.core.errors.process import (
    ApiRefused,
    RemoteFailed,
    ServerNotRunning,
    ServerSilent,
    SettingsInvalid,
)
from chowder_local.upstream.forward import authorities

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_VALUES = 2_000_000
"""In one answer: a folder of 100,000 entries has 1,300,000."""
HEAD_TIMEOUT_S = 60.0
MIN_BYTES_PER_S = 16 * 1024
"""What a body must come at, after HEAD_TIMEOUT_S at the latest, and what an upload may go at."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the attempts of a call; longer if the answer says so."""
LONGEST_PAUSE_S = 30.0
TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True)


class _Id(_Shape):
    id: str = Field(min_length=1, max_length=200)


class _Instance(_Id):
    name: str
    status: str
    model_provider: str
    openclaw_config: dict[str, Any] | None


class _Status(_Shape):
    status: str


class _Entry(_Shape):
    name: str
    is_dir: bool
    size: int = Field(ge=0)
    mod_time: str
    permissions: str


class _Folder(_Shape):
    entries: list[_Entry]


class _Skill(_Shape):
    name: str
    source: str


class _Channel(_Shape):
    channel: str
    enabled: bool


class _Key(_Id):
    name: str
    is_active: bool
    created_at: str
    expires_at: str | None


class _Grant(_Shape):
    instance_id: str
    permissions: list[str]


class _KeyDetails(_Id):
    instances: list[_Grant]


class _NewKey(_Id):
    raw_key: str


SHAPES: tuple[tuple[str, re.Pattern[str], TypeAdapter[Any]], ...] = tuple(
    (method, re.compile(f"/v1/{path}"), TypeAdapter(shape))
    for method, path, shape in (
        ("GET", "instances", list[_Instance]),
        ("POST", "instances", _Instance),
        ("GET", "instances/[^/]+/status", _Status),
        ("GET", "instances/[^/]+/files", _Folder),
        ("GET", "instances/[^/]+/skills", list[_Skill]),
        ("GET", "instances/[^/]+/channels", list[_Channel]),
        ("GET|PATCH", "instances/[^/]+", _Instance),
        ("GET", "keys", list[_Key]),
        ("POST", "keys", _NewKey),
        ("GET", "keys/[^/]+", _KeyDetails),
    )
)
"""What is read of the answers: the members that are used, and their types."""


class RemoteClient(Client):
    """Calls another server's `/v1` as somebody who trusts neither its answers nor its network.

    Each method may raise RemoteFailed, too. A call is repeated after a 429, a 5xx or a cut
    connection if that changes nothing; to create an instance or a key, it looks first whether the
    call that was cut off has done so.
    """

    _parse = staticmethod(
        lambda content: untrusted_json.read_encodable(content, values_max=MAX_VALUES)
    )

    def __init__(self, base_url: str, key: str, ca_bundle: Path | None = None) -> None:
        """`ca_bundle` has certificates to trust, too.

        Raises SettingsInvalid unless the URL is an https one, or of this machine.
        """
        super().__init__(checked_url(base_url), key, tls=authorities(ca_bundle))
        # A compressed body would be as long as it likes.
        self._http.headers["Accept-Encoding"] = "identity"
        self._http.event_hooks = {"response": [self._guard]}
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def download(
        self, instance_id: str, path: str, max_bytes: int = MAX_JSON_BYTES
    ) -> Generator[bytes]:
        """As of `Client`, at most so many bytes. Raises RemoteFailed if there are more."""
        url = f"/v1/instances/{segment(instance_id)}/files/download"
        extensions = {"max_bytes": max_bytes}
        with self._stream("GET", url, params={"path": path}, extensions=extensions) as response:
            yield from response.iter_bytes()

    def create_instance(self, name: str, *arguments: Any, **options: Any) -> Json:
        """As of `Client`. An instance of that name that an attempt has made is not made again."""
        known = {each["id"] for each in self.instances()}

        def find() -> Json | None:
            listed = self.instances()
            found = [each for each in listed if each["name"] == name and each["id"] not in known]
            return found[0] if found else None

        create = super().create_instance
        return self._once(lambda: create(name, *arguments, **options), find)

    def create_key(
        self,
        name: str,
        instance_ids: Sequence[str],
        permissions: Sequence[str],
        expires_at: datetime | None = None,
    ) -> Json:
        """As of `Client`. A key that an attempt has made, and nobody has, is revoked."""
        known = {each["id"] for each in self.keys()}

        def find() -> None:
            for each in self.keys():
                if each["name"] == name and each["id"] not in known:
                    self.revoke_key(each["id"])

        create = super().create_key
        return self._once(lambda: create(name, instance_ids, permissions, expires_at), find)

    def _once(self, create: Callable[[], Json], find: Callable[[], Json | None]) -> Json:
        for pause_s in (*PAUSES_S, None):
            try:
                return create()
            except (ApiRefused, ServerSilent) as error:
                if pause_s is None or not _may_pass(error):
                    raise
            time.sleep(pause_s)
            if (found := find()) is not None:
                return found
        raise AssertionError

    def _answer(self, method: str, path: str, **options: Any) -> tuple[Any, httpx.Headers]:
        value, headers = super()._answer(method, path, **options)
        for methods, pattern, shape in SHAPES:
            if method in methods.split("|") and pattern.fullmatch(path):
                try:
                    shape.validate_python(value)
                except ValidationError as invalid:
                    problem = invalid.errors(include_url=False, include_input=False)[0]
                    where = ".".join(map(str, problem["loc"])) or "it"
                    raise RemoteFailed(
                        f"{method} {path} of {self._root} does not answer as the published API "
                        f"says: {where}: {problem['msg']}."
                    ) from None
                break
        return value, headers

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        extensions = {"trace": self._note_socket, **options.pop("extensions", {})}
        is_repeatable = method != "POST" or "files" in options
        for pause_s in (*PAUSES_S, None):
            has_begun, cuts = False, Event()
            # No timeout of the library ends an answer whose head comes byte by byte.
            timer = Timer(self._patience_s(options), self._cut, [cuts])
            timer.start()
            try:
                with super()._stream(method, path, extensions=extensions, **options) as response:
                    timer.cancel()
                    if "max_bytes" not in extensions:
                        response.read()
                    has_begun = True
                    yield response
                    return
            except ServerNotRunning as error:
                # It tells people to start a server of their own.
                if pause_s is None:
                    reason = error.__context__ or "no connection"
                    raise RemoteFailed(f"{self._root} is not reached: {reason}") from None
            except (ApiRefused, ServerSilent) as error:
                if cuts.is_set():
                    raise RemoteFailed(f"{path} answers too slowly, and was left.") from None
                is_limited = isinstance(error, ApiRefused) and error.status == TOO_MANY
                may_repeat = is_limited or (is_repeatable and _may_pass(error))
                if has_begun or pause_s is None or not may_repeat:
                    raise
                pause_s = max(pause_s, _retry_after_s(error))
            finally:
                timer.cancel()
            time.sleep(pause_s)

    def _patience_s(self, options: Json) -> float:
        """How long the head of an answer may take, the upload before it included."""
        patience_s = HEAD_TIMEOUT_S
        if "timeout" in options:
            patience_s += self._turn_timeout.read or 0.0
        if (file := options.get("files", {}).get("file")) is not None:
            patience_s += file.seek(0, 2) / MIN_BYTES_PER_S
            file.seek(0)
        return patience_s

    def _guard(self, response: httpx.Response) -> None:
        """Refuses and bounds an answer before any of its body is read."""
        if response.is_redirect:
            raise RemoteFailed(
                f"{self._root} redirects to another address. It is not followed, so that the key "
                "goes nowhere else. Name the address itself."
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise RemoteFailed(f"{self._root} sends compressed answers, which were not asked for.")
        max_bytes = response.request.extensions.get("max_bytes", MAX_JSON_BYTES)
        response.stream = _Bounded(response.stream, max_bytes, response.request.url.path)

    def _note_socket(self, event: str, info: Json) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.add(info["return_value"].get_extra_info("socket"))

    def _cut(self, cuts: Event) -> None:
        cuts.set()
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Bounded(httpx.SyncByteStream):
    """A body with at most so many bytes, which come at a least pace."""

    def __init__(self, stream: Any, max_bytes: int, path: str) -> None:
        self._stream, self._max_bytes, self._path = stream, max_bytes, path

    def __iter__(self) -> Iterator[bytes]:
        begun, count = time.monotonic(), 0
        for chunk in self._stream:
            count += len(chunk)
            if count > self._max_bytes:
                raise RemoteFailed(
                    f"{self._path} answers more than {self._max_bytes:,} bytes, and was left."
                )
            if time.monotonic() - begun > HEAD_TIMEOUT_S + count / MIN_BYTES_PER_S:
                raise RemoteFailed(f"{self._path} answers too slowly, and was left.")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _may_pass(error: ApiRefused | ServerSilent) -> bool:
    return isinstance(error, ServerSilent) or error.status == TOO_MANY or error.status >= 500


def _retry_after_s(error: ApiRefused | ServerSilent) -> float:
    text = error.retry_after or ""
    return min(float(text), LONGEST_PAUSE_S) if re.fullmatch(r"\d{1,9}", text) else 0.0


def checked_url(base_url: str) -> str:
    """The URL of another server that may have a key. Raises SettingsInvalid for any other."""
    invalid = SettingsInvalid("Name the other server's base URL, such as https://api.example/v1.")
    try:
        address = urlsplit(base_url)
        # Reading it fails for a port that is no number.
        is_url = address.scheme in {"http", "https"} and address.hostname and address.port != 0
    except ValueError:
        raise invalid from None
    if not is_url or address.query or address.fragment:
        raise invalid
    if address.username is not None:
        raise SettingsInvalid("Write no key into the URL: it is read from CHOWDER_REMOTE_KEY.")
    if address.scheme != "https" and not is_loopback(address.hostname or ""):
        raise SettingsInvalid(
            f"{base_url} would send the key in clear text. Name an https address; http is for "
            "servers of this machine."
        )
    return base_url
