"""Templates: what is written is read as what it was, and every mistake is told with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.disposition import Schema
from service.core.template import (
    LONGEST,
    MOST_PROBLEMS,
    Template,
    TemplateDependency,
    TemplateProblems,
    TemplateSession,
    format,  # noqa: A004 - it is read as template.format
    name_line,
    parse,
    tidy_line,
    tidy_text,
)

DOCUMENT = Path(__file__).parents[2] / "docs/templates.md"

WHOLE = """\
# Chargebacks

- Domain: Payments
- Agent: analyst
- Tools: data:sales, http_get

Find out why chargebacks rose.

## Prompt

Amounts are in cents.

\\## Not a heading

```sh
# neither is this
```

## Sessions

### Find the rise

Which weeks?

#### Disposition

- verdict: REAL|NOISE
- weeks: list of Number

### Explain it

- Agent: coder

\\- Look at merchants
- Look at countries

#### Depends on

- Find the rise [verdict = REAL]
"""
CHARGEBACKS = Template(
    name="Chargebacks",
    description="Find out why chargebacks rose.",
    domain="Payments",
    prompt="Amounts are in cents.\n\n## Not a heading\n\n```sh\n# neither is this\n```",
    agent="analyst",
    tools=("data:sales", "http_get"),
    sessions=(
        TemplateSession(
            "Find the rise",
            "Which weeks?",
            Schema.parse({"verdict": "REAL|NOISE", "weeks": "list of Number"}),
        ),
        TemplateSession(
            "Explain it",
            "- Look at merchants\n- Look at countries",
            None,
            (TemplateDependency("Find the rise", "verdict", "REAL"),),
            "coder",
        ),
    ),
)


# -- what is read ---------------------------------------------------------------------------------


def test_a_file_is_read_as_what_it_says() -> None:
    """Settings, texts, dispositions and dependencies; escaped lines without their backslash."""
    assert parse(WHOLE) == CHARGEBACKS


def test_a_template_is_written_in_one_layout() -> None:
    """The one of the example, blank lines and all."""
    assert format(CHARGEBACKS) == WHOLE


def test_a_name_is_enough() -> None:
    """Everything else may be left out."""
    assert parse("# Empty") == Template("Empty")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("\ufeff\n\n#  A \t B \n", Template("A B")),
        ("# A\r\n\r\nx  \r\ny\rz\r\n", Template("A", "x  \ny\nz")),
        ("# A\n\n\n    code first\n\n\n", Template("A", "    code first")),
        ("# A\n* domain:  D\n\n+ TOOLS: (none)\nx", Template("A", "x", "D", tools=())),
        ("# A\n- Tools: a , b,a", Template("A", tools=("a", "b"))),
        ("# A\n##PROMPT\n## prompt\nx", Template("A", "##PROMPT", prompt="x")),
        ("# A\n##### five\n #one", Template("A", "##### five\n #one")),
        ("# A\n## Prompt\n- x\n- y", Template("A", prompt="- x\n- y")),
        ("# A\nx\n- Domain: y", Template("A", "x\n- Domain: y")),
        ("# A\n\\\\# x\n\\y", Template("A", "\\# x\n\\y")),
        ("# A\n~~~\n```\n# x\n~~~~ ", Template("A", "~~~\n```\n# x\n~~~~ ")),
        ("# A\n``` `\n\\# x", Template("A", "``` `\n# x")),
        ("# A\n  \\```", Template("A", "  ```")),
        ("# A\n\x00\ud800", Template("A", "\ufffd\ufffd")),
    ],
)
def test_people_may_write_it_as_they_like(source: str, expected: Template) -> None:
    """Line ends, blank lines, capitals of the words of the format, signs of lists."""
    assert parse(source) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("- b", TemplateDependency("B")),
        ("- B [complete]", TemplateDependency("B")),
        ("- B [v=X]", TemplateDependency("B", "v", "X")),
        ("- B [ v = Y\\[Z ]", TemplateDependency("B", "v", "Y[Z")),
        ("- B [v = X] ", TemplateDependency("B", "v", "X")),
        ("- b [x]", TemplateDependency("B [x]")),
        ("- B [v = X] [complete]", TemplateDependency("B [v = X]")),
    ],
)
def test_a_dependency_is_a_title_with_or_without_a_condition(
    written: str, expected: TemplateDependency
) -> None:
    """Titles may look like conditions; capitals of a title make no difference."""
    source = (
        f"# A\n## Sessions\n### A\nx\n#### Depends on\n{written}\n"
        "### B\nx\n#### Disposition\n- v: X|Y[Z\n### B [x]\nx\n### B [v = X]\nx\n"
    )

    assert parse(source).sessions[0].dependencies == (expected,)


def test_a_session_may_wait_for_a_later_one() -> None:
    """Their order is for people."""
    sessions = "### A\nx\n#### Depends on\n- B\n### B\nx\n"

    assert parse(f"# T\n## Sessions\n{sessions}").sessions[0].dependencies[0].title == "B"


def test_the_example_of_the_document_is_a_template() -> None:
    """Whoever copies it can store it, and it is laid out as the service would do it."""
    text = DOCUMENT.read_text("utf-8")
    example = text.split("````markdown\n")[1].split("````\n")[0]

    template = parse(example)

    assert format(template) == example
    assert all(
        (template.description, template.domain, template.prompt, template.agent, template.tools)
    )
    assert any(one.dependencies for one in template.sessions)
    assert any(one.schema for one in template.sessions)


def test_the_line_of_the_name_is_known() -> None:
    """For what only its place in the service tells."""
    assert name_line("\ufeff\n\n# A\n") == 3


# -- what is told ---------------------------------------------------------------------------------

ONE = "# T\n## Sessions\n### A\nx\n"
VERDICT = "### B\nx\n#### Disposition\n- verdict: X|Y\n- amount: Number\n"

BROKEN = [
    ("", 1, "begin with # and the name"),
    ("\n\n", 1, "begin with # and the name"),
    ("\nhello\n# T", 2, "nothing stands before the name"),
    ("- Domain: x", 1, "nothing stands before the name"),
    ("## Prompt\nx", 1, "the name comes first"),
    ("## Prompt\nx\n# T", 1, "the name comes first"),
    ("#", 1, "a name of 1 to 100 characters"),
    (f"# {'x' * 101}", 1, "a name of 1 to 100 characters"),
    ("# a/b", 1, "without /"),
    ("# ..", 1, "without /"),
    ("# a\u200eb", 1, "write the name on one line"),
    ("# T\n# U", 2, "the name is in line 1;"),
    ("# T\n## Prompts", 2, "there is no heading “## Prompts” here; there are ## Prompt and"),
    ("# T\n##", 2, "there is no heading “## ” here"),
    ("# T\n## Prompt\n## Prompt", 3, "## Prompt is there twice"),
    ("# T\n## Sessions\n## Sessions", 3, "## Sessions is there twice"),
    ("# T\n## Sessions\n\nfirst\nsecond", 4, "each session begins with ### and its title"),
    ("# T\n### A\nx", 2, "sessions stand below ## Sessions"),
    ("# T\n## Prompt\n### A\nx", 3, "in a text write \\### for a heading"),
    ("# T\n## Prompt\n#### A\nx", 3, "it is part of a session"),
    ("# T\n## Sessions\n#### Disposition\n- a: A|B", 3, "it is part of a session"),
    (f"{ONE}#### Dispositions\n- a: A|B", 5, "a session has #### Disposition and"),
    ("# T\n- Owner: me", 2, "there is no setting “Owner” here, but Domain, Agent, Tools"),
    ("# T\n- look at this", 2, "there is no setting “look at this” here"),
    ("# T\n-", 2, "there is no setting “” here"),
    ("# T\n- Agent: a\n- agent: b", 3, "Agent is there twice"),
    ("# T\n- Domain:", 2, "Domain: say which, or leave the line out"),
    ("# T\n- Tools: a,,b", 2, "Tools: write names with one comma"),
    (f"# T\n- Domain: {'x' * 121}", 2, "Domain: at most 120 characters"),
    (f"# T\n- Agent: {'x' * 256}", 2, "Agent: at most 255 characters"),
    (f"# T\n{'x' * 4001}", 1, "the description is too long; at most 4000 characters"),
    (f"# T\n## Prompt\n{'x' * 20_001}", 2, "the prompt is too long; at most 20000 characters"),
    ("# T\n## Sessions\n### A\n- Tools: a\nx", 4, "there is no setting “Tools” here, but Agent"),
    ("# T\n## Sessions\n### A\n\n \n", 3, "“A” has no request"),
    ("# T\n## Sessions\n###\nx", 3, "a title of 1 to 200 characters"),
    (f"# T\n## Sessions\n### {'x' * 201}\nx", 3, "a title of 1 to 200 characters"),
    (f"{ONE}### a\nx", 5, "there is a session “a” in line 3 already"),
    (f"{ONE}#### Disposition\n", 5, "the list of #### Disposition is empty"),
    (f"{ONE}#### Depends on\n\n", 5, "the list of #### Depends on is empty"),
    (f"{ONE}#### Disposition\n- a: A|B\nand\nso\n- b: A|B", 7, "there is a list"),
    (f"{ONE}#### Disposition\n```\n- a: A|B\n```\n", 6, "there is a list"),
    (f"{ONE}#### Disposition\n- a: A|B\n#### disposition\n- b: A|B", 7, "is there twice in “A”"),
    (f"{ONE}#### Disposition\n- a", 6, "write a field as “name: A|B|C”"),
    (f"{ONE}#### Disposition\n- a: A", 6, "a: write A|B|C for one of several values"),
    (f"{ONE}#### Disposition\n- a: Date", 6, "a: write A|B|C"),
    (f"{ONE}#### Disposition\n- a: A|A", 6, "a: names a value twice"),
    (f"{ONE}#### Disposition\n- 1: A|B", 6, "'1': a field is called by"),
    (f"{ONE}#### Disposition\n- a: A|B\n- a: C|D", 7, "there is a field 'a' already"),
    (f"{ONE}#### Depends on\n- C", 6, "there is no session “C” in this template"),
    (f"{ONE}#### Depends on\n- [a = b]", 6, "there is no session “[a = b]”"),
    (f"{ONE}#### Depends on\n- a", 6, "a session cannot depend on itself"),
    (f"{ONE}#### Depends on\n- B\n- b\n{VERDICT}", 7, "“b” is named twice"),
    (f"{ONE}#### Depends on\n- B [x = X]\n{VERDICT}", 6, "“B” has no field 'x' of the kind"),
    (f"{ONE}#### Depends on\n- B [amount = 1]\n{VERDICT}", 6, "“B” has no field 'amount'"),
    (f"{ONE}#### Depends on\n- B [verdict = Z]\n{VERDICT}", 6, "takes one of X, Y, not 'Z'"),
    (f"{ONE}#### Depends on\n- B [v = X]\n### B\nx", 6, "“B” has no disposition schema"),
    (
        f"{ONE}#### Depends on\n- B\n### B\nx\n#### Depends on\n- A",
        6,
        "these wait for each other in a circle: “A” → “B” → “A”",
    ),
    ("# T\n```\n# x", 2, "this code fence is never closed"),
    (f"# T\n{'x' * LONGEST}", 1, "the file is too long; at most 200000 bytes"),
]


@pytest.mark.parametrize(("source", "line", "message"), BROKEN)
def test_a_mistake_is_told_with_its_line(source: str, line: int, message: str) -> None:
    """What is wrong and what to do about it, and nothing that only follows from it."""
    with pytest.raises(TemplateProblems) as refused:
        parse(source)

    told = [one for one in refused.value.problems if message in one.message]
    assert [one.line for one in told] == [line], refused.value.problems
    # A heading that is no heading leaves what stands below it out of its place.
    assert len(refused.value.problems) <= 2


def test_every_problem_is_told_at_once() -> None:
    """In the order of the lines."""
    source = (
        "# T\n- Owner: me\n## Setup\n### x\n## Sessions\n### A\n#### Disposition\n- a: A\n"
        "### B\nx\n#### Depends on\n- A [a = X]\n- C\n"
    )

    with pytest.raises(TemplateProblems) as refused:
        parse(source)

    assert [one.line for one in refused.value.problems] == [2, 3, 6, 8, 13]
    assert str(refused.value).startswith("line 2: there is no setting “Owner”")


def test_there_are_most_sessions_and_dependencies() -> None:
    """More than that is told where it begins."""
    sessions = "".join(f"### {n}\nx\n" for n in range(201))
    wanted = "".join(f"- {n}\n" for n in range(51))

    with pytest.raises(TemplateProblems) as refused:
        parse(f"# T\n## Sessions\n{sessions}#### Depends on\n{wanted}")

    assert [(one.line, one.message) for one in refused.value.problems] == [
        (403, "a template has at most 200 sessions"),
        (456, "a session depends on at most 50 others"),
    ]


def test_what_is_wrong_all_over_is_told_in_part() -> None:
    """Nobody reads a thousand problems."""
    with pytest.raises(TemplateProblems) as refused:
        parse("# T\n" + "- x\n" * 1000)

    assert len(refused.value.problems) == MOST_PROBLEMS + 1
    assert refused.value.problems[-1].message == "and 800 more problems"


@pytest.mark.parametrize(
    "source",
    [
        "# T\n" + "```a\n" * 39_000,
        "# T\n" + "```\n~~~a\n" * 22_000 + "```",
        "# T\n" + " " * 190_000 + "x\n",
        "# T\n" + "\\" * 190_000 + "#\n",
        "# T\n## Sessions\n### A\nx\n#### Depends on\n- " + " [" * 90_000 + "]\n",
        "# T\n## Sessions\n" + "### A\n" * 33_000,
        "# T\n## Sessions\n"
        + "".join(
            f"### {n}\nx\n#### Depends on\n" + "".join(f"- {m}\n" for m in range(n - 50, n))
            for n in range(50, 250)
        ),
    ],
)
def test_a_crafted_file_costs_no_more_than_a_plain_one(source: str) -> None:
    """Nothing is looked at again and again."""
    began = time.process_time()

    with pytest.raises(TemplateProblems):
        parse(source)

    assert time.process_time() - began < 5


# -- what is written and read again ---------------------------------------------------------------

# Pieces that mean something to the format, more often than chance would have them.
_PIECES = st.sampled_from(
    [
        "# ", "#", "## Prompt", "## Sessions", "### ", "#### Disposition", "#### Depends on",
        "```", "````", "~~~", "``` `", "- ", "-", "* ", "\\", "\\\\", "   ", "    ", "\t", "\n",
        "\n\n", "\r\n", "\r", "\x85", "\u2028", "\ufeff", "a", "- Agent: x",
        "[a = b]", "[complete]",
    ]
)  # fmt: skip
_CHARACTERS = st.text(max_size=8)
ANYTHING = st.lists(_PIECES | _CHARACTERS, max_size=12).map("".join)
TEXT = ANYTHING.map(tidy_text)
LINE = ANYTHING.map(tidy_line)
TITLE = LINE.filter(lambda one: 1 <= len(one) <= 200)
WORD = st.text("abc:_-#[]`", min_size=1, max_size=8)
VALUES = st.lists(
    st.sampled_from(["A", "B = C", "D [e", "\\", "\\[", "x [a = b", "#", "é"]),
    min_size=2,
    max_size=5,
    unique=True,
).map("|".join)
TYPES = VALUES | st.sampled_from(["Number", "optional String", "list of A|B", "optional X|Y"])
SCHEMAS = st.dictionaries(
    st.sampled_from(["verdict", "a", "complete", "second_opinion", "b-1"]),
    TYPES,
    min_size=1,
    max_size=4,
).map(Schema.parse)


@st.composite
def _dependency(draw: st.DrawFn, upstream: TemplateSession) -> TemplateDependency:
    enums = upstream.schema.enums() if upstream.schema else {}
    if not enums or draw(st.booleans()):
        return TemplateDependency(upstream.title)
    name = draw(st.sampled_from(sorted(enums)))
    return TemplateDependency(upstream.title, name, draw(st.sampled_from(enums[name])))


@st.composite
def _sessions(draw: st.DrawFn) -> tuple[TemplateSession, ...]:
    """Sessions of which each waits for some before it, in any order."""
    titles = draw(st.lists(TITLE, max_size=5, unique_by=str.casefold))
    made: list[TemplateSession] = []
    for title in titles:
        wanted = draw(st.lists(st.sampled_from(made), unique_by=id)) if made else []
        made.append(
            TemplateSession(
                title,
                draw(TEXT.filter(bool)),
                draw(st.none() | SCHEMAS),
                tuple(draw(_dependency(one)) for one in wanted),
                draw(st.none() | WORD),
            )
        )
    return tuple(draw(st.permutations(made)))


TEMPLATES = st.builds(
    Template,
    name=LINE.filter(
        lambda one: one.isprintable() and "/" not in one and one not in ("", ".", "..")
    ),
    description=TEXT,
    domain=LINE,
    prompt=TEXT,
    agent=st.none() | WORD,
    tools=st.none() | st.lists(WORD, max_size=3, unique=True).map(tuple),
    sessions=_sessions(),
)


@settings(deadline=None, max_examples=150)
@given(template=TEMPLATES)
def test_what_is_written_is_read_again(template: Template) -> None:
    """Whatever texts, titles and values hold; and it is written the same once more."""
    source = format(template)

    found = parse(source)

    assert found == template
    assert format(found) == source


@settings(deadline=None)
@given(text=ANYTHING)
def test_texts_are_tidied_once(text: str) -> None:
    """A text that is written as it came is read tidy: line ends in LF, no blank ones around."""
    found = parse(format(Template("T", text, prompt=text)))

    assert (found.description, found.prompt) == (tidy_text(text), tidy_text(text))
    assert tidy_text(tidy_text(text)) == tidy_text(text)


@settings(deadline=None)
@given(lines=st.lists(_PIECES | _CHARACTERS, max_size=20))
def test_any_file_is_a_template_or_has_problems(lines: list[str]) -> None:
    """Nothing else is ever raised, and lines are those of the file."""
    source = "\n".join(lines)

    found = _read(source)

    if isinstance(found, Template):
        assert parse(format(found)) == found
    else:
        last = len(source.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        assert all(1 <= one.line <= last for one in found.problems)


def _read(source: str) -> Template | TemplateProblems:
    try:
        return parse(source)
    except TemplateProblems as refused:
        return refused
