"""OpenAI-compatible providers, through pydantic-ai. Import it only when one is configured."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from service.config import Provider
from service.core.model import Usage
from service.errors import (
    ProviderBusy,
    ProviderError,
    ProviderGone,
    ProviderRefused,
    ProviderTimeout,
)
from service.ports import Finished, ModelEvent, Prompt, Step, TextDelta, ThinkingDelta, ToolCall

_BASE_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
_REFUSED: Mapping[int, str] = {
    400: "The provider {name} did not accept the request: {why}",
    401: "The provider {name} did not accept the API key.",
    402: "The account at the provider {name} has no credit left.",
    403: "The provider {name} does not allow this: {why}",
    404: "The provider {name} does not know the model {model}.",
    413: "The conversation is too long for the provider {name}.",
    422: "The provider {name} did not accept the request: {why}",
}
_WHY_LENGTH = 200


class CompatibleProvider:
    """One configured provider: one HTTP client for all its models."""

    def __init__(self, name: str, settings: Provider) -> None:
        self.name = name
        # The service retries by its own rules, and holds its own deadlines.
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url or _BASE_URLS[settings.kind],
            api_key=settings.api_key.reveal() if settings.api_key else "none",
            max_retries=0,
            timeout=openai.Timeout(None, connect=10.0),
            http_client=openai.DefaultAioHttpClient(),
        )
        self._provider = OpenAIProvider(openai_client=self._client)

    def model(self, name: str) -> CompatibleModel:
        """One of its models."""
        return CompatibleModel(self.name, OpenAIChatModel(name, provider=self._provider))

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._client.close()


class CompatibleModel:
    """A model behind an OpenAI-compatible API."""

    def __init__(self, provider: str, model: OpenAIChatModel) -> None:
        self._provider = provider
        self._model = model

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield one response; every failure of the provider is a ProviderError."""
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name,
                    description=tool.description,
                    parameters_json_schema=dict(tool.parameters),
                )
                for tool in prompt.tools
            ],
            allow_text_output=True,
        )
        try:
            async with model_request_stream(
                self._model,
                _messages(prompt),
                model_request_parameters=parameters,
                instrument=False,
            ) as stream:
                async for event in stream:
                    for delta in _deltas(event):
                        yield delta
                response = stream.get()
        except ProviderError:
            raise
        except Exception as error:
            raise self._translated(error) from error
        if response.finish_reason is None:
            raise ProviderGone(f"The provider {self._provider} broke off in mid-answer.")
        if response.finish_reason == "content_filter":
            raise ProviderRefused(f"The provider {self._provider} filtered the answer.")
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                yield ToolCall(part.tool_call_id, part.tool_name, part.args_as_json_str())
        usage = response.usage
        yield Finished(Usage(usage.input_tokens, usage.output_tokens))

    def _translated(self, error: Exception) -> ProviderError:
        name, model = self._provider, self._model.model_name
        chain = list(_chain(error))
        http = next((one for one in chain if isinstance(one, ModelHTTPError)), None)
        status = http.status_code if http else _status(chain)
        if status == 429:
            return ProviderBusy(f"The provider {name} is busy.", _retry_after(chain))
        if status is not None and status in _REFUSED:
            why = _why(http.body if http else None)
            return ProviderRefused(_REFUSED[status].format(name=name, model=model, why=why))
        if status is not None and status >= 500:
            return ProviderGone(f"The provider {name} failed inside (status {status}).")
        if status is not None:
            return ProviderRefused(f"The provider {name} answered with status {status}.")
        if any(isinstance(one, (TimeoutError, openai.APITimeoutError)) for one in chain):
            return ProviderTimeout(f"The provider {name} did not answer in time.")
        if isinstance(error, UserError):
            return ProviderRefused(f"The provider {name} cannot take this request.")
        if isinstance(error, UnexpectedModelBehavior):
            return ProviderGone(f"The provider {name} sent something that makes no sense.")
        if isinstance(error, (ModelAPIError, openai.APIError, OSError)):
            return ProviderGone(f"The provider {name} cannot be reached or broke off.")
        return ProviderGone(f"The provider {name} sent a stream that cannot be read.")


def _messages(prompt: Prompt) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    if prompt.system:
        messages.append(ModelRequest(parts=[SystemPromptPart(prompt.system)]))
    for said in prompt.history:
        if said.role == "user":
            messages.append(ModelRequest(parts=[UserPromptPart(said.text)]))
        else:
            messages.append(ModelResponse(parts=[TextPart(said.text)]))
    for step in prompt.steps:
        messages += _step(step)
    return messages


def _step(step: Step) -> list[ModelMessage]:
    said: list[Any] = [TextPart(step.text)] if step.text else []
    said += [ToolCallPart(call.tool, call.arguments, call.id) for call in step.calls]
    results = [ToolReturnPart(one.tool, one.text, one.id) for one in step.results]
    return [ModelResponse(parts=said), ModelRequest(parts=results)]


def _deltas(event: object) -> Iterator[ModelEvent]:
    match event:
        case PartStartEvent(part=TextPart(content=text)) if text:
            yield TextDelta(text)
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
            yield TextDelta(text)
        case PartStartEvent(part=ThinkingPart(content=text)) if text:
            yield ThinkingDelta(text)
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)) if text:
            yield ThinkingDelta(text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _status(chain: list[BaseException]) -> int | None:
    for one in chain:
        if isinstance(one, openai.APIStatusError):
            return one.status_code
    return None


def _retry_after(chain: list[BaseException]) -> timedelta | None:
    for one in chain:
        if isinstance(one, openai.APIStatusError):
            value = one.response.headers.get("retry-after", "")
            if value.replace(".", "", 1).isdigit():
                return timedelta(seconds=float(value))
            try:
                at = parsedate_to_datetime(value)
            except ValueError:
                return None
            return max(at - datetime.now(UTC), timedelta())
    return None


def _why(body: object) -> str:
    """The provider's own sentence, when it has one."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, Mapping) else inner
        if isinstance(message, str):
            return message[:_WHY_LENGTH]
    return "it gave no reason"
