"""Templates over posts: what they can say, and what no sender can make them do."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.core.prompt import Prompt
from service.errors import BadInput

ISSUE = {"title": "It breaks", "labels": [{"name": "bug"}, {"name": "urgent"}], "body": None}


def render(source: str, **values: Any) -> str:
    return Prompt.parse(source).render(values)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Triage: {{ payload.title }}", "Triage: It breaks"),
        ("{{ payload['title'] | upper }}", "IT BREAKS"),
        ("{{ payload.labels | map(attribute='name') | join(', ') }}", "bug, urgent"),
        ("{{ payload.labels | join('+', attribute='name') }}", "bug+urgent"),
        (
            "{% for one in payload.labels %}{{ loop.index }}{{ one.name }} {% endfor %}",
            "1bug 2urgent ",
        ),
        (
            "{% for one in payload.labels %}{{ loop.length }}{{ loop.last }}{% endfor %}",
            "2false2true",
        ),
        ("{% if 'bug' in payload.labels|map(attribute='name') %}bug{% endif %}", "bug"),
        ("{{ payload.milestone | default('none') }}", "none"),
        ("{{ payload.body }}.", "."),
        ("{{ payload.labels }}", '[{"name": "bug"}, {"name": "urgent"}]'),
        ("{{ payload.title is defined }} {{ payload.x is defined }}", "true false"),
        ("{{ payload.title | replace('It', 'All') }}", "All breaks"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ payload.labels|length + 1 }} {{ 7 % 4 }} {{ 2 ** 10 }}", "3 3 1024"),
        ("{{ '-' * 3 }}{{ 'a' + 'b' }}{{ 'a' ~ 1 }}", "---aba1"),
        ("{% for name, value in payload.items() %}{{ name }} {% endfor %}", "title labels body "),
        (
            "{% set ns = namespace(n=0) %}{% for l in payload.labels %}{% set ns.n = ns.n + 1 %}"
            "{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{% macro tag(text) %}<{{ text }}>{% endmacro %}{{ tag(payload.title) }}", "<It breaks>"),
        ("{{ payload.title.split(' ') | first }}", "It"),
    ],
)
def test_a_template_says_what_the_post_holds(source: str, expected: str) -> None:
    """Text as it is, everything else as JSON, null as nothing."""
    assert expected == render(source, payload=ISSUE)


def test_everything_of_a_post_has_a_name() -> None:
    """Body, query, headers and the webhook itself, beside the payload."""
    made = render(
        "{{ webhook }} {{ body }} {{ query.q }} {{ headers['x-github-event'] }}",
        webhook="issues",
        body="raw",
        query={"q": "1"},
        headers={"x-github-event": "push"},
    )

    assert made == "issues raw 1 push"


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "copy", "pop", "update"])
def test_a_field_comes_before_a_method(name: str) -> None:
    """What the sender calls `items` is not ours to explain."""
    assert render(f"{{{{ payload.{name} }}}}", payload={name: "theirs"}) == "theirs"


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% for %}", "{# no #}", "{{ payload }}"])
def test_a_post_is_never_a_template(text: str) -> None:
    """Braces inside are words like any other."""
    assert text == render("{{ payload.text }}{{ body[:0] }}", payload={"text": text}, body=text)


def test_the_same_template_serves_many_posts() -> None:
    """Nothing stays behind from one to the next."""
    prompt = Prompt.parse("{% for one in payload %}{{ one }}{% endfor %}")
    many = [prompt.render({"payload": [1] * 1000}) for _ in range(300)]

    assert many == ["1" * 1000] * 300


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ payload.title", "unexpected end of template"),
        ("a\nb {% for %}", r"\(line 2\)"),
        ("{{ payload | nope }}", "nope"),
        ("{{ payload is nope }}", "nope"),
        ("{{ payload | center(80) }}", "center"),
        ("{{ payload | format(1) }}", "format"),
        ("{{ payload | attr('x') }}", "attr"),
        ("{{ paylod.title }}", "paylod; there are: body, headers, payload, query, webhook"),
        ("{{ lipsum(9) }}", "lipsum"),
        ("{% endif %}", "endif"),
    ],
)
def test_mistakes_are_told_before_anything_runs(source: str, expected: str) -> None:
    """With the line, and with the names there are."""
    with pytest.raises(BadInput, match=expected):
        Prompt.parse(source)


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("{{ payload.titel }}", {"payload": ISSUE}, "titel"),
        ("{{ payload.user.name }}", {"payload": ISSUE}, "user"),
        ("{{ payload.title }}", {}, "Content-Type: application/json"),
        ("{% for one in payload.x %}{% endfor %}", {"payload": ISSUE}, "x"),
        ("{{ headers['x-none'] }}", {"headers": {}}, "x-none"),
        ("{{ payload.title }}", {"payload": []}, "title"),
        ("{{ payload + 1 }}", {"payload": "a"}, "does not fit"),
        ("{{ 1 / payload }}", {"payload": 0}, "division"),
        ("{% include 'x' %}", {}, "loader"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}, "recursion"),
    ],
)
def test_a_post_that_does_not_fit_is_told_why(
    source: str, values: dict[str, Any], expected: str
) -> None:
    """A missing field is not an empty one: the agent would be asked about nothing."""
    with pytest.raises(BadInput, match=expected):
        render(source, **values)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ payload.__class__.__mro__ }}",
        "{{ payload['__class__'] }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ payload.list.append(1) }}",
        "{{ payload.list.pop() }}",
    ],
)
def test_nothing_behind_the_values_can_be_reached(source: str) -> None:
    """Neither Python's insides nor a way to change what was received."""
    payload = {"list": [1]}

    with pytest.raises(BadInput):
        render(source, payload=payload)
    assert payload == {"list": [1]}


BIG = list(range(100_000))


@pytest.mark.parametrize(
    ("source", "payload"),
    [
        ("{{ '=' * payload }}", 10**12),
        ("{{ payload * '=' }}", 10**12),
        ("{{ [0] * payload }}", 10**12),
        ("{{ 10 ** payload }}", 10**9),
        ("{{ payload ** payload }}", 10**9),
        ("{{ '%999999999d' % payload }}", 1),
        ("{{ payload % 1 }}", "%999999999d"),
        ("{{ payload.format(1) }}", "{:>999999999}"),
        ("{{ 'x'.ljust(payload) }}", 10**9),
        ("{{ payload | replace('a', payload) }}", "a" * 100_000),
        ("{{ payload | replace('', payload) }}", "a" * 100_000),
        ("{{ payload | list | join(payload) }}", "a" * 20_000),
        ("{{ 'a\nb' | indent(payload) }}", 10**9),
        ("{{ range(payload) | list }}", 10**9),
        ("{% for a in range(payload) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", 9999),
        ("{% for a in payload %}{% for b in payload %}{% endfor %}{% endfor %}", BIG),
        ("{% for a in payload %}{% if a in payload %}{% endif %}{% endfor %}", BIG),
        ("{% for a in payload %}{% set x = payload|sort %}{% endfor %}", BIG),
        ("{% for a in payload %}{% set x = payload|select('odd')|list %}{% endfor %}", BIG),
        ("{% for a in payload|map('abs') %}{% for b in payload %}{% endfor %}{% endfor %}", BIG),
        ("{{ payload }}", "x" * 200_001),
        ("{% for a in payload %}{{ a }}{% endfor %}", ["x" * 1000] * 201),
    ],
)
def test_no_sender_makes_a_template_large_or_slow(source: str, payload: object) -> None:
    """Numbers and lists of the sender may grow; what is made of them is bounded."""
    prompt = Prompt.parse(source)
    begun = time.process_time()
    with pytest.raises(BadInput):
        prompt.render({"payload": payload})

    assert time.process_time() - begun < 0.5


def test_a_text_up_to_the_limit_is_made() -> None:
    """The bound is where it is said to be."""
    assert render("{{ body }}", body="x" * 200_000) == "x" * 200_000


def test_a_whole_large_list_is_read() -> None:
    """Walking once through everything a post can hold is what templates are for."""
    assert render("{{ payload | sum }}", payload=BIG) == str(sum(BIG))
