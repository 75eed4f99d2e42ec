"""Bodies: messages in the OpenAI Responses format."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StrictBool,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from chowder_local.api.openapi.errors import MessageError
from chowder_local.openclaw.responses.inputs import BLANK

# It is sent as a header, which other characters could end or split.
ModelId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]

MESSAGE_EXAMPLE = {
    "type": "message",
    "id": "msg_0a1b2c",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}],
}


MAX_TEXT_CHARS = 4 * 1024 * 1024
"""No model reads as much at a time."""
_MEDIA = {"image_url", "url", "file_data", "data"}
"""Members that may have the content of a picture or a file."""
NO_SPACE = r"[^\s\x1c-\x1f\x85]"
"""A character that neither Python nor JSON Schema takes for white space."""
_INPUT_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1, "pattern": NO_SPACE},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "additionalProperties": True},
        },
    ]
}


def _not_blank(value: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if not value or (isinstance(value, str) and not re.search(NO_SPACE, value)):
        raise PydanticCustomError(*BLANK)
    return value


def _check_text(content: Any) -> Any:
    """Refuses too much text, whose white space and digests would take seconds."""
    chars, values = 0, [content]
    while values:
        value = values.pop()
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            values += value
            values += (each for name, each in value.items() if not _is_medium(name, each))
    if chars > MAX_TEXT_CHARS:
        raise PydanticCustomError(
            "too_long",
            "Its text should have at most {most} characters, without pictures and files",
            {"most": MAX_TEXT_CHARS},
        )
    return content


def _is_medium(name: str, value: Any) -> bool:
    return name in _MEDIA and isinstance(value, str)


class Tool(BaseModel):
    """A tool of the client that the agent may call; a function needs a name."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(min_length=1, examples=["function"])]
    name: Annotated[str | None, Field(examples=["get_weather"])] = None
    description: str | None = None
    parameters: Annotated[
        dict[str, Any] | None, Field(description="A JSON schema of the arguments.")
    ] = None

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        # Chat Completions has it one level deeper.
        inner = (self.model_extra or {}).get("function")
        name = inner.get("name") if isinstance(inner, dict) else self.name
        if self.type == "function" and not (isinstance(name, str) and name):
            raise ValueError("A function should have a name")
        return self


class Message(BaseModel):
    """A request in the OpenAI Responses format; it may have members that are not listed here."""

    model_config = ConfigDict(extra="allow")

    _text = model_validator(mode="before")(_check_text)

    model: Annotated[ModelId, Field(examples=["claude-sonnet-4-20250514"])]
    input: Annotated[
        str | list[dict[str, Any]],
        Field(
            description="The message: text, or items of the Responses format.",
            examples=["Hey! Who are you and what can you do?"],
        ),
        AfterValidator(_not_blank),
        WithJsonSchema(_INPUT_SCHEMA),
    ]
    stream: Annotated[StrictBool | None, Field(description="Stream server-sent events.")] = None
    instructions: Annotated[
        str | None, Field(description="Instructions for this message alone.")
    ] = None
    tools: list[Tool] | None = None
    tool_choice: Annotated[
        str | dict[str, Any] | None,
        Field(description="auto, none, required, or an object that names a function."),
    ] = None
    parallel_tool_calls: StrictBool | None = None
    text: Annotated[
        dict[str, Any] | None,
        Field(description="The answer's `format`: text, json_object or json_schema."),
    ] = None
    previous_response_id: Annotated[
        str | None,
        Field(description="Echoed only; a session always goes on from its last message."),
    ] = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    max_tool_calls: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    reasoning: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    store: StrictBool | None = None
    user: str | None = None
    include: Annotated[
        list[str] | None,
        Field(
            description="`agent.tool_calls` adds the tools that the agent ran to the answer; "
            "others have no effect.",
            examples=[["agent.tool_calls"]],
        ),
    ] = None
    truncation: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ModelView(BaseModel):
    """A model, in the format of OpenAI's API."""

    id: Annotated[str, Field(description="For `model` of a message.", examples=["gpt-4o"])]
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="Always 0: it is not known.", examples=[0])] = 0
    owned_by: Annotated[str, Field(description="The provider.", examples=["openai"])]


class ModelsView(BaseModel):
    """The models that the agent can use, in the format of OpenAI's API."""

    object: Literal["list"] = "list"
    data: list[ModelView]


class OutputTextView(BaseModel):
    """Text of the agent."""

    model_config = ConfigDict(extra="allow")

    type: Literal["output_text"]
    text: Annotated[str, Field(examples=["Hello!"])]
    annotations: list[dict[str, Any]]
    logprobs: list[dict[str, Any]]


class RefusalView(BaseModel):
    """The agent's refusal to answer in the requested format."""

    model_config = ConfigDict(extra="allow")

    type: Literal["refusal"]
    refusal: Annotated[str, Field(examples=["I cannot say that in numbers."])]


OutputPart = Annotated[OutputTextView | RefusalView, Field(discriminator="type")]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputMessageView(BaseModel):
    """A message of the agent."""

    model_config = ConfigDict(extra="allow")

    type: Literal["message"]
    id: Annotated[str, Field(examples=["msg_0a1b2c"])]
    role: Literal["assistant"]
    status: Annotated[ItemStatus, Field(examples=["completed"])]
    content: list[OutputPart]


class FunctionCallView(BaseModel):
    """A call of a client's function; send its result as the next message."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function_call"]
    id: Annotated[str, Field(examples=["fc_0a1b2c"])]
    call_id: Annotated[
        str, Field(description="The id that the result refers to.", examples=["call_0a1b2c"])
    ]
    name: Annotated[str, Field(examples=["get_weather"])]
    arguments: Annotated[str, Field(description="As JSON.", examples=['{"city": "Oslo"}'])]
    status: Annotated[ItemStatus, Field(examples=["completed"])]


class ToolCallView(BaseModel):
    """A tool that the agent ran; only with `include: ["agent.tool_calls"]`."""

    model_config = ConfigDict(extra="allow")

    type: Literal["mcp_call"]
    id: Annotated[str, Field(examples=["mcp_ex-7_0"])]
    server_label: Annotated[str, Field(examples=["openclaw"])]
    name: Annotated[str, Field(examples=["exec"])]
    arguments: Annotated[str, Field(description="As JSON.", examples=['{"command": "date"}'])]
    output: Annotated[
        str | None, Field(description="What the tool returned.", examples=["Sun Nov 29"])
    ]
    status: Annotated[ItemStatus, Field(examples=["completed"])]


OutputItem = Annotated[
    OutputMessageView | FunctionCallView | ToolCallView, Field(discriminator="type")
]


class ResponseUsageView(BaseModel):
    """The tokens that the answer took."""

    model_config = ConfigDict(extra="allow")

    input_tokens: Annotated[int, Field(examples=[812])]
    output_tokens: Annotated[int, Field(examples=[6])]
    total_tokens: Annotated[int, Field(examples=[818])]


class ResponseView(BaseModel):
    """A response in the OpenAI Responses format, with all required members."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(examples=["resp_0a1b2c"])]
    object: Literal["response"]
    created_at: Annotated[int, Field(description="Unix time in seconds.", examples=[1_777_777_777])]
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    model: Annotated[str, Field(description="As requested.", examples=["claude-sonnet-4-20250514"])]
    output: Annotated[list[OutputItem], Field(examples=[[MESSAGE_EXAMPLE]])]
    usage: ResponseUsageView | None


class _StreamEvent(BaseModel):
    model_config = ConfigDict(extra="allow")

    sequence_number: int


class _ItemEvent(_StreamEvent):
    output_index: int


class _PartEvent(_ItemEvent):
    item_id: str
    content_index: int


class ResponseEvent(_StreamEvent):
    """The response, when it begins and as it ends."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseView


class OutputItemEvent(_ItemEvent):
    """An item of the output, when it begins and once it is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    item: OutputItem


class OutputPartEvent(_PartEvent):
    """A part of a message, when it begins and once it is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: OutputPart


class OutputDeltaEvent(_PartEvent):
    """A piece of text."""

    type: Literal["response.output_text.delta", "response.refusal.delta"]
    delta: str


class OutputTextDoneEvent(_PartEvent):
    """The whole text of a part."""

    type: Literal["response.output_text.done"]
    text: str


class RefusalDoneEvent(_PartEvent):
    """The whole refusal."""

    type: Literal["response.refusal.done"]
    refusal: str


class ArgumentsDeltaEvent(_ItemEvent):
    """A piece of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"]
    item_id: str
    delta: str


class ArgumentsDoneEvent(_ItemEvent):
    """The whole arguments of a call."""

    type: Literal["response.function_call_arguments.done", "response.mcp_call_arguments.done"]
    item_id: str
    arguments: str


class ToolCallCompletedEvent(_ItemEvent):
    """A tool that the agent ran has ended."""

    type: Literal["response.mcp_call.completed"]
    item_id: str


class StreamErrorEvent(_StreamEvent):
    """The stream fails; the same error in two places, for clients of either."""

    type: Literal["error"]
    code: str
    message: str
    param: str | None
    error: MessageError


class ResponseStreamEvent(
    RootModel[
        Annotated[
            ResponseEvent
            | OutputItemEvent
            | OutputPartEvent
            | OutputDeltaEvent
            | OutputTextDoneEvent
            | RefusalDoneEvent
            | ArgumentsDeltaEvent
            | ArgumentsDoneEvent
            | ToolCallCompletedEvent
            | StreamErrorEvent,
            Field(discriminator="type"),
        ]
    ]
):
    """A streaming event of the OpenAI Responses format."""
