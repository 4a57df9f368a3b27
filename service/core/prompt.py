"""Templates that operators write over what a webhook received.

Operators are trusted, senders are not: whatever a post holds, a template that was meant well stays
small and quick, reaches no Python internals and shows the sender's own fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jinja2 import (
    Environment,
    StrictUndefined,
    Template,
    TemplateError,
    UndefinedError,
    meta,
    nodes,
    pass_context,
    pass_environment,
)
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import BadInput

NAMES = frozenset({"payload", "body", "headers", "query", "webhook"})

_LONGEST = 200_000
_MOST_STEPS = 200_000
_MOST_BITS = 4096
# A name that no template can spell.
_STEPS = " steps"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Left out is what a number or text of the sender could blow up: center, format, wordwrap, …
_FILTERS = _words(
    "abs capitalize count d default dictsort e escape filesizeformat first float groupby int items "
    "last length list lower map max min reject rejectattr reverse round select selectattr sort "
    "string sum title tojson trim truncate unique upper urlencode wordcount"
)
_WALKING = _words(
    "dictsort groupby join list map max min reject rejectattr reverse select selectattr sort sum "
    "unique"
)
_METHODS = _words(
    "endswith get items keys lower lstrip removeprefix removesuffix rstrip split splitlines "
    "startswith strip upper values"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A compiled template over `payload`, `body`, `headers`, `query` and `webhook`."""

    source: str
    template: Template
    names: frozenset[str]
    """What it looks at; the rest need not be given."""

    @classmethod
    def parse(cls, source: str) -> Prompt:
        """Compile a template. Raises BadInput with the line of the mistake."""
        try:
            return cls(source, *_compiled(source))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise BadInput(f"the template cannot be read: {error.message}{where}") from error

    def render(self, values: Mapping[str, Any]) -> str:
        """Fill the template in. Raises BadInput, naming what is missing or grows too large."""
        given = {"payload": _NO_PAYLOAD, **values, _STEPS: _Steps(_MOST_STEPS)}
        size = 0
        pieces = []
        try:
            for piece in self.template.generate(given):
                size += len(piece)
                _require_short(size)
                pieces.append(piece)
        except BadInput:
            raise
        except Exception as error:
            # A template can fail in any way its author and its input choose.
            reason = str(error) or type(error).__name__
            raise BadInput(f"the template does not fit this post: {reason}") from error
        return "".join(pieces)


def _compiled(source: str) -> tuple[Template, frozenset[str]]:
    tree = _environment.parse(source)
    names = meta.find_undeclared_variables(tree)
    unknown = names - NAMES - _environment.globals.keys()
    if unknown:
        raise BadInput(
            f"the template names {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(sorted(NAMES))}"
        )
    _count_steps(tree)
    code = _environment.compile(tree)
    template = Template.from_code(_environment, code, _environment.make_globals(None))
    return template, frozenset(names)


# -- bounds ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Steps:
    """How many items one rendering may still work through."""

    left: int

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise BadInput(f"the template works through more than {_MOST_STEPS} items")


def _count_steps(tree: nodes.Template) -> None:
    """Make everything that walks through items pay for them: there is no clock in here."""
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _paid(loop.iter)
    for used in list(tree.find_all(nodes.Filter)):
        if used.node is not None and used.name in _WALKING:
            used.node = _paid(used.node)
    for operand in list(tree.find_all(nodes.Operand)):
        if operand.op in ("in", "notin"):
            operand.expr = _paid(operand.expr)


def _paid(walked: nodes.Node) -> nodes.Filter:
    return nodes.Filter(walked, "paid", [], [], None, None, lineno=walked.lineno)


@pass_context
def _pay(context: Context, walked: Any) -> Any:
    steps: _Steps = context[_STEPS]
    if isinstance(walked, str):
        steps.spend(len(walked) // 64 + 1)
        return walked
    if not isinstance(walked, Sized) and isinstance(walked, Iterable):
        walked = list(islice(walked, _MOST_STEPS + 1))
    if isinstance(walked, Sized):
        steps.spend(len(walked) + 1)
    return walked


@pass_environment
def _join(
    environment: Environment,
    items: Iterable[Any],
    separator: object = "",
    attribute: str | None = None,
) -> str:
    if attribute is not None:
        items = map(make_attrgetter(environment, attribute), items)
    words, between = [_said(item) for item in items], _said(separator)
    _require_short(sum(map(len, words)) + len(words) * len(between))
    return between.join(words)


def _replace(text: object, old: object, new: object) -> str:
    text, old, new = _said(text), _said(old), _said(new)
    _require_short(len(text) + text.count(old) * max(len(new) - len(old), 0))
    return text.replace(old, new)


def _indent(text: object, width: int = 4) -> str:
    lines = _said(text).split("\n")
    _require_short(sum(map(len, lines)) + len(lines) * width)
    return f"\n{' ' * width}".join(lines)


def _require_short(size: int) -> None:
    if size > _LONGEST:
        raise BadInput(f"the template makes a text of more than {_LONGEST} characters")


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Prefer what the sender called `items` or `values` to the method of that name."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow a few methods of plain values; jinja2 decides about its own objects."""
        if isinstance(obj, (str, int, float, list, tuple, dict)):
            return attr in _METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, _value: Any) -> None:
        """Offer no formatting: its widths have no bound."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate what stays small."""
        _require_small(operator, left, right)
        return super().call_binop(context, operator, left, right)


def _require_small(operator: str, left: Any, right: Any) -> None:
    texts = [one for one in (left, right) if isinstance(one, (str, list, tuple))]
    if operator == "%" and texts:
        raise BadInput("the template formats with %; write the parts one after the other")
    if operator == "+" and texts:
        _require_short(sum(map(len, texts)))
    if operator == "*" and texts:
        times = next((one for one in (left, right) if isinstance(one, int)), 0)
        _require_short(len(texts[0]) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int):
        bits = {"**": left.bit_length() * right, "*": left.bit_length() + right.bit_length()}
        if bits.get(operator, 0) > _MOST_BITS:
            raise BadInput("the template calculates a number that is too large")


def _said(value: Any) -> str:
    """How a value reads in a prompt: text as it is, everything else as JSON, null as nothing."""
    if isinstance(value, (bool, dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def _finalized(value: Any) -> Any:
    return value if isinstance(value, Undefined) else _said(value)


def _sandbox() -> _Sandbox:
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False, finalize=_finalized)
    kept = {name: sandbox.filters[name] for name in _FILTERS}
    sandbox.filters = {**kept, "join": _join, "replace": _replace, "indent": _indent, "paid": _pay}
    del sandbox.globals["lipsum"], sandbox.tests["in"]
    return sandbox


_environment = _sandbox()
_NO_PAYLOAD = StrictUndefined(
    "there is no payload: the post did not come with Content-Type: application/json",
    name="payload",
    exc=UndefinedError,
)
