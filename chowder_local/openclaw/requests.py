"""From what clients of the Responses API send to what OpenClaw's gateway takes (pure).

Liberal in: each SDK has its habits, and the gateway refuses most of them (a missing item type,
an unknown key, OpenAI's own form of an image). What has no meaning here is dropped, what
cannot be honoured is refused with words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.errors import MessageRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED_ON = frozenset(
    {
        "instructions", "stream", "max_output_tokens", "max_tool_calls", "user", "temperature",
        "top_p", "metadata", "store", "previous_response_id", "tool_choice",
    }
)  # fmt: skip
"""Members that go to the gateway as they are; `model`, `input`, `tools`, `text` and
`reasoning` are translated, everything else (`include`, `parallel_tool_calls`, …) is dropped."""

EFFORTS = ("low", "medium", "high")

_TEXT_PARTS = ("input_text", "output_text", "text")


def gateway_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the gateway's `/v1/responses`. Raises MessageRefused."""
    request = {key: body[key] for key in PASSED_ON if body.get(key) is not None}
    request["model"] = "openclaw"
    request["input"] = _input(body["input"])
    if tools := body.get("tools"):
        request["tools"] = [_tool(_object(tool, "tools")) for tool in _array(tools, "tools")]
    _refuse_formats(_object(body.get("text"), "text"))
    if (effort := _object(body.get("reasoning"), "reasoning").get("effort")) in EFFORTS:
        request["reasoning"] = {"effort": effort}
    return request


def _input(value: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        return value
    items = (_item(item) for item in value)
    return [item for item in items if item is not None]


def _item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = item.get("type") or "message"
    if kind == "message":
        return _message(item)
    if kind == "function_call":
        return _only(item, "type", "id", "call_id", "name", "arguments", "status")
    if kind == "function_call_output":
        call_id = item.get("call_id", "")
        return {"type": kind, "call_id": call_id, "output": _text(item.get("output") or "")}
    if kind == "item_reference":
        return _only(item, "type", "id")
    if kind == "reasoning":
        # A model's thoughts of an earlier turn: the agent keeps its own.
        return None
    raise MessageRefused(f"input: items of type {kind!r} are not supported.")


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    message = _only(item, "id", "role", "phase", "status") | {"type": "message"}
    content = item.get("content") or ""
    if not isinstance(content, str):
        parts = _array(content, "input: a message's content")
        content = [_part(_object(part, "input: a part of a message's content")) for part in parts]
    message["content"] = content
    return message


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "output_text" if kind == "output_text" else "input_text"} | _only(
            part, "text"
        )
    if kind == "refusal":
        return {"type": "output_text", "text": part.get("refusal", "")}
    if kind in ("input_image", "input_file") and "source" in part:
        return _only(part, "type", "source")
    if kind == "input_image" and (url := part.get("image_url")):
        return {"type": kind, "source": _source(_string(url, "image_url"))}
    if kind == "input_file":
        return {"type": kind, "source": _file_source(part)}
    raise MessageRefused(f"input: content of type {kind!r} is not supported in this form.")


def _source(url: str, filename: str | None = None) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.removeprefix("data:").partition(",")
    media_type = head.partition(";")[0] or "application/octet-stream"
    source = {"type": "base64", "media_type": media_type, "data": data}
    return source if filename is None else source | {"filename": filename}


def _file_source(part: Mapping[str, Any]) -> dict[str, Any]:
    if url := part.get("file_url"):
        return {"type": "url", "url": url}
    if data := part.get("file_data"):
        data = _string(data, "file_data")
        is_url = data.startswith("data:")
        url = data if is_url else f"data:application/octet-stream;base64,{data}"
        return _source(url, part.get("filename"))
    raise MessageRefused(
        "input: a file needs file_data or file_url; uploaded file ids are not kept."
    )


def _text(output: Any) -> str:
    if isinstance(output, str):
        return output
    parts = [
        _object(part, "input: a part of an output") for part in _array(output, "input: output")
    ]
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise MessageRefused(
            f"tools: the built-in tool {tool.get('type')!r} is not available; "
            "the agent has its own tools, and takes function tools."
        )
    return _only(tool, "type", "name", "description", "parameters", "strict")


def _refuse_formats(text: Mapping[str, Any]) -> None:
    kind = _object(text.get("format"), "text.format").get("type", "text")
    if kind != "text":
        raise MessageRefused(f"text.format: {kind!r} is not supported; only 'text' is.")


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageRefused(f"{what} must be an object.")
    return value


def _array(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MessageRefused(f"{what} must be an array.")
    return value


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise MessageRefused(f"input: {what} must be a string.")
    return value


def _only(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: source[key] for key in keys if source.get(key) is not None}
