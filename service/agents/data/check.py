"""Is this one statement that only reads what it may read? Pure; says what to change if it is not.

The statement itself is run, not what the parser made of it. So everything that the parser could
read differently from the database (escapes in texts, odd line ends, unknown words) is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from service.agents.data import source
from service.agents.data.functions import FUNCTIONS, SYNTAX
from service.errors import BadInput

LONGEST_SQL = 20_000
_MOST_TOKENS = 8_000
_DEEPEST = 60
_MOST_BRACKETS = 200
_LONGEST_QUOTED = 80

_FORMATS = ("printf", "format")
_FILLING = re.compile(r"\*|[0-9]{4}")
_AFTER_ARGUMENT = (TokenType.COMMA, TokenType.R_PAREN)
_PARSERS = {"sqlite": "sqlite", "postgresql": "postgres"}
_ODD_TEXTS = (
    TokenType.BYTE_STRING,
    TokenType.UNICODE_STRING,
    TokenType.HEREDOC_STRING,
    TokenType.RAW_STRING,
)
_TEXTS = (TokenType.STRING, TokenType.NATIONAL_STRING)
_BEGINNINGS = (TokenType.SELECT, TokenType.WITH, TokenType.VALUES, TokenType.L_PAREN)
_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END)
_WRITES = (exp.DML, exp.DDL, exp.Drop, exp.Command, exp.Into, exp.Pragma, exp.Set)
_VALUES_MISSING = (exp.Placeholder, exp.Parameter, exp.SessionParameter)
# Types of PostgreSQL that make names of numbers: the whole catalogue could be read by them.
_LOOKED_UP = (
    "regclass",
    "regcollation",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
)

_TOO_DEEP = "sql: it is nested too deeply. Take it apart with WITH"
_ONLY = "Write one SELECT, VALUES or WITH … SELECT statement: this database is only read"


def check(sql: str, *, dialect: source.Dialect, schemas: Collection[str], name: str) -> str:
    """Return the statement as it may be run, without a semicolon. Raises BadInput.

    `name` is the database's: the tools that the model is pointed to begin with it.
    """
    if len(sql) > LONGEST_SQL:
        raise BadInput(
            f"sql: it has {len(sql):,} characters; write a statement of at most {LONGEST_SQL:,}"
        )
    # To PostgreSQL a carriage return ends a comment, to the parser it does not.
    text = sql.replace("\r\n", "\n").replace("\r", "\n")
    parser = Dialect.get_or_raise(_PARSERS[dialect])
    tokens = _tokens(parser, text)
    end = _one_statement(tokens)
    tokens = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    _harmless(tokens)
    tree = _parsed(parser, tokens, text)
    _only_reads(tree)
    _known_functions(tokens, tree, FUNCTIONS[dialect], name)
    if dialect == "sqlite":
        _short_formats(tokens)
    else:
        _no_catalogue(tree, name)
    for table in tree.find_all(exp.Table):
        _may_be_read(table, dialect, schemas, name)
    return text if end is None else text[:end]


# -- reading it -----------------------------------------------------------------------------------


def _tokens(parser: Dialect, text: str) -> Sequence[Token]:
    if "\0" in text:
        raise BadInput("sql: it has a character U+0000; leave that out")
    try:
        tokens = parser.tokenize(text)
    except SqlglotError as error:
        raise BadInput("sql: it cannot be read; is a quote or comment left open?") from error
    if not tokens:
        raise BadInput(f"sql: it is empty. {_ONLY}")
    if len(tokens) > _MOST_TOKENS:
        raise BadInput("sql: it is too long; write a shorter statement")
    return tokens


def _one_statement(tokens: Sequence[Token]) -> int | None:
    """Where the semicolon is that ends it, if there is one."""
    ends = [at for at, token in enumerate(tokens) if token.token_type is TokenType.SEMICOLON]
    if not ends:
        return None
    if ends[0] + len(ends) != len(tokens):
        raise BadInput(
            "sql: there is more than one statement. Call the tool once for each of them, or join "
            "them into one with WITH or UNION ALL"
        )
    return tokens[ends[0]].start


def _harmless(tokens: Sequence[Token]) -> None:
    """Refuse by their words what need not even be parsed."""
    if not tokens or tokens[0].token_type not in _BEGINNINGS:
        given = _quoted(tokens[0].text) if tokens else "nothing"
        raise BadInput(f"sql: it begins with {given}. {_ONLY}")
    depth = deepest = 0
    for token in tokens:
        kind = token.token_type
        if kind in _ODD_TEXTS:
            raise BadInput(
                "sql: texts such as E'…', U&'…' and $$…$$ are not taken here. Write 'text', with "
                "'' for a quote inside of it, and chr(10) for a line end"
            )
        if kind is TokenType.TABLE:
            raise BadInput("sql: the word TABLE is not taken here. Write SELECT * FROM name")
        depth += (kind in _OPENING) - (kind in _CLOSING)
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise BadInput(_TOO_DEEP)
    # The parser takes long for thousands of them.
    if sum(token.token_type is TokenType.L_BRACKET for token in tokens) > _MOST_BRACKETS:
        raise BadInput(f"sql: it has more than {_MOST_BRACKETS} square brackets; use fewer")


def _parsed(parser: Dialect, tokens: Sequence[Token], text: str) -> exp.Expression:
    try:
        trees = parser.parser().parse(list(tokens), text)
    except ParseError as error:
        raise BadInput(f"sql: it cannot be read{_place(error)}. Write it more plainly") from error
    except RecursionError as error:
        raise BadInput(_TOO_DEEP) from error
    except (SqlglotError, ValueError) as error:
        raise BadInput("sql: it cannot be read. Write it more plainly") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Expression):
        raise BadInput(f"sql: {_ONLY}")
    return trees[0]


def _place(error: ParseError) -> str:
    if not error.errors:
        return ""
    first = error.errors[0]
    near = str(first.get("highlight") or "").strip()
    at = f" in line {first.get('line')}"
    return f"{at} near {_quoted(near)}" if near else at


# -- what it does ---------------------------------------------------------------------------------


def _only_reads(tree: exp.Expression) -> None:
    if not isinstance(tree, (exp.Query, exp.Values)):
        raise BadInput(f"sql: {_ONLY}")
    for node in tree.walk():
        if isinstance(node, exp.Into):
            raise BadInput(f"sql: SELECT INTO makes a table; leave INTO out. {_ONLY}")
        if isinstance(node, _WRITES):
            raise BadInput(f"sql: {type(node).__name__.upper()} is not taken here. {_ONLY}")
        if isinstance(node, exp.Lock):
            raise BadInput("sql: FOR UPDATE and FOR SHARE lock rows; leave them out")
        if isinstance(node, _VALUES_MISSING):
            raise BadInput(
                "sql: there are no parameters such as ?, :name or $1 here. Write the values "
                "themselves into the statement"
            )


def _known_functions(
    tokens: Sequence[Token], tree: exp.Expression, known: frozenset[str], name: str
) -> None:
    """Refuse functions that are not known, by what is written, not by what it was parsed to."""
    aliases = Counter(_with_columns(tree))
    for at, called in _called(tokens):
        if aliases[called] > 0:
            aliases[called] -= 1
            continue
        if called not in known:
            raise BadInput(
                f"sql: the function {_quoted(called)} is not allowed here. Use common functions of "
                f"numbers, texts, dates, JSON, aggregates and windows; tables are told by "
                f"{name}_tables"
            )
        if at > 1 and tokens[at - 1].token_type is TokenType.DOT:
            _of_the_system(tokens[at - 2], called)


def _no_catalogue(tree: exp.Expression, name: str) -> None:
    """Refuse types whose values are looked up in the catalogue."""
    for one in tree.find_all(exp.DataType):
        called = one.sql("postgres").rpartition(".")[2].strip('"').lower()
        if called in _LOOKED_UP:
            raise BadInput(
                f"sql: the type {called} is not taken here: it reads the catalogues of the "
                f"database; {name}_tables tells which tables and columns there are"
            )


def _short_formats(tokens: Sequence[Token]) -> None:
    """Refuse formats that fill up: to SQLite that is one step, which nothing can end."""
    for at, called in _called(tokens):
        if called not in _FORMATS:
            continue
        given, end = tokens[at + 2], tokens[at + 3]
        plain = given.token_type in _TEXTS and end.token_type in _AFTER_ARGUMENT
        if not plain or _FILLING.search(given.text):
            raise BadInput(
                f"sql: {called} is given its format as a plain text such as '%.2f', without * and "
                "with widths of at most 999"
            )


def _called(tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """The words before a bracket that are none of the language: functions, and aliases."""
    for at, (token, following) in enumerate(pairwise(tokens)):
        if following.token_type is not TokenType.L_PAREN:
            continue
        # To SQLite a text can be the name of an alias, too.
        if token.token_type is TokenType.IDENTIFIER or token.token_type in _TEXTS:
            yield at, token.text.lower()
            continue
        # Some tokens are several words, such as GROUP BY.
        word = token.text.lower().rpartition(" ")[2]
        if _is_word(word) and word not in SYNTAX:
            yield at, word


def _is_word(text: str) -> bool:
    return text[:1].isalpha() or text[:1] == "_"


def _with_columns(tree: exp.Expression) -> Iterator[str]:
    """Aliases that name columns in brackets, as functions do their arguments."""
    for alias in tree.find_all(exp.TableAlias):
        if alias.args.get("columns") and alias.name:
            yield alias.name.lower()


def _of_the_system(schema: Token, called: str) -> None:
    if schema.text.lower() != "pg_catalog":
        raise BadInput(f"sql: leave out {_quoted(schema.text)} before the function {called}")


def _may_be_read(
    table: exp.Table, dialect: source.Dialect, schemas: Collection[str], name: str
) -> None:
    if not isinstance(table.this, exp.Identifier):
        return
    schema, own = table.db, table.name.lower()
    hint = f"{name}_tables tells which tables and columns there are"
    if table.catalog:
        raise BadInput(f"sql: leave out {_quoted(table.catalog)} before {own}; {hint}")
    if dialect == "sqlite":
        if schema and schema.lower() != "main":
            raise BadInput(f"sql: leave out {_quoted(schema)} before {own}; {hint}")
        if own.startswith(("sqlite_", "pragma_")):
            raise BadInput(f"sql: {_quoted(own)} is not read here; {hint}")
        return
    if schema.lower() in ("pg_catalog", "information_schema") or (
        not schema and own.startswith("pg_")
    ):
        raise BadInput(f"sql: the catalogues of the database are not read here; {hint}")
    folded = schema if schema and table.args["db"].quoted else schema.lower()
    if schema and folded not in schemas:
        allowed = ", ".join(sorted(schemas))
        raise BadInput(f"sql: the schema {_quoted(schema)} is not open here, only {allowed}")


def _quoted(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= _LONGEST_QUOTED else f"{short[:_LONGEST_QUOTED]}…")
