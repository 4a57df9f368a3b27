"""What a session is to come to: the fields of its schema, and whether values fit them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from service.core.text import clean
from service.errors import BadInput

MOST_FIELDS = 30
MOST_VALUES = 50
LONGEST_NAME = 60
LONGEST_VALUE = 100
LONGEST_TEXT = 4000
MOST_LISTED = 100

# What all providers take for the name of a property.
_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")
_OPTIONAL = "optional "
_LIST = "list of "
_TAKES = (
    "write A|B|C for one of several values, Number or String; before it optional, list of, or both"
)


class Kind(StrEnum):
    """What a field holds."""

    ENUM = auto()
    NUMBER = auto()
    STRING = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema."""

    kind: Kind
    values: tuple[str, ...] = ()
    """What an enum takes."""
    optional: bool = False
    many: bool = False
    """Whether it holds a list."""

    @classmethod
    def parse(cls, written: str) -> Field:
        """Read a type such as `A|B`, `Number`, `optional list of String`. Raises BadInput."""
        rest = written.strip()
        optional = rest.lower().startswith(_OPTIONAL)
        rest = rest[len(_OPTIONAL) :].strip() if optional else rest
        many = rest.lower().startswith(_LIST)
        rest = rest[len(_LIST) :].strip() if many else rest
        if rest in ("Number", "String"):
            return cls(Kind(rest.lower()), optional=optional, many=many)
        values = tuple(one.strip() for one in rest.split("|"))
        problem = _values_problem(values)
        if problem is not None:
            raise BadInput(problem)
        return cls(Kind.ENUM, values, optional, many)

    def __str__(self) -> str:
        plain = "|".join(self.values) if self.kind is Kind.ENUM else self.kind.value.capitalize()
        return (_OPTIONAL if self.optional else "") + (_LIST if self.many else "") + plain

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of its value, for models."""
        one: dict[str, Any] = {"type": "number" if self.kind is Kind.NUMBER else "string"}
        if self.kind is Kind.ENUM:
            one["enum"] = list(self.values)
        return {"type": "array", "items": one, "maxItems": MOST_LISTED} if self.many else one

    def check(self, value: object) -> Any:
        """The value as it is kept. Raises BadInput with what is taken."""
        if not self.many:
            return self._one(value)
        if not isinstance(value, list) or not 0 < len(value) <= MOST_LISTED:
            raise BadInput(f"a list of 1 to {MOST_LISTED} is needed")
        return [self._one(one) for one in value]

    def _one(self, value: object) -> Any:
        match self.kind:
            case Kind.ENUM:
                if value not in self.values:
                    raise BadInput(f"takes one of {', '.join(self.values)}, not {_shown(value)}")
                return value
            case Kind.NUMBER:
                usable = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not usable or not math.isfinite(value) or abs(value) > 1e300:  # type: ignore[arg-type]
                    raise BadInput(f"takes a number, not {_shown(value)}")
                return value
            case Kind.STRING:
                if not isinstance(value, str) or not value.strip():
                    raise BadInput(f"takes a text that is not empty, not {_shown(value)}")
                if len(value) > LONGEST_TEXT:
                    raise BadInput(f"takes a text of at most {LONGEST_TEXT} characters")
                return clean(value)


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a disposition by name, in their order."""

    fields: Mapping[str, Field]

    @classmethod
    def parse(cls, given: object) -> Schema:
        """Read `{field: type}`. Raises BadInput with every problem, one a line."""
        if not isinstance(given, Mapping) or not given:
            raise BadInput("schema: an object of field names and types is needed, not empty")
        problems = []
        fields = {}
        if len(given) > MOST_FIELDS:
            problems.append(f"schema: at most {MOST_FIELDS} fields")
        for name, written in list(given.items())[:MOST_FIELDS]:
            if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
                problems.append(
                    f"schema.{_shown(name)}: a field is called by 1 to {LONGEST_NAME} of A-Z, "
                    "a-z, 0-9, _ and -, beginning with a letter"
                )
                continue
            try:
                if not isinstance(written, str):
                    raise BadInput(_TAKES)
                fields[name] = Field.parse(written)
            except BadInput as error:
                problems.append(f"schema.{name}: {error}")
        if problems:
            raise BadInput("\n".join(problems))
        return cls(fields)

    def as_json(self) -> dict[str, str]:
        """The schema as people write it."""
        return {name: str(field) for name, field in self.fields.items()}

    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of its values, for models."""
        return {
            "type": "object",
            "properties": {name: field.json_schema() for name, field in self.fields.items()},
            "required": [name for name, field in self.fields.items() if not field.optional],
            "additionalProperties": False,
        }

    def check(self, values: object) -> dict[str, Any]:
        """Values as they are kept, in the schema's order. Raises BadInput with every problem."""
        if not isinstance(values, Mapping):
            raise BadInput("disposition: an object of the schema's fields is needed")
        problems = [
            f"{_shown(name)}: there is no such field; there are: {', '.join(self.fields)}"
            for name in values
            if name not in self.fields
        ]
        kept = {}
        for name, field in self.fields.items():
            value = values.get(name)
            if value is None:
                if not field.optional:
                    problems.append(f"{name}: is missing; it takes {field}")
                continue
            try:
                kept[name] = field.check(value)
            except BadInput as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise BadInput("\n".join(problems))
        return kept

    def enums(self) -> dict[str, tuple[str, ...]]:
        """The fields that others can depend on, and their values."""
        return {
            name: field.values
            for name, field in self.fields.items()
            if field.kind is Kind.ENUM and not field.many
        }


def _values_problem(values: tuple[str, ...]) -> str | None:
    if len(values) < 2 or not all(values):
        return _TAKES
    if len(set(values)) != len(values):
        return "names a value twice"
    if len(values) > MOST_VALUES:
        return f"takes at most {MOST_VALUES} values"
    if any(len(one) > LONGEST_VALUE or not one.isprintable() or "]" in one for one in values):
        return f"a value is on one line, without ], of at most {LONGEST_VALUE} characters"
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
