"""Templates that operators write over what a webhook received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import BadInput

_LONGEST = 200_000
_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A compiled template over `payload`, `body`, `headers`, `query` and `webhook`."""

    source: str
    template: Template

    @classmethod
    def parse(cls, source: str) -> Prompt:
        """Compile a template. Raises BadInput with the line of the mistake."""
        try:
            return cls(source, _environment.from_string(source))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise BadInput(f"the template cannot be read: {error.message}{where}") from error

    def render(self, values: Mapping[str, Any]) -> str:
        """Fill the template in. Raises BadInput, naming what is missing, and for endless output."""
        size = 0
        pieces = []
        try:
            for piece in self.template.generate(values):
                size += len(piece)
                if size > _LONGEST:
                    raise BadInput(f"the text made of it is longer than {_LONGEST} characters")
                pieces.append(piece)
        except BadInput:
            raise
        except Exception as error:
            # A template can fail in any way its author and its input choose.
            reason = str(error) or type(error).__name__
            raise BadInput(f"the template does not fit this post: {reason}") from error
        return "".join(pieces)
