"""What a model wrote for a tool, checked against a schema that a stranger wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from service.core.text import cleaned
from service.errors import BadInput

_LONGEST_PROBLEM = 500
_MOST_PROBLEMS = 10
_MOST_STEPS = 20_000

_Keyword = Callable[[Any, Any, Any, Any], Iterable[Any] | None]


class Arguments:
    """Checks the arguments of one tool.

    No schema can keep the service busy or have it fetch anything: regular expressions in it are
    left to the server, references are followed only within it, and its steps are counted.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises BadInput when it is no JSON Schema. Takes a while: not for the event loop."""
        from jsonschema import Draft202012Validator, validators
        from referencing import Registry

        self._steps = _Steps()
        try:
            kind = validators.validator_for(schema, default=Draft202012Validator)
            kind.check_schema(dict(schema))
            keywords = _bounded(kind.VALIDATORS, self._steps)
            bounded: Any = validators.extend(kind, keywords)  # type: ignore[no-untyped-call]
            self._validator = bounded(_undeclared(schema), registry=Registry())
        except Exception as error:
            raise BadInput(f"not a usable JSON Schema ({type(error).__name__})") from error

    def read(self, text: str) -> dict[str, Any]:
        """The arguments. Raises BadInput with what the model has to mend."""
        try:
            arguments = cleaned(json.loads(text or "{}", parse_constant=_no_number))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The arguments are not JSON: {error}. Call it again.") from error
        if not isinstance(arguments, dict):
            raise BadInput("The arguments are not a JSON object. Call it again.")
        problems = self._problems(arguments)
        if problems:
            raise BadInput(f"Invalid arguments. {'; '.join(problems)}. Call it again.")
        return arguments

    def _problems(self, arguments: Mapping[str, Any]) -> list[str]:
        self._steps.left = _MOST_STEPS
        try:
            errors = list(islice(self._validator.iter_errors(arguments), _MOST_PROBLEMS))
        except BadInput:
            raise
        except Exception as error:
            # References that lead nowhere or in circles show only here.
            kind = type(error).__name__
            raise BadInput(f"The tool's schema cannot be used ({kind}).") from error
        return sorted(_problem(error) for error in errors)


@dataclass(slots=True)
class _Steps:
    """How many more keywords one check may look at."""

    left: int = 0


@dataclass(frozen=True, slots=True)
class _Counted:
    """A keyword of JSON Schema that takes one step of the check."""

    keyword: _Keyword
    steps: _Steps

    def __call__(
        self, validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterable[Any] | None:
        self.steps.left -= 1
        if self.steps.left < 0:
            raise BadInput("Checking the arguments takes too long; use fewer of them.")
        return self.keyword(validator, value, instance, schema)


@dataclass(frozen=True, slots=True)
class _WithoutPatterns:
    """`additionalProperties`, where no `patternProperties` say which ones are not additional."""

    keyword: _Keyword

    def __call__(
        self, validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterable[Any] | None:
        if "patternProperties" in schema:
            return None
        return self.keyword(validator, value, instance, schema)


def _bounded(keywords: Mapping[str, _Keyword], steps: _Steps) -> dict[str, _Keyword]:
    """The keywords, but none that runs a regular expression: one can take for ever."""
    ignored = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), _ignored)
    safe = {**keywords, **{name: one for name, one in ignored.items() if name in keywords}}
    if "additionalProperties" in safe:
        safe["additionalProperties"] = _WithoutPatterns(safe["additionalProperties"])
    return {name: _Counted(one, steps) for name, one in safe.items()}


def _undeclared(schema: Any) -> Any:
    """The schema without `$schema`: jsonschema would take its own keywords wherever it sees one."""
    match schema:
        case list():
            return [_undeclared(one) for one in schema]
        case dict():
            kept = (item for item in schema.items() if not _is_declaration(*item))
            return {name: _undeclared(one) for name, one in kept}
        case _:
            return schema


def _is_declaration(name: str, value: object) -> bool:
    # A property may have this name, too; what describes it is no text.
    return name == "$schema" and isinstance(value, str)


def _ignored(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> None:
    return None


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _problem(error: Any) -> str:
    path = ".".join(str(part) for part in error.absolute_path)
    return f"{path or 'arguments'}: {error.message[:_LONGEST_PROBLEM]}"
