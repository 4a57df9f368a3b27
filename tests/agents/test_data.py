"""Databases as tools: what is read, and the many ways in which nothing else happens."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, suppress
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

import asyncpg
import pytest
from mcp_types import CallToolResult, TextContent
from structlog.testing import capture_logs

from service.agents.catalog import Catalog
from service.agents.data import DataSources, describe
from service.agents.data.postgresql import Postgresql
from service.agents.data.source import Column, Source, Table
from service.agents.data.sqlite import Sqlite
from service.agents.data.table import Taking, distinct, plain, told
from service.agents.mcp.connection import Listed
from service.agents.mcp.offers import Offers
from service.agents.mcp.results import answer
from service.agents.tools import Tool
from service.config import MOST_DATA, Agent, Data, Mcp, Provider
from service.errors import BadInput
from service.ports import ToolResult
from tests.agents.callers import caller, run, voice

_SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, since DATE, vip BOOLEAN);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers (id), total NUMERIC(12, 2),
    placed TIMESTAMP, detail {json}, scan {bytes}
);
CREATE VIEW big_orders AS SELECT * FROM orders WHERE total > 100;
INSERT INTO customers VALUES
    (1, 'Ada', '2020-02-29', true), (2, 'Zoë | 🚲', '2021-01-01', false), (3, 'Nobody', NULL, NULL);
INSERT INTO orders VALUES
    (1, 1, 10.50, '2024-01-15 10:00:00', '{{"sku": "a", "tags": ["x", "y"]}}', {blob}),
    (2, 1, 200, '2024-01-20 12:30:00', '{{"sku": "b"}}', NULL),
    (3, 2, 99.99, '2024-02-01 00:00:00', NULL, NULL);
"""
_POSTGRESQL_ONLY = """
CREATE SCHEMA private;
CREATE TABLE private.wages (name TEXT, wage NUMERIC);
CREATE SCHEMA open;
CREATE TABLE open.facts (fact TEXT);
COMMENT ON TABLE customers IS 'People who bought something';
COMMENT ON COLUMN orders.total IS 'In euro, with tax';
CREATE FUNCTION leak() RETURNS text LANGUAGE sql AS 'SELECT ''secret''';
"""
_FAST = timedelta(seconds=1)
_EXPLOSION = """
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c
"""
_marks = count(1)


@pytest.fixture(scope="module")
def sqlite_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a file with customers and orders, which no test changes."""
    path = tmp_path_factory.mktemp("data") / "sales & 100%23 more.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SCHEMA.format(json="TEXT", bytes="BLOB", blob="x'00ff10'"))
        connection.execute("CREATE VIRTUAL TABLE pages USING fts5 (body)")
        connection.execute("INSERT INTO pages VALUES ('the quick fox'), ('a slow dog')")
        connection.commit()
    before = path.read_bytes()
    yield f"sqlite:///{path}"
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def postgresql_data(postgresql_server: str) -> Iterator[str]:
    """The URL of a database with the same; we are its superuser, so nothing else holds us back.

    No test changes it.
    """
    asyncio.run(_execute(postgresql_server, "postgres", "CREATE DATABASE sales"))
    schema = _SCHEMA.format(json="JSONB", bytes="BYTEA", blob=r"'\x00ff10'")
    asyncio.run(_execute(postgresql_server, "sales", schema + _POSTGRESQL_ONLY))
    yield f"postgresql://postgres@/sales?host={postgresql_server}"
    untouched = (
        "DO $$ BEGIN ASSERT (SELECT count(*) FROM customers) = 3 "
        "AND (SELECT count(*) FROM orders) = 3 "
        "AND (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace) = 5; "
        "END $$"
    )
    asyncio.run(_execute(postgresql_server, "sales", untouched))
    asyncio.run(_execute(postgresql_server, "postgres", "DROP DATABASE sales WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of each kind of database, one after the other."""
    found: str = request.getfixturevalue(f"{request.param}_data")
    return found


@pytest.fixture
async def sales(url: str) -> AsyncGenerator[DataSources]:
    """The opened tools of each kind of database."""
    async for sources in _opened(url):
        yield sources


@pytest.fixture
async def sqlite(sqlite_data: str) -> AsyncGenerator[DataSources]:
    """The opened tools of SQLite."""
    async for sources in _opened(sqlite_data):
        yield sources


@pytest.fixture
async def postgresql(postgresql_data: str) -> AsyncGenerator[DataSources]:
    """The opened tools of PostgreSQL."""
    async for sources in _opened(postgresql_data):
        yield sources


# -- what is read ---------------------------------------------------------------------------------

BOTH: list[tuple[str, list[list[Any]]]] = [
    ("SELECT 1", [[1]]),
    ("SELECT name FROM customers ORDER BY id LIMIT 1;", [["Ada"]]),
    ("-- who?\nSELECT name /* all; of them */ FROM customers WHERE id = 2", [["Zoë | 🚲"]]),
    ("VALUES (1, 'a'), (2, 'b')", [[1, "a"], [2, "b"]]),
    ("SELECT 1 UNION ALL SELECT 2", [[1], [2]]),
    ("SELECT 1 INTERSECT SELECT 1 EXCEPT SELECT 2", [[1]]),
    ("SELECT since FROM customers ORDER BY id", [["2020-02-29"], ["2021-01-01"], [None]]),
    ("SELECT total FROM orders ORDER BY id", [[10.5], [200], [99.99]]),
    ("SELECT scan FROM orders ORDER BY id LIMIT 2", [["[3 bytes]"], [None]]),
    ("SELECT count(*), sum(total), max(total) FROM orders", [[3, 310.49, 200]]),
    ("SELECT count(*) FILTER (WHERE total > 50) FROM orders", [[2]]),
    (
        "SELECT c.name, count(o.id) AS orders FROM customers c LEFT JOIN orders o "
        "ON o.customer_id = c.id GROUP BY c.name HAVING count(o.id) > 0 ORDER BY (2) DESC, 1",
        [["Ada", 2], ["Zoë | 🚲", 1]],
    ),
    (
        "WITH t(a, b) AS (SELECT id, total FROM orders), u AS (SELECT max(b) AS m FROM t) "
        "SELECT a FROM t JOIN u ON t.b = u.m",
        [[2]],
    ),
    (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 4) "
        "SELECT n FROM c ORDER BY n DESC",
        [[4], [3], [2], [1]],
    ),
    (
        "SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY total DESC) AS place, "
        "lag(total, 1) OVER w FROM orders WINDOW w AS (ORDER BY id) ORDER BY id",
        [[1, 2, None], [2, 1, 10.5], [3, 1, 200]],
    ),
    (
        "SELECT CASE WHEN total > 100 THEN 'big' ELSE 'small' END AS size, count(*) FROM orders "
        "GROUP BY 1 ORDER BY 1",
        [["big", 1], ["small", 2]],
    ),
    ("SELECT id FROM big_orders", [[2]]),
    ("SELECT id FROM orders WHERE customer_id IN (SELECT id FROM customers) AND id > 2", [[3]]),
    (
        "SELECT name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o "
        "WHERE o.customer_id = c.id)",
        [["Nobody"]],
    ),
    (
        "SELECT upper(substr(name, 1, 2)), length(name), coalesce(vip, true) FROM customers "
        "WHERE name LIKE 'N%'",
        [["NO", 6, True]],
    ),
    ("SELECT detail ->> 'sku' FROM orders WHERE id = 2", [["b"]]),
    ("SELECT round(10.0 / 4, 1), abs(-3), nullif(1, 1), 'it''s'", [[2.5, 3, None, "it's"]]),
    ('SELECT "name" FROM "customers" WHERE id = 1', [["Ada"]]),
    ("SELECT 9007199254740993", [["9007199254740993"]]),
    ("SELECT cast('5' AS integer) + 1, cast(1.5 AS numeric(10, 2))", [[6, 1.5]]),
    ("SELECT 'DELETE FROM orders; --' AS text", [["DELETE FROM orders; --"]]),
    ("SELECT count(*) FROM orders a CROSS JOIN orders b", [[9]]),
]
SQLITE: list[tuple[str, list[list[Any]]]] = [
    (
        "SELECT strftime('%Y-%m', placed), sum(total) FROM orders GROUP BY 1 ORDER BY 1",
        [["2024-01", 210.5], ["2024-02", 99.99]],
    ),
    ("SELECT json_extract(detail, '$.tags[1]') FROM orders WHERE id = 1", [["y"]]),
    (
        "SELECT j.value FROM orders, json_each(detail, '$.tags') j WHERE orders.id = 1",
        [["x"], ["y"]],
    ),
    (
        "SELECT group_concat(name, '+'), iif(1, 'a', 'b'), total(id) FROM customers WHERE id < 2",
        [["Ada", "a", 1.0]],
    ),
    (
        "SELECT printf('%05d', 42), instr('abc', 'c'), typeof(1.5), date('2024-01-31', '+1 day')",
        [["00042", 3, "real", "2024-02-01"]],
    ),
    ("SELECT body FROM pages WHERE pages MATCH 'fox'", [["the quick fox"]]),
    ("SELECT [name], `id` FROM main.customers WHERE name GLOB 'A*'", [["Ada", 1]]),
    ("SELECT 9e999, -9e999, 1e300", [[None, None, 1e300]]),
    ("SELECT cast(x'ff41' AS text)", [["\N{REPLACEMENT CHARACTER}A"]]),
    ("SELECT name, type FROM (SELECT 'a' AS name, 'b' AS type)", [["a", "b"]]),
]
POSTGRESQL: list[tuple[str, list[list[Any]]]] = [
    (
        "SELECT date_trunc('month', placed) AS month, sum(total) FROM public.orders GROUP BY 1 "
        "ORDER BY 1",
        [["2024-01-01T00:00:00", 210.5], ["2024-02-01T00:00:00", 99.99]],
    ),
    ("SELECT detail FROM orders WHERE id = 1", [[{"sku": "a", "tags": ["x", "y"]}]]),
    ("SELECT tag FROM orders, jsonb_array_elements_text(detail -> 'tags') AS tag", [["x"], ["y"]]),
    ("SELECT id FROM orders WHERE detail ? 'tags' AND detail @> '{\"sku\": \"a\"}'", [[1]]),
    (
        "SELECT extract(year FROM placed), placed::date, to_char(placed, 'YYYY-\"Q\"Q') "
        "FROM orders WHERE id = 1",
        [[2024, "2024-01-15", "2024-Q1"]],
    ),
    ("SELECT n FROM generate_series(1, 3) AS g(n)", [[1], [2], [3]]),
    (
        "SELECT array_agg(id ORDER BY id DESC), string_agg(name, ',' ORDER BY id) FROM customers "
        "WHERE id <= 1",
        [[[1], "Ada"]],
    ),
    ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders", [[99.99]]),
    (
        "SELECT a.id, b.total FROM customers a CROSS JOIN LATERAL (SELECT total FROM orders o "
        "WHERE o.customer_id = a.id ORDER BY total LIMIT 1) AS b ORDER BY 1",
        [[1, 10.5], [2, 99.99]],
    ),
    ("SELECT 'NaN'::float8, 'Infinity'::numeric, 'NaN'::text", [[None, None, "NaN"]]),
    (
        "SELECT 12345678901234567.89::numeric, 0.1::numeric, 1e400::numeric > 1, 12::bigint",
        [["12345678901234567.89", 0.1, True, 12]],
    ),
    (
        "SELECT timestamptz '2024-01-01 01:00+01', interval '1 day 2 hours', date 'infinity'",
        [["2024-01-01T00:00:00+00:00", "1 day 02:00:00", "infinity"]],
    ),
    (
        "SELECT ARRAY[1, 2], ROW(1, 'a'), '[1,5)'::int4range, '10.0.0.0/8'::inet",
        [[[1, 2], {"f1": 1, "f2": "a"}, "[1,5)", "10.0.0.0/8"]],
    ),
    (
        "SELECT regexp_replace('a1b2', '[0-9]', '', 'g'), 'abc' ~ '^a', 'x' ILIKE 'X'",
        [["ab", True, True]],
    ),
    (
        "SELECT customer_id, sum(total) FROM orders GROUP BY ROLLUP (customer_id) ORDER BY 1 NULLS "
        "LAST FETCH FIRST 1 ROWS ONLY",
        [[1, 210.5]],
    ),
    (
        "SELECT DISTINCT ON (customer_id) id FROM orders ORDER BY customer_id, total DESC",
        [[2], [3]],
    ),
    (
        'SELECT x.a, x.b FROM jsonb_to_recordset(\'[{"a": 1, "b": "t"}]\') AS x(a int, b text)',
        [[1, "t"]],
    ),
    (
        "SELECT pg_catalog.upper('a'), current_database(), 'a\\' AS backslash",
        [["A", "sales", "a\\"]],
    ),
    ("SELECT fact FROM open.facts", []),
    ("(SELECT 1) UNION ALL (SELECT 2)", [[1], [2]]),
    ("SELECT NULL AS nothing, true AND false AS both", [[None, False]]),
]


@pytest.mark.parametrize(("sql", "rows"), BOTH)
async def test_good_sql_works_on_both(sales: DataSources, sql: str, rows: list[Any]) -> None:
    """What analysts write every day, and values as plain JSON."""
    result = await _query(sales, sql)

    assert (result.text if result.failed else "", result.failed) == ("", False)
    # SQLite has no booleans of its own.
    assert result.data["rows"] == rows
    assert json.loads(json.dumps(result.data, allow_nan=False)) == result.data


@pytest.mark.parametrize(("sql", "rows"), SQLITE)
async def test_sql_of_sqlite_works(sqlite: DataSources, sql: str, rows: list[Any]) -> None:
    """Its own functions of dates, texts, JSON and full-text search."""
    result = await _query(sqlite, sql)

    assert (result.text if result.failed else "", result.failed) == ("", False)
    assert result.data["rows"] == rows


@pytest.mark.parametrize(("sql", "rows"), POSTGRESQL)
async def test_sql_of_postgresql_works(postgresql: DataSources, sql: str, rows: list[Any]) -> None:
    """Its types, aggregates, set-returning functions and JSON."""
    result = await _query(postgresql, sql)

    assert (result.text if result.failed else "", result.failed) == ("", False)
    assert result.data["rows"] == rows


async def test_the_model_is_told_a_table(sales: DataSources) -> None:
    """In Markdown, nothing in a cell breaks it; columns of one name are told apart."""
    result = await _query(
        sales, "SELECT id, name AS id, since FROM customers WHERE id > 1 ORDER BY customers.id"
    )

    assert result.data["columns"] == ["id", "id_2", "since"]
    assert result.data["truncated"] is False
    assert result.text.splitlines() == [
        "| id | id_2 | since |",
        "| --- | --- | --- |",
        r"| 2 | Zoë \| 🚲 | 2021-01-01 |",
        "| 3 | Nobody | NULL |",
        "",
        "2 rows.",
    ]


async def test_the_tools_say_what_they_may(url: str) -> None:
    """All run again after a crash and stay inside; only what is asked for becomes a result."""
    sources = DataSources({"sales": Data(url=url, description="Orders since 2020.")})

    specs = {tool.spec.name: tool.spec for tool in sources.tools("sales")}

    assert list(specs) == ["sales_query", "sales_tables", "sales_search"]
    assert [spec.data for spec in specs.values()] == [True, False, False]
    assert {(spec.idempotent, spec.outward) for spec in specs.values()} == {(True, False)}
    assert "Orders since 2020." in specs["sales_query"].description
    assert sources.names == {"sales"}
    assert sources.tools("other") == ()


# -- what is refused ------------------------------------------------------------------------------

REFUSED_BY_BOTH = [
    ("", "empty"),
    (";", "SELECT"),
    ("-- nothing", "empty"),
    ("INSERT INTO customers VALUES (9, 'x', NULL, NULL)", "only read"),
    ("UPDATE customers SET name = 'x'", "only read"),
    ("DELETE FROM customers", "only read"),
    ("DROP TABLE customers", "only read"),
    ("CREATE TABLE x (a int)", "only read"),
    ("ALTER TABLE customers ADD COLUMN a int", "only read"),
    ("TRUNCATE customers", "only read"),
    ("EXPLAIN ANALYZE SELECT 1", "only read"),
    ("BEGIN", "only read"),
    ("VACUUM", "only read"),
    ("SELECT 1; SELECT 2", "more than one statement"),
    ("SELECT 1; DROP TABLE customers", "more than one statement"),
    ("SELECT 1; -- and\n DELETE FROM orders", "more than one statement"),
    ("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", "DELETE is not taken"),
    ("WITH x AS (SELECT 1) INSERT INTO customers SELECT 1, 'a', NULL, NULL FROM x", "only read"),
    (
        "WITH x AS (INSERT INTO customers VALUES (8, 'x', NULL, NULL) RETURNING id) "
        "SELECT 1 FROM x",
        "INSERT is not taken",
    ),
    ("SELECT * INTO copy FROM customers", "leave INTO out"),
    ("SELECT * FROM customers WHERE id = ?", "no parameters"),
    ("SELECT * FROM customers WHERE id = :id", "no parameters"),
    ("SELECT nonsense(1)", "'nonsense' is not allowed"),
    ('SELECT "Nonsense"(1)', "'nonsense' is not allowed"),
    ("SELECT query_to_xml('DELETE FROM orders', true, true, '')", "'query_to_xml' is not allowed"),
    ("SELECT * FROM customers nonsense(a), nonsense(1)", "'nonsense' is not allowed"),
    ("SELECT name FROM custmers", "sales_tables"),
    ("SELECT nam FROM customers", "sales_tables"),
    ("SELECT FROM WHERE", "Write it more plainly"),
    ("SELECT 'open", "quote"),
    ("SELECT /* open", "quote"),
    ("SELECT ((1)", "cannot be read"),
    (f"SELECT {'(' * 500}1{')' * 500}", "nested too deeply"),
    (f"SELECT {'+'.join('1' * 9000)}", "too long"),
    (f"SELECT '{'x' * 20_000}'", "at most 20,000"),
    (f"SELECT {', '.join('1' * 400)}", "more than 300 columns"),
]
REFUSED_BY_SQLITE = [
    ("PRAGMA query_only = OFF", "only read"),
    ("ATTACH DATABASE '/etc/passwd' AS p", "only read"),
    ("VACUUM INTO '/tmp/copy.db'", "only read"),
    ("SELECT load_extension('x')", "'load_extension' is not allowed"),
    (
        "WITH 'load_extension'(x) AS (SELECT 1) SELECT load_extension('x')",
        "sql: the function 'load_extension' is not allowed",
    ),
    ("SELECT readfile('/etc/passwd')", "'readfile' is not allowed"),
    ("SELECT writefile('/tmp/x', 'y')", "'writefile' is not allowed"),
    ("SELECT zeroblob(1000000000)", "'zeroblob' is not allowed"),
    ("SELECT hex(randomblob(1000000000))", "'randomblob' is not allowed"),
    ("SELECT fts5('x')", "not allowed"),
    ("SELECT * FROM pragma_database_list", "sales_tables"),
    ("SELECT * FROM pragma_table_info('customers')", "'pragma_table_info' is not allowed"),
    ("SELECT sql FROM sqlite_master", "sales_tables"),
    ("SELECT sql FROM main.sqlite_schema", "sales_tables"),
    ('SELECT sql FROM "sqlite_master"', "sales_tables"),
    ("SELECT * FROM temp.customers", "leave out 'temp'"),
    ("SELECT * FROM other.customers", "leave out 'other'"),
    ("SELECT printf('%.*c', 1000000000, 'x')", "without *"),
    ("SELECT format('%1000000d', 1)", "widths of at most 999"),
    ("SELECT printf('%10' || '000000d', 1)", "plain text"),
    ("SELECT name FROM customers WHERE 1 IN sqlite_master", "not allowed"),
    ("SELECT 1 /* /* */, load_extension('x') /* */ */", "cannot be read"),
]
REFUSED_BY_POSTGRESQL = [
    ("SELECT pg_sleep(10)", "'pg_sleep' is not allowed"),
    ("SELECT pg_catalog.pg_sleep(10)", "'pg_sleep' is not allowed"),
    ("SELECT n::regclass FROM generate_series(1, 9999) AS n", "the type regclass is not taken"),
    ('SELECT CAST(10 AS pg_catalog."regrole")', "the type regrole is not taken"),
    ("SELECT regnamespace '2200'", "the type regnamespace is not taken"),
    ("SELECT * FROM json_to_record('{}') AS x(a regproc)", "the type regproc is not taken"),
    ('SELECT "pg_sleep" (10)', "'pg_sleep' is not allowed"),
    ("SELECT pg_sleep /* here */ (10)", "'pg_sleep' is not allowed"),
    ("SELECT * FROM customers pg_sleep(a), pg_sleep(10)", "'pg_sleep' is not allowed"),
    ("SELECT 1 -- \r, pg_sleep(10)", "'pg_sleep' is not allowed"),
    (r"SELECT E'\'', pg_sleep(10), ' '", "E'…'"),
    ('SELECT U&"\\0070g_sleep"(10)', "not"),
    ("SELECT $$'$$, pg_sleep(10)", "$$"),
    ("SELECT pg_read_file('/etc/passwd')", "'pg_read_file' is not allowed"),
    ("SELECT * FROM pg_ls_dir('/')", "'pg_ls_dir' is not allowed"),
    ("SELECT lo_import('/etc/passwd')", "'lo_import' is not allowed"),
    ("SELECT dblink('host=x', 'SELECT 1')", "'dblink' is not allowed"),
    ("SELECT set_config('transaction_read_only', 'off', true)", "'set_config' is not allowed"),
    ("SELECT current_setting('data_directory')", "'current_setting' is not allowed"),
    ("SELECT pg_terminate_backend(1)", "'pg_terminate_backend' is not allowed"),
    ("SELECT nextval('s')", "'nextval' is not allowed"),
    ("SELECT ts_stat('SELECT 1')", "'ts_stat' is not allowed"),
    ("SELECT pg_advisory_lock(1)", "'pg_advisory_lock' is not allowed"),
    ("SELECT pg_notify('a', 'b')", "'pg_notify' is not allowed"),
    ("SELECT leak()", "'leak' is not allowed"),
    ("SELECT private.upper('a')", "leave out 'private'"),
    ("COPY customers TO '/tmp/x'", "only read"),
    ("COPY (SELECT 1) TO PROGRAM 'sh'", "only read"),
    ("SET statement_timeout = 0", "only read"),
    ("DO $$ BEGIN PERFORM 1; END $$", "only read"),
    ("CALL something()", "only read"),
    ("SHOW data_directory", "only read"),
    ("LISTEN x", "only read"),
    ("SELECT * FROM customers FOR UPDATE", "leave them out"),
    ("SELECT * FROM (SELECT * FROM customers FOR SHARE) x", "leave them out"),
    ("SELECT * FROM pg_shadow", "sales_tables"),
    ("SELECT * FROM pg_catalog.pg_authid", "sales_tables"),
    ("SELECT * FROM information_schema.tables", "sales_tables"),
    ('SELECT * FROM "pg_authid"', "sales_tables"),
    ("SELECT * FROM (WITH pg_authid AS (SELECT 1) SELECT 1) a, pg_authid", "sales_tables"),
    ("SELECT * FROM (TABLE pg_authid) x", "TABLE is not taken"),
    ("SELECT * FROM private.wages", "'private' is not open here, only open, public"),
    ("SELECT * FROM wages", "sales_tables"),
    ("SELECT * FROM other.public.customers", "leave out 'other'"),
    ("SELECT $1", "no parameters"),
    ("SELECT 1 / 0", "division by zero"),
    (f"SELECT name{'[1]' * 300} FROM customers", "square brackets"),
    ("SELECT 1) AS x; DROP TABLE customers; SELECT (1", "more than one"),
    ("SELECT 1) AS found(c0)) AS shown) AS lines --", "cannot be read"),
]


@pytest.mark.parametrize(("sql", "told"), REFUSED_BY_BOTH)
async def test_what_is_not_one_reading_statement_is_refused_by_both(
    sales: DataSources, sql: str, told: str
) -> None:
    """The model is told what to change; nothing in the database did."""
    result = await _query(sales, sql)

    assert result.failed
    assert told.lower() in result.text.lower()


@pytest.mark.parametrize(("sql", "told"), REFUSED_BY_SQLITE)
async def test_ways_out_of_sqlite_are_closed(sqlite: DataSources, sql: str, told: str) -> None:
    """Extensions, files, other databases, its catalogue, and values without end."""
    result = await _query(sqlite, sql)

    assert result.failed
    assert told in result.text


@pytest.mark.parametrize(("sql", "told"), REFUSED_BY_POSTGRESQL)
async def test_ways_out_of_postgresql_are_closed(
    postgresql: DataSources, sql: str, told: str
) -> None:
    """Files, programs, other servers and schemas, settings, locks; also in disguise."""
    result = await _query(postgresql, sql)

    assert result.failed
    assert told in result.text


async def test_the_database_itself_refuses_what_the_parser_lets_through(url: str) -> None:
    """The second wall, without the first one."""
    source = _source(url)
    statement = "DELETE FROM orders RETURNING id"

    with pytest.raises(BadInput, match="refused it"):
        await source.query(statement)

    assert len((await source.query("SELECT 1 FROM orders")).rows) == 3
    await source.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '/tmp/x.db' AS x",
        "PRAGMA query_only = OFF",
        "SELECT sql FROM sqlite_master",
        "SELECT load_extension('x')",
        "CREATE TEMP TABLE x (a)",
        "SELECT zeroblob(10)",
        "SELECT 1; SELECT 2",
    ],
)
async def test_the_authoriser_of_sqlite_refuses_on_its_own(
    sqlite_data: str, statement: str
) -> None:
    """Nothing depends on what the parser makes of a statement."""
    source = _source(sqlite_data)

    with pytest.raises(BadInput, match=r"refused it|one statement"):
        await source.query(statement)

    await source.close()


# -- caps -----------------------------------------------------------------------------------------


async def test_a_million_rows_are_cut(sales: DataSources) -> None:
    """At the number of rows; the text says so and shows the first ones."""
    result = await _query(
        sales,
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) "
        "SELECT n FROM c LIMIT 300000",
    )

    assert len(result.data["rows"]) == 10_000
    assert result.data["truncated"] is True
    assert "10,000 rows; the first 50 are shown. The result was cut" in result.text


async def test_exactly_as_many_rows_as_are_taken_are_not_cut(url: str) -> None:
    """There is nothing more."""
    async for sources in _opened(url, rows=3):
        result = await _query(sources, "SELECT id FROM customers ORDER BY id")

        assert result.data == {"columns": ["id"], "rows": [[1], [2], [3]], "truncated": False}


@pytest.mark.parametrize("size", [10_000, 100_000, MOST_DATA])
async def test_a_result_is_cut_at_its_bytes(url: str, size: int) -> None:
    """Measured in JSON; what remains is kept whole, also far beyond other tools' data."""
    wide = f"'{'é' * 400}'"
    joined = ", ".join(f"customers {one}" for one in "abcdefgh")
    async for sources in _opened(url, size=size, rows=100_000):
        result = await _query(
            sources,
            f"SELECT {wide} AS w, {wide} AS v, {wide} AS u FROM {joined}",
        )

        length = len(json.dumps(result.data, ensure_ascii=False).encode())
        assert result.data["truncated"] is True
        assert length <= size
        assert length > size - 3_000


async def test_a_huge_value_never_arrives_from_postgresql(postgresql: DataSources) -> None:
    """It stays at the server, and the model is told to take its beginning."""
    result = await _query(postgresql, "SELECT repeat('x', 30000000) AS value")

    assert result.failed
    assert "substr" in result.text


async def test_a_huge_value_is_not_made_by_sqlite(sqlite: DataSources) -> None:
    """Values have an end there, too."""
    doubled = "WITH RECURSIVE c(v) AS (SELECT 'x' UNION ALL SELECT v || v FROM c)"

    result = await _query(sqlite, f"{doubled} SELECT v FROM c")

    assert result.failed
    assert "substr" in result.text


async def test_a_row_that_is_too_large_ends_the_result(postgresql: DataSources) -> None:
    """What came before it is kept."""
    result = await _query(
        postgresql,
        "SELECT n, repeat('x', CASE n WHEN 7 THEN 3000000 ELSE 1 END) AS v "
        "FROM generate_series(1, 20) AS g(n)",
    )

    assert [row[0] for row in result.data["rows"]] == [1, 2, 3, 4, 5, 6]
    assert result.data["truncated"] is True


async def test_what_the_model_is_told_is_short() -> None:
    """Fifty rows and 8,000 characters at most, cells of 200."""
    taking = Taking([f"c{n}" for n in range(10)], rows=1000, size=10_000_000)
    for _ in range(100):
        taking.add(["x\ny" * 1000] * 10)

    text = told(taking.found())

    assert len(text) <= 8_000
    assert max(len(cell) for cell in text.splitlines()[2].split(" | ")) <= 202
    assert "100 rows; the first 3 are shown." in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("10.50"), 10.5),
        (Decimal(200), 200),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("NaN"), None),
        (Decimal("1E+400"), "1E+400"),
        (2**53 + 1, "9007199254740993"),
        (math.nan, None),
        (math.inf, None),
        (b"abc", "[3 bytes]"),
        (date(2024, 2, 29), "2024-02-29"),
        (True, True),
        ({"a": [Decimal("1.5")]}, {"a": [1.5]}),
    ],
)
def test_values_become_plain_json(value: Any, expected: Any) -> None:
    """No number is changed on the way."""
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_names_of_columns_are_told_apart() -> None:
    """Also from those that look like what we would call them."""
    assert distinct(["a", "a", "a_2", "", "a"]) == ["a", "a_3", "a_2", "column", "a_4"]


# -- time -----------------------------------------------------------------------------------------

SLOW = [
    _EXPLOSION,
    f"SELECT count(*) FROM {', '.join(f'orders o{n}, customers c{n}' for n in range(9))}",
    f"SELECT max(a.total) FROM {', '.join(f'orders {one}' for one in 'abcdefghijklmnopqr')}",
]


@pytest.mark.parametrize("sql", SLOW)
async def test_a_query_without_end_is_ended(url: str, sql: str) -> None:
    """In time, with a hint, and the loop is free all the while."""
    async for sources in _opened(url, timeout=_FAST):
        ticks = asyncio.create_task(_longest_work())
        began = perf_counter()

        result = await _query(sources, sql)

        took = perf_counter() - began
        ticks.cancel()
        longest = await ticks
        assert result.failed
        assert "did not finish within 1 s" in result.text
        assert took < 20
        assert longest < took / 2
        assert await _untouched(sources)


async def test_the_loop_is_free_while_much_is_fetched(url: str) -> None:
    """A result of two megabytes is fetched, put into words and cleaned elsewhere, or in pieces.

    Told by what the loop's thread works in one go, which does not depend on what else the machine
    does.
    """
    async for sources in _opened(url, size=MOST_DATA, rows=100_000):
        # What earlier tests left is no work of this one, also when the collector goes through it.
        gc.collect()
        gc.freeze()
        ticks = asyncio.create_task(_longest_work())
        began = process_time()

        result = await _query(
            sources,
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000) "
            "SELECT n, n * 1.5 AS m, 'some words about it' AS w, 'and more of them' AS v FROM c",
        )

        took = process_time() - began
        ticks.cancel()
        longest = await ticks
        gc.unfreeze()
        assert len(result.data["rows"]) == 30_000
        assert longest < took / 4


async def test_a_cancelled_query_ends_in_postgresql(
    postgresql: DataSources, postgresql_server: str
) -> None:
    """Nobody waits for it any more: the server does not work on."""
    mark = f"mark{next(_marks)}"
    running = asyncio.create_task(_query(postgresql, f"{_EXPLOSION} -- {mark}"))
    await _until_running(postgresql_server, mark, 1)

    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert running.cancelled()
    await _until_running(postgresql_server, mark, 0)
    assert await _untouched(postgresql)


async def test_a_cancelled_query_ends_in_sqlite(sqlite: DataSources) -> None:
    """Its thread is free at once: two queries without end were cancelled, and two threads are."""
    running = [asyncio.create_task(_query(sqlite, _EXPLOSION)) for _ in range(2)]
    await asyncio.sleep(0.1)

    for one in running:
        one.cancel()
    await asyncio.wait(running)

    assert all(one.cancelled() for one in running)
    async with asyncio.timeout(60):
        assert await _untouched(sqlite)


async def test_more_queries_than_connections_wait_for_each_other(sales: DataSources) -> None:
    """All are answered."""
    results = await asyncio.gather(*(_query(sales, f"SELECT {n} AS n") for n in range(20)))

    assert [one.data["rows"] for one in results] == [[[n]] for n in range(20)]


async def test_a_locked_table_is_not_waited_for(
    postgresql_data: str, postgresql_server: str
) -> None:
    """Whoever changes it goes on; the model is told to come back."""
    holder = await asyncpg.connect(host=postgresql_server, user="postgres", database="sales")
    await holder.execute("BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
    async for sources in _opened(postgresql_data, timeout=timedelta(milliseconds=1500)):
        async with asyncio.timeout(60):
            result = await _query(sources, "SELECT * FROM customers")

        assert result.failed
        assert "locked" in result.text or "did not finish" in result.text
    await holder.close()


# -- databases that are not there -----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:hunter2@127.0.0.1:9/sales",
        "postgresql://reader:hunter2@/sales?host=/not/there",
        "sqlite:////not/there/hunter2.db",
        f"sqlite:///{Path(__file__).absolute()}",
    ],
)
@pytest.mark.parametrize("tool", ["query", "tables", "search"])
async def test_a_database_that_is_not_there_is_not_the_models_fault(url: str, tool: str) -> None:
    """It is told so, and nothing of where the database should be; neither is the log."""
    arguments = {"query": {"sql": "SELECT 1 FROM t"}, "tables": {}, "search": {"words": "a"}}
    async for sources in _opened(url):
        with capture_logs() as logs:
            result = await run(_tool(sources, tool), arguments[tool])

        assert result.failed
        assert "The database sales cannot be read just now" in result.text
        told = result.text + json.dumps(logs)
        assert not [one for one in ("hunter2", "reader", "not/there", "test_data") if one in told]


async def test_a_database_that_goes_away_comes_back(
    postgresql: DataSources, postgresql_server: str
) -> None:
    """A connection that was killed in the middle costs one query."""
    mark = f"mark{next(_marks)}"
    running = asyncio.create_task(_query(postgresql, f"{_EXPLOSION} -- {mark}"))
    await _until_running(postgresql_server, mark, 1)
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE query LIKE '%{mark}%' AND pid <> pg_backend_pid()"
    )

    await _execute(postgresql_server, "postgres", kill)
    result = await running

    assert result.failed
    assert "cannot be read just now" in result.text
    assert await _untouched(postgresql)


async def test_a_file_that_is_put_there_later_is_found(tmp_path: Path) -> None:
    """Nothing is kept open, nothing is made."""
    path = tmp_path / "late.db"
    async for sources in _opened(f"sqlite:///{path}"):
        before = await _query(sources, "SELECT 1")
        assert not path.exists()
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
        after = await _query(sources, "SELECT count(*) FROM t")

        assert before.failed
        assert after.data["rows"] == [[0]]


# -- tables and search ----------------------------------------------------------------------------


async def test_tables_are_told_with_their_columns(sales: DataSources) -> None:
    """Types, keys and what points where; views are marked."""
    lines = (await run(_tool(sales, "tables"))).text.splitlines()

    by_name = {line.split()[0]: line for line in lines}
    assert "(id integer key, name text not null, since date, vip boolean)" in by_name["customers"]
    assert "customer_id integer -> customers.id" in by_name["orders"]
    assert by_name["big_orders"].startswith("big_orders [view] (id integer")
    assert not [line for line in lines if "sqlite_" in line or "pg_" in line or "wages" in line]


async def test_one_table_is_told_in_detail(postgresql: DataSources) -> None:
    """With comments; a name that is not there is answered with those that are like it."""
    table = await run(_tool(postgresql, "tables"), {"table": "public.Orders"})
    missing = await run(_tool(postgresql, "tables"), {"table": "custmers"})

    assert "- total numeric(12,2) - In euro, with tax" in table.text.splitlines()
    assert missing.failed
    assert "there are: customers" in missing.text


async def test_tables_of_other_schemas_have_them_before_their_name(
    postgresql: DataSources,
) -> None:
    """So that they can be read as they are told."""
    result = await run(_tool(postgresql, "search"), {"words": "fact"})

    assert result.text.splitlines() == [
        "column open.facts.fact text",
        "table open.facts, 1 columns",
    ]


async def test_words_are_found_in_names_and_comments(postgresql: DataSources) -> None:
    """The best one first; nothing is an answer, too."""
    euro = await run(_tool(postgresql, "search"), {"words": "EURO total"})
    bought = await run(_tool(postgresql, "search"), {"words": "bought"})
    nothing = await run(_tool(postgresql, "search"), {"words": "xyzzy"})
    empty = await run(_tool(postgresql, "search"), {"words": "  "})

    assert euro.text.splitlines()[0].startswith("column orders.total numeric(12,2)")
    assert bought.text.startswith("table customers")
    assert nothing.text.startswith("Nothing matches")
    assert empty.failed


def test_a_database_with_many_tables_is_told_in_short() -> None:
    """First without columns, then cut."""
    columns = tuple(Column(f"column_{n}", "text") for n in range(20))
    few = [Table(f"table_{n}", columns, rows=1234) for n in range(100)]
    many = [Table(f"table_{n}", columns) for n in range(2000)]

    shorter, shortest = describe.all_tables(few, "sales"), describe.all_tables(many, "sales")

    assert shorter.splitlines()[0] == "table_0 [about 1,234 rows], 20 columns"
    assert len(shorter.splitlines()) == 100
    assert len(shortest) <= 8_000
    assert "sales_search" in shortest.splitlines()[-1]


# -- agents and MCP servers -----------------------------------------------------------------------


async def test_an_agent_has_the_tools_of_its_database(sqlite_data: str) -> None:
    """By "data:NAME"; one that is not there is a mistake of the configuration."""
    sources = DataSources({"sales": Data(url=sqlite_data)})
    agent = Agent(provider="offline", model="echo", tools=("data:sales",))
    wrong = Agent(provider="offline", model="echo", tools=("data:other",))
    catalog = Catalog(
        {"offline": Provider(kind="offline")}, {"assistant": agent, "wrong": wrong}, data=sources
    )

    names = [spec.name for spec in catalog.tools(voice(tools=("data:sales",)))]

    assert names == ["sales_query", "sales_tables", "sales_search"]
    (problem,) = catalog.problems()
    assert problem.startswith("agents.wrong.tools: there is no tool 'data:other'; there are: clock")
    assert "data:sales" in problem
    await sources.close()


def test_tools_of_a_server_are_data_tools_when_the_settings_say_so() -> None:
    """By the server's own names."""
    offers = Offers("files", Mcp(command=("x",), data=frozenset({"read"})), ["files"])

    offers.take([Listed("read", "", {"type": "object"}), Listed("write", "", {"type": "object"})])

    assert [(spec.name, spec.data) for spec in offers.usable()] == [
        ("files_read", True),
        ("files_write", False),
    ]


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ('[{"a": 1}]', [{"a": 1}]),
        ('{"rows": [[1]]}', {"rows": [[1]]}),
        ("plain words", None),
        ("42", None),
        ('"text"', None),
        ("[NaN]", None),
        ("[" * 100_000, None),
    ],
)
def test_words_that_are_json_are_the_data_of_a_data_tool(said: str, data: Any) -> None:
    """Objects and lists; of other tools words stay words, and structured content goes first."""
    result = CallToolResult(content=[TextContent(text=said)])
    both = CallToolResult(content=[TextContent(text=said)], structured_content={"b": 2})

    assert answer(result, data=True).data == data
    assert answer(result).data is None
    assert answer(both, data=True).data == {"b": 2}


# -- set-up ---------------------------------------------------------------------------------------


async def _opened(
    url: str,
    *,
    timeout: timedelta = timedelta(seconds=15),
    rows: int = 10_000,
    size: int = 1_048_576,
) -> AsyncGenerator[DataSources]:
    settings = Data(url=url, timeout=timeout, rows=rows, bytes=size, schemas=("public", "open"))
    sources = DataSources({"sales": settings})
    await sources.open()
    try:
        yield sources
    finally:
        await sources.close()


def _source(url: str) -> Source:
    """The database itself, without what checks statements before."""
    settings = Data(url=url)
    if settings.file is not None:
        return Sqlite("sales", settings.file, settings)
    return Postgresql("sales", settings)


def _tool(sources: DataSources, verb: str) -> Tool:
    (found,) = [one for one in sources.tools("sales") if one.spec.name == f"sales_{verb}"]
    return found


async def _query(sources: DataSources, sql: str) -> ToolResult:
    async with asyncio.timeout(30):
        return await run(_tool(sources, "query"), {"sql": sql}, caller())


async def _untouched(sources: DataSources) -> bool:
    counts = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders)"
    result = await _query(sources, counts)
    return bool(result.data and result.data["rows"] == [[3, 3]])


async def _longest_work() -> float:
    """The most time that the loop's thread worked without coming round, until cancelled."""
    longest, last = 0.0, thread_time()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = thread_time()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


async def _until_running(folder: str, mark: str, wanted: int) -> None:
    """Wait until so many queries with the mark run at the server."""
    connection = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    counted = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 "
        "AND pid <> pg_backend_pid()"
    )
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(counted, f"%{mark}%") != wanted:
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def _execute(folder: str, database: str, statement: str) -> None:
    connection = await asyncpg.connect(host=folder, user="postgres", database=database)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
