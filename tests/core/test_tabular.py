"""Tables: what counts as one, how it is written for models and spreadsheets, how it is drawn."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from service.core.tabular import Chart, Table, csv_of, markdown_of, table_of
from service.errors import BadInput

SALES = Table(
    ("month", "paid", "open", "note"),
    [["Jan", 10, 2.5, "x"], ["Feb", None, 3, None], ["Mar", -4, 0, "7"]],
)


@pytest.mark.parametrize(
    "data",
    [
        {"columns": ["a", "b"], "rows": [[1, None], [2, "x"]], "truncated": False},
        [{"a": 1}, {"a": 2, "b": "x"}],
        {"rows": [{"a": 1}, {"a": 2, "b": "x"}], "total": 2},
    ],
)
def test_three_shapes_are_tables(data: Any) -> None:
    """What an object leaves out is null."""
    assert table_of(data) == Table(("a", "b"), [[1, None], [2, "x"]])


def test_a_table_may_have_no_rows() -> None:
    """When its columns are known."""
    assert table_of({"columns": ["a"], "rows": []}) == Table(("a",), [])


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        7,
        [],
        {},
        {"rows": []},
        {"rows": "x"},
        {"rows": [1]},
        [{"a": 1}, [1]],
        [{}, {}],
        {"columns": [], "rows": []},
        {"columns": ["a"], "rows": [[1, 2]]},
        {"columns": ["a", "b"], "rows": [[1, 2], [1]]},
        {"columns": ["a"], "rows": [{"a": 1}]},
        {"columns": [1], "rows": [[1]]},
        {"columns": "a", "rows": []},
        [{f"c{n}": n for n in range(201)}],
    ],
)
def test_everything_else_is_none(data: Any) -> None:
    """Also rows of unequal length: what is missing in them cannot be told."""
    assert table_of(data) is None


def test_csv_is_quoted_and_ends_lines_as_the_standard_says() -> None:
    """What is not text is written as JSON; null is empty."""
    table = Table(("a,b", "c"), [['say "hi"', True], ["two\nlines", {"k": [1, None]}], [None, 1.5]])

    written = csv_of(table)

    assert written == (
        '"a,b",c\r\n"say ""hi""",true\r\n"two\nlines","{""k"":[1,null]}"\r\n,1.5\r\n'
    )


@pytest.mark.parametrize("text", ["=1+1", "+x", "-cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\rx"])
def test_no_text_becomes_a_formula(text: str) -> None:
    """Neither in a cell nor in the name of a column."""
    written = csv_of(Table((text,), [[text]]))

    assert list(csv.reader(io.StringIO(written, newline=""))) == [[f"'{text}"], [f"'{text}"]]


@pytest.mark.parametrize("number", [-5, "-5", "+3.5", "-1.5e-7", 2**80, -0.5])
def test_numbers_stay_numbers(number: Any) -> None:
    """A minus begins no formula there."""
    assert csv_of(Table(("n",), [[number]])) == f"n\r\n{number}\r\n"


def test_markdown_keeps_every_cell_in_its_place() -> None:
    """Pipes are escaped and lines joined."""
    table = Table(("a|b", "c"), [["x\ny", "\\|"], [None, False]])

    assert markdown_of(table) == "| a\\|b | c |\n| --- | --- |\n| x y | \\\\\\| |\n|  | false |"


def test_markdown_tells_what_it_leaves_out() -> None:
    """Rows beyond the number, and rows beyond the room; never more than the room."""
    table = Table(("n",), [[n] for n in range(100)])

    by_rows = markdown_of(table, rows=2)
    by_room = markdown_of(table, rows=100, characters=40)
    wide = markdown_of(Table(("x" * 100,), [[1]]), characters=50)

    assert by_rows == "| n |\n| --- |\n| 0 |\n| 1 |\n\n[2 of 100 rows are shown]"
    assert by_room.endswith("| 3 |\n\n[4 of 100 rows are shown]")
    assert wide == "[1 rows of 1 columns, too wide to show]"


def test_a_long_cell_is_cut() -> None:
    """One cell does not take the room of all others."""
    shown = markdown_of(Table(("a",), [["x" * 9000], ["y"]]))

    assert len(shown) < 600
    assert shown.endswith("| y |")


def test_a_chart_comes_back_as_it_was_given() -> None:
    """Null is a gap and no mistake."""
    given = {"kind": "line", "x": "month", "y": ["paid", "open"], "title": "Money"}

    assert Chart.parse(given, SALES).as_json() == given


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ("bar", ["chart: an object"]),
        ({}, ["chart.kind: one of bar, line, area, pie", "chart.x: one of", "chart.y: a list"]),
        (
            {"kind": "radar", "x": "year", "y": ["note", "lost"], "colour": 1, "title": ""},
            [
                "chart.'colour': there is no such field",
                "chart.kind: one of",
                "chart.x: one of the columns is needed: 'month', 'paid', 'open', 'note'",
                "chart.y.0: the column 'note' holds something that is no number",
                "chart.y.1: one of the columns",
                "chart.title: a text",
            ],
        ),
        ({"kind": "bar", "x": "month", "y": ["open", "open"]}, ["chart.y.1: the column 'open' is"]),
        ({"kind": "bar", "x": "month", "y": ["open"] * 9}, ["chart.y: a list of 1 to 8"]),
        ({"kind": "bar", "x": ["month"], "y": "open"}, ["chart.x: one of", "chart.y: a list"]),
        ({"kind": "pie", "x": "month", "y": ["paid", "open"]}, ["exactly one", "no negative"]),
    ],
)
def test_a_wrong_chart_is_refused_with_every_problem(given: Any, problems: list[str]) -> None:
    """One a line, so that a model can mend them all at once."""
    with pytest.raises(BadInput) as caught:
        Chart.parse(given, SALES)

    lines = str(caught.value).splitlines()
    assert len(lines) == len(problems)
    assert all(problem in line for problem, line in zip(problems, lines, strict=True))


def test_a_pie_has_few_slices() -> None:
    """Nobody reads more of them."""
    table = Table(("name", "n", "n"), [[str(n), n, n] for n in range(31)])

    with pytest.raises(BadInput, match="at most 30 rows"):
        Chart.parse({"kind": "pie", "x": "name", "y": ["n"]}, table)
    with pytest.raises(BadInput, match="has 2 columns that are called 'n'"):
        Chart.parse({"kind": "bar", "x": "name", "y": ["n"]}, table)
