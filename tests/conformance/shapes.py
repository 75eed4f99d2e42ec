"""The shapes of the contract's resources: their exact members and the kinds of values."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    Kind = Callable[[Any], bool]
    Shape = Mapping[str, Kind]

PERMISSIONS = ("read", "interact", "configure", "files", "channels")
STATUSES = ("provisioning", "running", "stopped", "error", "terminated")
TIERS = {"shrimp": 1, "crab": 10, "lobster": 500, "whale": None}
PROVIDERS = ("anthropic", "openai", "gemini")


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_id(value: Any) -> bool:
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (ValueError, AttributeError, TypeError):
        return False


def is_time(value: Any) -> bool:
    """ISO 8601 in UTC."""
    try:
        time = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return False
    return time.utcoffset() == timedelta(0)


def is_recent(value: Any, now: datetime | None = None) -> bool:
    """A time close to `now`, with a tolerance for differing clocks."""
    distance = timedelta.max
    if is_time(value):
        distance = abs((now or datetime.now(UTC)) - datetime.fromisoformat(value))
    return distance < timedelta(minutes=10)


def is_mode(value: Any) -> bool:
    return is_text(value) and re.fullmatch(r"[dl-]([r-][w-][xsStT-]){3}", value) is not None


def maybe(kind: Kind) -> Kind:
    """The kind, or null."""
    return lambda value: value is None or kind(value)


def one_of(*words: Any) -> Kind:
    """One of the values."""
    return lambda value: value in words


def list_of(kind: Kind) -> Kind:
    """A list with items of the kind."""
    return lambda value: isinstance(value, list) and all(map(kind, value))


ORGANIZATION = {
    "id": is_id,
    "name": is_text,
    "model_providers": list_of(one_of(*PROVIDERS)),
    "subscription_tier": one_of(*TIERS),
    "instance_limit": maybe(is_number),
    "instance_count": is_number,
    "created_at": is_time,
    "updated_at": is_time,
}
SIGNUP = {"organization": is_object, "api_key": is_text}
INSTANCE = {
    "id": is_id,
    "organization_id": is_id,
    "name": is_text,
    "status": one_of(*STATUSES),
    "model_provider": one_of(*PROVIDERS),
    "sandbox_provider": is_text,
    "sandbox_id": maybe(is_text),
    "openclaw_version": is_text,
    "openclaw_config": maybe(is_object),
    "gateway_url": maybe(is_text),
    "region": maybe(is_text),
    "error_message": maybe(is_text),
    "created_at": is_time,
    "updated_at": is_time,
}
INSTANCE_STATUS = {"id": is_id, "status": one_of(*STATUSES), "gateway_url": maybe(is_text)}
KEY = {
    "id": is_id,
    "organization_id": is_id,
    "name": is_text,
    "key_prefix": is_text,
    "is_active": is_truth,
    "expires_at": maybe(is_time),
    "last_used_at": maybe(is_time),
    "created_at": is_time,
}
NEW_KEY = {**KEY, "raw_key": is_text}
KEY_DETAILS = {**KEY, "instances": list_of(is_object)}
GRANT = {"instance_id": is_id, "permissions": list_of(one_of(*PERMISSIONS))}
CHANNEL = {
    "channel": is_text,
    "connection_type": one_of("token", "interactive"),
    "enabled": is_truth,
}
CHANNEL_INFO = {
    "channel": is_text,
    "connection_type": one_of("token", "interactive"),
    "required_fields": is_object,
}
CONNECTION = {
    "channel": is_text,
    "status": one_of("connected", "awaiting_scan"),
    "qr_data": maybe(is_text),
    "qr_image_base64": maybe(is_text),
    "message": maybe(is_text),
}
CHANNEL_STATUS = {
    "channel": is_text,
    "enabled": is_truth,
    "connected": is_truth,
    "details": lambda _: True,
}
SKILL = {"name": is_text, "description": is_text, "source": is_text, "ready": is_truth}
SKILL_DETAILS = {**SKILL, "path": is_text}
INSTALLATION = {
    "skill": is_text,
    "status": one_of("installed", "installed_missing_env"),
    "output": is_text,
    "env_applied": list_of(is_text),
    "required_env": list_of(is_text),
    "message": is_text,
}
FOLDER = {"path": is_text, "entries": list_of(is_object)}
ENTRY = {
    "name": is_text,
    "path": is_text,
    "is_dir": is_truth,
    "size": is_number,
    "mod_time": is_time,
    "permissions": is_mode,
}
FILE = {"path": is_text, "content": is_text}
SUBSCRIPTION = {
    "tier": one_of(*TIERS),
    "instance_limit": maybe(is_number),
    "instance_count": is_number,
    "stripe_customer_id": maybe(is_text),
    "stripe_subscription_id": maybe(is_text),
}
LINK = {"url": is_text}
PROBLEM = {"loc": list_of(lambda part: isinstance(part, (str, int))), "msg": is_text,
           "type": is_text}  # fmt: skip


MESSAGE_ERROR: Shape = {
    name: lambda value: value is None or is_text(value)
    for name in ("message", "type", "code", "param")
}


def fits(value: Any, shape: Shape) -> None:
    """Fails unless an object has exactly the shape's members with values of their kinds."""
    assert isinstance(value, dict), f"no object: {value!r}"
    assert set(value) == set(shape), f"members differ: {sorted(set(value) ^ set(shape))}"
    wrong = {name: value[name] for name, kind in shape.items() if not kind(value[name])}
    assert not wrong, f"not of the kind that the contract says: {wrong}"


def answered(answer: httpx.Response, status: int, shape: Shape | None = None) -> Any:
    """The content of an answer; fails unless it has the status and shape. None without a body."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
    if status == 204:
        assert answer.content == b""
        return None
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    content = answer.json()
    if shape is not None:
        fits(content, shape)
    return content


def listed(answer: httpx.Response, shape: Shape) -> list[Any]:
    """The items of a list; fails unless each has the shape."""
    content = answered(answer, 200)
    assert isinstance(content, list)
    for each in content:
        fits(each, shape)
    return content


def refused(answer: httpx.Response, *statuses: int, words: str | None = None) -> str:
    """The message of an error; fails unless it has one of the statuses and the contract's shape."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    content = answer.json()
    if answer.request.url.path.endswith("/responses"):
        # The hosted service has no `error`; a service that has one follows OpenAI's API.
        error = content.pop("error", dict.fromkeys(MESSAGE_ERROR))
        fits(error, MESSAGE_ERROR)
    assert set(content) == {"detail"}
    detail = content["detail"]
    if isinstance(detail, dict):
        # A failure of a gateway or model provider.
        assert set(detail) == {"error"}
        detail = detail["error"]
    assert isinstance(detail, str)
    assert detail
    assert words is None or detail == words, f"{detail!r} is not {words!r}"
    return detail


def invalid(answer: httpx.Response, *loc: str) -> list[dict[str, Any]]:
    """The problems of a 422; fails unless one is at `loc`, if given."""
    assert answer.status_code == 422, f"{answer.status_code}: {answer.text[:500]}"
    problems: list[dict[str, Any]] = answer.json()["detail"]
    assert isinstance(problems, list)
    assert problems
    for each in problems:
        # Other members, such as the input, are allowed; clients need these.
        fits({name: each.get(name) for name in PROBLEM}, PROBLEM)
    places = [tuple(each["loc"]) for each in problems]
    assert not loc or loc in [place[: len(loc)] for place in places], f"{loc} is not in {places}"
    return problems
