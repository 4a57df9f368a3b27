r"""Templates: blueprints of projects, each one Markdown file that people read and write.

Headings say what is what, a list right below a heading holds settings, everything else is free
text and kept to the letter. A line of free text that would be taken for a heading of levels 1 to
4, for an unclosed code fence or, as the first one, for a setting stands behind a backslash; code
between fences is never looked into. What is written is read as what it was: `docs/templates.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.core.dependency import (
    MOST as MOST_DEPENDENCIES,
)
from service.core.dependency import (
    Dependency,
    Upstream,
    circle,
    condition_problems,
)
from service.core.disposition import MOST_FIELDS, Schema
from service.core.model import SessionId
from service.core.project import LONGEST_TEXTS
from service.core.text import clean
from service.errors import BadInput

LONGEST = 200_000
"""Bytes of a file."""
LONGEST_NAME = 100
LONGEST_TITLE = 200
LONGEST_WORD = 255
"""Characters of the name of an agent or a tool."""
MOST_SESSIONS = 200
MOST_PROBLEMS = 200
"""That are told of one file."""

PROMPT, SESSIONS = "Prompt", "Sessions"
DISPOSITION, DEPENDS = "Disposition", "Depends on"
DOMAIN, AGENT, TOOLS = "Domain", "Agent", "Tools"
NO_TOOLS = "(none)"
COMPLETE = "complete"

_HEADING = re.compile(r"(#{1,4})(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[-*+](?:[ \t]+(.*))?")
_FENCE = re.compile(r"(`{3,}|~{3,})(.*)")
_INDENTED = re.compile(r"( {0,3})(.*)")
_BACKSLASHES = re.compile(r"( {0,3})(\\*)(.*)")
_ESCAPED = re.compile(r"\\([\\\[])")


# -- what a template is ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TemplateDependency:
    """A session that has to come first; with a field only if its disposition has this value."""

    title: str
    field: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateSession:
    """A session that the project begins with."""

    title: str
    request: str
    schema: Schema | None = None
    dependencies: tuple[TemplateDependency, ...] = ()
    agent: str | None = None
    """Who answers in it, if it is not who answers in the project."""


@dataclass(frozen=True, slots=True)
class Template:
    """A blueprint of a project. Its texts are tidy: see `tidy_line` and `tidy_text`."""

    name: str
    description: str = ""
    domain: str = ""
    prompt: str = ""
    agent: str | None = None
    tools: tuple[str, ...] | None = None
    """Those of the agents' tools that are used; None is all of them."""
    sessions: tuple[TemplateSession, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Why a file is no template."""

    line: int
    """Counted from 1."""
    message: str


class TemplateProblems(BadInput):
    """A file is no template; `problems` are all reasons in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"line {one.line}: {one.message}" for one in problems))
        self.problems = tuple(problems)


def tidy_line(text: str) -> str:
    """A name or title as it is kept: on one line, with single spaces only."""
    return " ".join(clean(text).split())


def tidy_text(text: str) -> str:
    """A free text as it is kept: its lines end in LF, and none before or after it is blank."""
    lines = _lines(clean(text))
    said = [place for place, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[said[0] : said[-1] + 1]) if said else ""


def name_problem(name: object) -> str | None:
    """Why nothing can be called this; None when it can."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        return f"a name of 1 to {LONGEST_NAME} characters is needed"
    if name != tidy_line(name) or not name.isprintable() or "/" in name or name in (".", ".."):
        return "write the name on one line with single spaces and without /"
    return None


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


# -- lines that mean something --------------------------------------------------------------------


def _code(lines: Sequence[str]) -> tuple[list[bool], list[int]]:
    """Which lines are code between fences or these fences, and the places of unclosed ones."""
    inside, unclosed = [False] * len(lines), []
    ahead = _longest_ends(lines)
    place = 0
    while place < len(lines):
        fence = _opening(lines[place])
        if fence is None:
            place += 1
            continue
        if ahead[fence[0]][place + 1] < len(fence):
            unclosed.append(place)
            place += 1
            continue
        end = place + 1
        while len(_ending(lines[end], fence[0])) < len(fence):
            end += 1
        inside[place : end + 1] = [True] * (end + 1 - place)
        place = end + 1
    return inside, unclosed


def _longest_ends(lines: Sequence[str]) -> Mapping[str, list[int]]:
    """For each kind of fence: how long the longest one is that may end code at a line or later.

    So that nothing is looked for twice: otherwise a crafted file would cost quadratic time.
    """
    longest = {mark: [0] * (len(lines) + 1) for mark in "`~"}
    for mark, lengths in longest.items():
        for place in range(len(lines) - 1, -1, -1):
            lengths[place] = max(lengths[place + 1], len(_ending(lines[place], mark)))
    return longest


def _opening(line: str) -> str | None:
    """The fence that a line begins code with, if it does."""
    indented = _INDENTED.fullmatch(line)
    fence = _FENCE.fullmatch(indented[2]) if indented else None
    if fence is None or (fence[1][0] == "`" and "`" in fence[2]):
        return None
    return fence[1]


def _ending(line: str, mark: str) -> str:
    """The fence of this kind that a line may end code with; empty when there is none."""
    indented = _INDENTED.fullmatch(line)
    fence = indented[2].rstrip(" \t") if indented else ""
    return fence if len(fence) >= 3 and fence == mark * len(fence) else ""


def _means_something(indent: str, rest: str, *, first: bool) -> bool:
    """Whether a line is none of free text; `first` is right below a heading with settings."""
    if not indent and (_HEADING.fullmatch(rest) or (first and _ITEM.fullmatch(rest))):
        return True
    return _opening(rest) is not None and not rest.startswith(" ")


def _escaped(text: str, *, first: bool) -> str:
    """Free text as it stands in a file."""
    lines = tidy_text(text).split("\n")
    inside, _ = _code(lines)
    return "\n".join(
        line if is_code else _with_backslash(line, first=first and place == 0)
        for place, (line, is_code) in enumerate(zip(lines, inside, strict=True))
    )


def _with_backslash(line: str, *, first: bool) -> str:
    indent, backslashes, rest = _parted(line)
    if not _means_something(indent, rest, first=first):
        return line
    return f"{indent}\\{backslashes}{rest}"


def _without_backslash(line: str, *, first: bool) -> str:
    indent, backslashes, rest = _parted(line)
    if not backslashes or not _means_something(indent, rest, first=first):
        return line
    return f"{indent}{backslashes[1:]}{rest}"


def _parted(line: str) -> tuple[str, str, str]:
    found = _BACKSLASHES.fullmatch(line)
    return (found[1], found[2], found[3]) if found else ("", "", line)


# -- writing --------------------------------------------------------------------------------------


def format(template: Template) -> str:  # noqa: A001 - it is read as template.format
    """The file of a template, in the one order and with the one layout."""
    settings = {DOMAIN: template.domain, AGENT: template.agent, TOOLS: _tools(template.tools)}
    blocks = [
        f"# {tidy_line(template.name)}",
        _settings(settings),
        _escaped(template.description, first=True),
    ]
    if prompt := _escaped(template.prompt, first=False):
        blocks += [f"## {PROMPT}", prompt]
    if template.sessions:
        blocks.append(f"## {SESSIONS}")
    for one in template.sessions:
        blocks += _session(one)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _session(session: TemplateSession) -> list[str]:
    blocks = [
        f"### {tidy_line(session.title)}",
        _settings({AGENT: session.agent}),
        _escaped(session.request, first=True),
    ]
    if session.schema:
        fields = session.schema.as_json().items()
        blocks += [f"#### {DISPOSITION}", _list(f"{name}: {type_}" for name, type_ in fields)]
    if session.dependencies:
        blocks += [f"#### {DEPENDS}", _list(_dependency(one) for one in session.dependencies)]
    return blocks


def _settings(values: Mapping[str, str | None]) -> str:
    tidy = {name: tidy_line(value or "") for name, value in values.items()}
    return _list(f"{name}: {value}" for name, value in tidy.items() if value)


def _tools(tools: Sequence[str] | None) -> str | None:
    return None if tools is None else ", ".join(tools) or NO_TOOLS


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {one}" for one in items)


def _dependency(one: TemplateDependency) -> str:
    title = tidy_line(one.title)
    if one.field is not None:
        value = re.sub(r"[\\\[]", r"\\\g<0>", one.value or "")
        return f"{title} [{one.field} = {value}]"
    # A title may look as if it ended in a condition.
    looks_plain = _read_dependency(title) == TemplateDependency(title)
    return title if looks_plain else f"{title} [{COMPLETE}]"


def _read_dependency(written: str) -> TemplateDependency:
    if not written.endswith("]") or " [" not in written:
        return TemplateDependency(tidy_line(written))
    title, _, condition = written[:-1].rpartition(" [")
    name, equals, value = (part.strip() for part in condition.partition("="))
    if equals:
        return TemplateDependency(tidy_line(title), name, _ESCAPED.sub(r"\1", value))
    if name.casefold() == COMPLETE:
        return TemplateDependency(tidy_line(title))
    return TemplateDependency(tidy_line(written))


# -- reading --------------------------------------------------------------------------------------


def parse(source: str) -> Template:
    """Read the file of a template. Raises TemplateProblems with every problem of it."""
    cleaned = clean(source).removeprefix("\ufeff")
    if len(cleaned.encode()) > LONGEST:
        raise TemplateProblems([Problem(1, f"the file is too long; at most {LONGEST} bytes")])
    reader = _Reader()
    template = reader.read(_lines(cleaned))
    if reader.problems:
        raise TemplateProblems(_told(sorted(reader.problems)))
    return template


def name_line(source: str) -> int:
    """The line of the name in a file that was read without a problem."""
    lines = _lines(source.removeprefix("\ufeff"))
    return next((place for place, line in enumerate(lines, start=1) if line.strip()), 1)


def _told(problems: Sequence[Problem]) -> Sequence[Problem]:
    if len(problems) <= MOST_PROBLEMS:
        return problems
    rest = problems[MOST_PROBLEMS:]
    return [*problems[:MOST_PROBLEMS], Problem(rest[0].line, f"and {len(rest)} more problems")]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is no heading."""

    number: int
    text: str
    code: bool

    @property
    def blank(self) -> bool:
        return not self.text.strip()

    @property
    def item(self) -> str | None:
        """What it says as a line of a list; None when it is none."""
        found = None if self.code else _ITEM.fullmatch(self.text)
        return (found[1] or "").strip() if found else None


@dataclass(slots=True)
class _Part:
    """A heading and what stands below it until the next one."""

    number: int
    level: int
    title: str
    body: list[_Line] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return f"{'#' * self.level} {_short(self.title)}"


@dataclass(slots=True)
class _Draft:
    """A session on its way."""

    line: int
    title: str
    request: str
    agent: str | None
    schema: Schema | None = None
    schema_known: bool = True
    """Whether its schema could be read, if it has one."""
    dependencies: list[tuple[int, TemplateDependency]] = field(default_factory=list)
    sections: set[str] = field(default_factory=set)

    def session(self) -> TemplateSession:
        wanted = tuple(one for _, one in self.dependencies)
        return TemplateSession(self.title, self.request, self.schema, wanted, self.agent)


class _Reader:
    """Reads on behind every problem, and remembers them all."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._name: _Part | None = None
        self._settings: Mapping[str, str] = {}
        self._description = ""
        self._prompt = ""
        self._sections: set[str] = set()
        self._inside: str | None = ""
        """The section that the next heading is in, empty in none and None in one unknown."""
        self._drafts: list[_Draft] = []

    def read(self, lines: Sequence[str]) -> Template:
        for part in self._parts(lines):
            match part.level:
                case 1:
                    self._read_name(part)
                case 2:
                    self._read_section(part)
                case 3:
                    self._read_session(part)
                case _:
                    self._read_part_of_session(part)
        if self._name is None and not self.problems:
            self._wrong(1, "begin with # and the name of the template")
        self._check_sessions()
        return Template(
            name=self._name.title if self._name else "",
            description=self._description,
            domain=self._settings.get(DOMAIN, ""),
            prompt=self._prompt,
            agent=self._settings.get(AGENT),
            tools=_split(self._settings.get(TOOLS)),
            sessions=tuple(one.session() for one in self._drafts),
        )

    def _wrong(self, line: int, message: str) -> None:
        self.problems.append(Problem(line, message))

    def _parts(self, lines: Sequence[str]) -> list[_Part]:
        inside, unclosed = _code(lines)
        for place in unclosed:
            self._wrong(
                place + 1,
                "this code fence is never closed; close it, or write a backslash before it",
            )
        parts: list[_Part] = []
        before = None
        for number, (line, is_code) in enumerate(zip(lines, inside, strict=True), start=1):
            heading = None if is_code else _HEADING.fullmatch(line)
            if heading:
                parts.append(_Part(number, len(heading[1]), tidy_line(heading[2] or "")))
            elif parts:
                parts[-1].body.append(_Line(number, line, is_code))
            elif before is None and line.strip():
                before = number
        if before is not None:
            self._wrong(before, "nothing stands before the name: begin with # and the name")
        elif parts and parts[0].level != 1:
            self._wrong(parts[0].number, "the name comes first: begin with # and the name")
        return parts

    # -- the project -------------------------------------------------------------------------

    def _read_name(self, part: _Part) -> None:
        if self._name is not None:
            self._inside = None
            self._wrong(
                part.number,
                f"the name is in line {self._name.number}; in a text write \\# for a heading",
            )
            return
        self._name = part
        problem = name_problem(part.title)
        if problem:
            self._wrong(part.number, problem)
        self._settings, rest = self._read_settings(part.body, (DOMAIN, AGENT, TOOLS))
        self._description = self._text(part, rest, "description", first=True)

    def _read_section(self, part: _Part) -> None:
        known = _meant(part.title, (PROMPT, SESSIONS))
        self._inside = known
        if known is None:
            self._unknown(part, f"there are ## {PROMPT} and ## {SESSIONS}")
            return
        if known in self._sections:
            self._wrong(part.number, f"## {known} is there twice")
        self._sections.add(known)
        if known == PROMPT:
            self._prompt = self._text(part, part.body, "prompt", first=False)
        elif said := [one for one in part.body if not one.blank]:
            self._wrong(
                said[0].number, f"below ## {SESSIONS} each session begins with ### and its title"
            )

    def _unknown(self, part: _Part, there_are: str) -> None:
        self._wrong(
            part.number,
            f"there is no heading “{part.shown}” here; {there_are}; in a text write "
            f"\\{'#' * part.level} for a heading",
        )

    # -- its sessions ------------------------------------------------------------------------

    def _read_session(self, part: _Part) -> None:
        if self._inside != SESSIONS:
            if self._inside is not None:
                self._unknown(part, f"sessions stand below ## {SESSIONS}")
            return
        settings, rest = self._read_settings(part.body, (AGENT,))
        request = self._text(part, rest, "request", first=True)
        if not 1 <= len(part.title) <= LONGEST_TITLE:
            self._wrong(part.number, f"a title of 1 to {LONGEST_TITLE} characters is needed")
        if not request:
            self._wrong(
                part.number,
                f"“{_short(part.title)}” has no request; write below the heading what it is about",
            )
        self._drafts.append(_Draft(part.number, part.title, request, settings.get(AGENT)))
        if len(self._drafts) == MOST_SESSIONS + 1:
            self._wrong(part.number, f"a template has at most {MOST_SESSIONS} sessions")

    def _read_part_of_session(self, part: _Part) -> None:
        if self._inside != SESSIONS or not self._drafts:
            if self._inside is not None:
                self._unknown(part, f"it is part of a session below ## {SESSIONS}")
            return
        draft = self._drafts[-1]
        known = _meant(part.title, (DISPOSITION, DEPENDS))
        if known is None:
            self._unknown(part, f"a session has #### {DISPOSITION} and #### {DEPENDS}")
            return
        if known in draft.sections:
            self._wrong(part.number, f"#### {known} is there twice in “{_short(draft.title)}”")
        draft.sections.add(known)
        items = self._items(part)
        if known == DISPOSITION:
            self._read_schema(draft, items)
        else:
            draft.dependencies += [(number, _read_dependency(item)) for number, item in items]

    def _items(self, part: _Part) -> list[tuple[int, str]]:
        """The lines of a list, which is all that may stand there."""
        items, stray, strays = [], False, 0
        for line in part.body:
            item = line.item
            if item is not None:
                items.append((line.number, item))
            elif not line.blank and not stray:
                strays += 1
                self._wrong(
                    line.number, f"below {part.shown} there is a list, each line after “- ”"
                )
            stray = item is None and not line.blank
        if not items and not strays:
            self._wrong(part.number, f"the list of {part.shown} is empty; leave the heading out")
        return items

    def _read_schema(self, draft: _Draft, items: Sequence[tuple[int, str]]) -> None:
        written: dict[str, str] = {}
        before = len(self.problems)
        for number, item in items:
            name, colon, type_ = (part.strip() for part in item.partition(":"))
            if not colon:
                self._wrong(number, "write a field as “name: A|B|C”, “name: Number” or such")
            elif name in written:
                self._wrong(number, f"there is a field {_short(name)!r} already")
            else:
                written[name] = type_
                self._check_field(number, name, type_)
        if len(written) > MOST_FIELDS:
            self._wrong(items[MOST_FIELDS][0], f"a disposition has at most {MOST_FIELDS} fields")
        if len(self.problems) > before or not written:
            draft.schema_known = False
        else:
            draft.schema = Schema.parse(written)

    def _check_field(self, number: int, name: str, type_: str) -> None:
        try:
            Schema.parse({name: type_})
        except BadInput as error:
            self._wrong(number, str(error).removeprefix("schema."))

    # -- what several have in common ---------------------------------------------------------

    def _read_settings(
        self, body: Sequence[_Line], known: Sequence[str]
    ) -> tuple[dict[str, str], Sequence[_Line]]:
        """The settings right below a heading, and the text behind them."""
        found: dict[str, str] = {}
        for place, line in enumerate(body):
            if line.blank:
                continue
            if line.item is None:
                return found, body[place:]
            self._read_setting(line.number, line.item, known, found)
        return found, ()

    def _read_setting(
        self, number: int, item: str, known: Sequence[str], found: dict[str, str]
    ) -> None:
        written, colon, value = item.partition(":")
        name = _meant(tidy_line(written), known) if colon else None
        if name is None:
            self._wrong(
                number,
                f"there is no setting “{_short(written)}” here, but {', '.join(known)}; a text "
                "that begins with a list begins with a backslash: \\-",
            )
        elif name in found:
            self._wrong(number, f"{name} is there twice")
        else:
            found[name] = tidy_line(value)
            self._check_setting(number, name, found[name])

    def _check_setting(self, number: int, name: str, value: str) -> None:
        most = LONGEST_TEXTS["domain"] if name == DOMAIN else LONGEST_WORD
        words = value.split(",") if name == TOOLS else [value]
        if not value:
            self._wrong(number, f"{name}: say which, or leave the line out")
        elif not all(one.strip() for one in words):
            self._wrong(number, f"{name}: write names with one comma between them")
        elif max(len(one.strip()) for one in words) > most:
            self._wrong(number, f"{name}: at most {most} characters")

    def _text(self, part: _Part, lines: Sequence[_Line], name: str, *, first: bool) -> str:
        said = [place for place, line in enumerate(lines) if not line.blank]
        if not said:
            return ""
        text = "\n".join(
            line.text if line.code else _without_backslash(line.text, first=first and place == 0)
            for place, line in enumerate(lines[said[0] : said[-1] + 1])
        )
        most = LONGEST_TEXTS.get(name, LONGEST)
        if len(text) > most:
            self._wrong(part.number, f"the {name} is too long; at most {most} characters")
        return text

    # -- sessions together -------------------------------------------------------------------

    def _check_sessions(self) -> None:
        titles: dict[str, _Draft] = {}
        for draft in self._drafts:
            first = titles.setdefault(draft.title.casefold(), draft)
            if first is not draft and draft.title:
                self._wrong(
                    draft.line,
                    f"there is a session “{_short(draft.title)}” in line {first.line} already; "
                    "capital letters make no difference",
                )
        for draft in self._drafts:
            self._check_dependencies(draft, titles)
        self._check_circles()

    def _check_dependencies(self, draft: _Draft, titles: Mapping[str, _Draft]) -> None:
        if len(draft.dependencies) > MOST_DEPENDENCIES:
            line = draft.dependencies[MOST_DEPENDENCIES][0]
            self._wrong(line, f"a session depends on at most {MOST_DEPENDENCIES} others")
        kept: dict[str, tuple[int, TemplateDependency]] = {}
        for line, one in draft.dependencies:
            upstream = titles.get(one.title.casefold())
            problems = _dependency_problems(one, draft, upstream)
            if upstream is not None and upstream.title in kept:
                problems = [f"“{_short(one.title)}” is named twice"]
            for problem in problems:
                self._wrong(line, problem)
            if upstream is not None and upstream is not draft:
                kept.setdefault(upstream.title, (line, replace(one, title=upstream.title)))
        draft.dependencies = list(kept.values())

    def _check_circles(self) -> None:
        edges = {
            SessionId(draft.title): [SessionId(one.title) for _, one in draft.dependencies]
            for draft in self._drafts
        }
        told: set[str] = set()
        for draft in self._drafts:
            start = SessionId(draft.title)
            way = circle(start, edges[start], edges) if start not in told else []
            told.update(way)
            lines = [line for line, one in draft.dependencies if one.title in way[1:2]]
            if lines:
                names = " → ".join(f"“{_short(one)}”" for one in way)
                self._wrong(lines[0], f"these wait for each other in a circle: {names}")


def _dependency_problems(
    one: TemplateDependency, draft: _Draft, upstream: _Draft | None
) -> list[str]:
    if upstream is None:
        return [f"there is no session “{_short(one.title)}” in this template"]
    if upstream is draft:
        return ["a session cannot depend on itself"]
    if one.field is None or not upstream.schema_known:
        return []
    nobody = SessionId("")
    return condition_problems(
        Dependency(nobody, one.field, one.value),
        Upstream(nobody, upstream.title, schema=upstream.schema),
    )


def _meant(written: str, known: Iterable[str]) -> str | None:
    """Which of the known names somebody wrote, whatever its capitals."""
    return next((one for one in known if one.casefold() == written.casefold()), None)


def _split(tools: str | None) -> tuple[str, ...] | None:
    if tools is None:
        return None
    if tools == NO_TOOLS:
        return ()
    return tuple(dict.fromkeys(one.strip() for one in tools.split(",")))


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
