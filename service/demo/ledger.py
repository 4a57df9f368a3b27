"""A data set to investigate: the invoices of an invented company, with a few things amiss.

The same rows every time. What is amiss is said below, so that findings can be checked.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

VENDORS = 120
EMPLOYEES = 40
INVOICES = 4000
DUPLICATES = 23
"""Invoices that were entered, and paid, a second time under a slightly other number."""
BELOW_LIMIT = 31
"""Invoices of one vendor just below the limit above which two people have to approve."""
LIMIT = 10_000
CONFLICTED_VENDOR, CONFLICTED_EMPLOYEE = 77, 12
"""They share a bank account; the employee approves the vendor's invoices."""

SCHEMA = """
CREATE TABLE vendors (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  country TEXT NOT NULL,
  account TEXT NOT NULL
);
CREATE TABLE employees (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  department TEXT NOT NULL,
  account TEXT NOT NULL
);
CREATE TABLE invoices (
  id INTEGER PRIMARY KEY,
  number TEXT NOT NULL,
  vendor_id INTEGER NOT NULL REFERENCES vendors (id),
  amount NUMERIC(12, 2) NOT NULL,
  invoiced_on DATE NOT NULL,
  category TEXT NOT NULL,
  approved_by INTEGER NOT NULL REFERENCES employees (id)
);
CREATE TABLE payments (
  id INTEGER PRIMARY KEY,
  invoice_id INTEGER NOT NULL REFERENCES invoices (id),
  amount NUMERIC(12, 2) NOT NULL,
  paid_on DATE NOT NULL
);
"""

_COUNTRIES = ("DE", "FR", "IT", "NL", "PL", "ES", "SE")
_CATEGORIES = ("Freight", "IT", "Marketing", "Office", "Raw material", "Services", "Travel")
_DEPARTMENTS = ("Finance", "Logistics", "Production", "Purchasing", "Sales")
_BEGINNINGS = ("Ar", "Bel", "Cor", "Dan", "El", "Fen", "Gar", "Hol", "Is", "Jun", "Kel", "Lor")
_MIDDLES = ("an", "be", "do", "eri", "ga", "i", "lo", "mi", "no", "ra", "tu", "ve")
_ENDS = ("berg", "dal", "field", "gard", "holm", "ia", "mar", "ner", "rin", "stein", "ton", "vik")
_KINDS = ("AG", "BV", "GmbH", "Ltd", "SA", "SpA")
_FIRST_DAY = date(2025, 1, 2)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one table, in the order of its columns."""

    name: str
    rows: Sequence[tuple[object, ...]]


def tables() -> list[Table]:
    """Every row there is, parents first."""
    chance = random.Random(20250102)
    vendors = list(_vendors(chance))
    employees = list(_employees(chance))
    invoices = list(_invoices(chance))
    payments = [
        (place, invoice[0], invoice[3], _later(invoice[4], chance.randint(5, 45)))
        for place, invoice in enumerate(invoices, start=1)
        if chance.random() < 0.97 or place > INVOICES
    ]
    return [
        Table("vendors", vendors),
        Table("employees", employees),
        Table("invoices", invoices),
        Table("payments", payments),
    ]


def write(path: Path) -> int:
    """Write the data set to a new SQLite file; how many rows it has. Raises OSError."""
    if path.exists():
        raise FileExistsError(f"{path} exists already; name a new file")
    made = tables()
    try:
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.executescript(SCHEMA)
            for table in made:
                places = ", ".join("?" * len(table.rows[0]))
                conn.executemany(f"INSERT INTO {table.name} VALUES ({places})", table.rows)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    return sum(len(table.rows) for table in made)


def _vendors(chance: random.Random) -> Iterator[tuple[object, ...]]:
    for number in range(1, VENDORS + 1):
        name = f"{_name(chance)} {chance.choice(_KINDS)}"
        yield number, name, chance.choice(_COUNTRIES), _account("V", number)


def _employees(chance: random.Random) -> Iterator[tuple[object, ...]]:
    for number in range(1, EMPLOYEES + 1):
        mine = number == CONFLICTED_EMPLOYEE
        account = _account("V", CONFLICTED_VENDOR) if mine else _account("E", number)
        yield number, f"{_name(chance)} {_name(chance)}", chance.choice(_DEPARTMENTS), account


def _invoices(chance: random.Random) -> Iterator[tuple[int, str, int, float, str, str, int]]:
    made: list[tuple[int, str, int, float, str, str, int]] = []
    splitting = chance.randrange(1, VENDORS + 1)
    near = set(chance.sample(range(INVOICES), BELOW_LIMIT))
    for place in range(INVOICES):
        vendor = chance.randrange(1, VENDORS + 1)
        amount = round(min(chance.lognormvariate(7.2, 1.1), 240_000), 2)
        if LIMIT * 0.97 <= amount < LIMIT:
            amount = round(amount - LIMIT * 0.05, 2)
        if place in near:
            vendor, amount = splitting, round(LIMIT - chance.uniform(5, 250), 2)
        approver = chance.randrange(1, EMPLOYEES + 1)
        if vendor == CONFLICTED_VENDOR:
            approver = CONFLICTED_EMPLOYEE
        day = _later(_FIRST_DAY.isoformat(), chance.randrange(360))
        category = chance.choice(_CATEGORIES)
        made.append(
            (place + 1, f"R{vendor:03}-{place + 1:05}", vendor, amount, day, category, approver)
        )
    yield from made
    again = chance.sample([one for one in made if one[3] > 500], DUPLICATES)
    for extra, (_, number, vendor, amount, day, category, approver) in enumerate(again, start=1):
        copied = f"{number[:-1]}O" if number.endswith("0") else f"{number} "
        yield INVOICES + extra, copied, vendor, amount, _later(day, 3), category, approver


def _name(chance: random.Random) -> str:
    return chance.choice(_BEGINNINGS) + chance.choice(_MIDDLES) + chance.choice(_ENDS)


def _account(kind: str, number: int) -> str:
    return f"{kind}{number:04}-{number * 7919 % 9973:04}"


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
