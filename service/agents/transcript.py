"""A prompt as pydantic-ai's messages, and what of a response has to be shown to its model again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from service.ports import Prompt, Said, Step, ToolResult

_KEPT = ("kind", "parts", "model_name", "provider_name", "canonical_system")


def messages(prompt: Prompt) -> list[ModelMessage]:
    """Everything that was said, in order: instructions, history, finished iterations."""
    made: list[ModelMessage] = []
    if prompt.system:
        made.append(ModelRequest(parts=[SystemPromptPart(prompt.system)]))
    made += [_said(said) for said in prompt.history]
    made += [message for step in prompt.steps for message in _step(step)]
    return made


def parameters(prompt: Prompt) -> ModelRequestParameters:
    """The tools the model may call."""
    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=dict(tool.parameters),
            )
            for tool in prompt.tools
        ],
    )


def parameters_of_calls(prompt: Prompt) -> ModelRequestParameters:
    """The tools the model has called so far, by their names alone."""
    names = dict.fromkeys(call.tool for step in prompt.steps for call in step.calls)
    return ModelRequestParameters(function_tools=[ToolDefinition(name=name) for name in names])


def metadata(response: ModelResponse) -> Mapping[str, Any]:
    """What words and tool calls cannot carry: signatures, ids, thoughts the provider wants back.

    Nothing for a response without tool calls: the model never sees that one as it was.
    """
    if not response.tool_calls or all(_is_plain(part) for part in response.parts):
        return {}
    [dumped] = ModelMessagesTypeAdapter.dump_python([response], mode="json", exclude_none=True)
    return {"response": {key: dumped[key] for key in _KEPT if key in dumped}}


def _said(said: Said) -> ModelMessage:
    if said.role == "assistant":
        return ModelResponse(parts=[TextPart(said.text)])
    if not said.media:
        return ModelRequest(parts=[UserPromptPart(said.text)])
    content: list[UserContent] = [
        BinaryContent(one.data, media_type=one.media_type) for one in said.media
    ]
    content += [said.text] if said.text else []
    return ModelRequest(parts=[UserPromptPart(content)])


def _step(step: Step) -> list[ModelMessage]:
    """What the model said, then what came back to it; a message of nothing is left out."""
    heard: list[ModelRequestPart] = [_result(result) for result in step.results]
    heard += [UserPromptPart(text) for text in step.added]
    both: list[ModelMessage] = [_response(step), ModelRequest(parts=heard)]
    return [message for message in both if message.parts]


def _result(result: ToolResult) -> ToolReturnPart:
    outcome: Literal["success", "failed"] = "failed" if result.failed else "success"
    return ToolReturnPart(result.tool, result.text, result.id, outcome=outcome)


def _response(step: Step) -> ModelResponse:
    """The response of a finished iteration as it came, or as much of it as is known."""
    try:
        [response] = ModelMessagesTypeAdapter.validate_python([step.metadata["response"]])
    except (KeyError, ValidationError):
        # Nothing special was in it, or another release stored it: the plain form always works.
        pass
    else:
        if isinstance(response, ModelResponse):
            return response
    said: list[ModelResponsePart] = [TextPart(step.text)] if step.text else []
    said += [ToolCallPart(call.tool, call.arguments, call.id) for call in step.calls]
    return ModelResponse(parts=said)


def _is_plain(part: ModelResponsePart) -> bool:
    return isinstance(part, (TextPart, ToolCallPart)) and part.provider_details is None
