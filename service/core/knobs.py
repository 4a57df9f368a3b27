"""Knobs: typed settings of a session that its people, and if allowed its model, may turn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What all knobs have; `check` raises BadInput with the values that it takes."""

    name: str
    description: str
    default: Any
    model_may_set: bool = True
    momentary: bool = False
    """Whether it goes back to its default when the turn ends."""

    @property
    def takes(self) -> str:
        """The values it takes, in words."""
        raise NotImplementedError

    @property
    def schema(self) -> dict[str, Any]:
        """The values it takes, as a JSON Schema."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """Return `value` as it is kept; takes JSON, and words as people type them."""
        raise NotImplementedError

    def _wrong(self) -> BadInput:
        return BadInput(f"{self.name} takes {self.takes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toggle(Knob):
    """On or off."""

    default: bool = False

    @property
    def takes(self) -> str:
        """On or off."""
        return "on or off"

    @property
    def schema(self) -> dict[str, Any]:
        """A boolean."""
        return {"type": "boolean"}

    def check(self, value: Any) -> bool:
        """Also takes on, off, yes and no."""
        word = value.strip().lower() if isinstance(value, str) else value
        if word is True or word in ("on", "yes", "true", "1"):
            return True
        if word is False or word in ("off", "no", "false", "0"):
            return False
        raise self._wrong()


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Knob):
    """A number between two bounds, in steps."""

    default: float = 0
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    @property
    def takes(self) -> str:
        """A number and its bounds."""
        low = f" from {self.minimum:g}" if self.minimum is not None else ""
        high = f" up to {self.maximum:g}" if self.maximum is not None else ""
        step = f" in steps of {self.step:g}" if self.step is not None else ""
        return f"a number{low}{high}{step}"

    @property
    def schema(self) -> dict[str, Any]:
        """A number with its bounds."""
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        return {"type": "number", **given}

    def check(self, value: Any) -> float:
        """Also takes the number as a text."""
        if isinstance(value, bool):
            raise self._wrong()
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong() from None
        if not math.isfinite(number) or not self._within(number):
            raise self._wrong()
        return int(number) if number.is_integer() else number

    def _within(self, number: float) -> bool:
        if self.minimum is not None and number < self.minimum:
            return False
        if self.maximum is not None and number > self.maximum:
            return False
        if self.step is None:
            return True
        steps = (number - (self.minimum or 0)) / self.step
        return math.isclose(steps, round(steps), rel_tol=1e-12, abs_tol=1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Knob):
    """One of several words."""

    options: tuple[str, ...]

    @property
    def takes(self) -> str:
        """The options."""
        return "one of " + ", ".join(self.options)

    @property
    def schema(self) -> dict[str, Any]:
        """The options."""
        return {"type": "string", "enum": list(self.options)}

    def check(self, value: Any) -> str:
        """Take an option in small or capital letters."""
        if isinstance(value, str):
            for option in self.options:
                if option.lower() == value.strip().lower():
                    return option
        raise self._wrong()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Knob):
    """Words, up to a length, of a pattern."""

    default: str = ""
    max_length: int = 500
    pattern: str | None = None

    @property
    def takes(self) -> str:
        """How long, and of what pattern."""
        form = f" of the form {self.pattern}" if self.pattern else ""
        return f"a text of at most {self.max_length} characters{form}"

    @property
    def schema(self) -> dict[str, Any]:
        """A string with its length and pattern."""
        form = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}
        return {"type": "string", "maxLength": self.max_length, **form}

    def check(self, value: Any) -> str:
        """Take a text that fits whole."""
        if not isinstance(value, str) or len(value) > self.max_length:
            raise self._wrong()
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            raise self._wrong()
        return value


def check_all(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for several knobs as they are kept. Raises BadInput for the first wrong one."""
    kept = {}
    for name, value in given.items():
        if name not in knobs:
            known = ", ".join(sorted(knobs)) or "none"
            raise BadInput(f"knobs: there is no {name!r}; there are: {known}")
        kept[name] = knobs[name].check(value)
    return kept
