"""Columns of tables: type, meaning, and checks of their values for Spark and for pandera."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import Column as SparkColumn
from pyspark.sql import functions as F
from pyspark.sql import types as T

if TYPE_CHECKING:
    import pandera.pyspark as pa


@dataclass(frozen=True)
class Check:
    """A condition on each value of a column; null passes.

    Attributes:
        description: the check as pandera names it.
        condition: its Spark condition on a column, so that one pass over the rows counts all checks.
        pandera: its pandera check; none where pandera's column says it.
        rule: name of the rule that breaches are counted under; default `columns_valid`.
    """

    description: str
    condition: Callable[[SparkColumn], SparkColumn]
    pandera: Callable[[], pa.Check] | None = None
    rule: str = ""

    def holds(self, name: str) -> SparkColumn:
        """Whether a row's value passes."""
        return self.condition(F.col(name))


def at_least(least: int) -> Check:
    """Not below a number."""
    description = f"greater_than_or_equal_to({least})"
    return Check(description, lambda c: c.isNull() | (c >= least), lambda: _pandera().ge(least))


def between(least: int, greatest: int, rule: str = "") -> Check:
    """From a number to a number, both included."""
    description = f"in_range({least}, {greatest})"
    return Check(description, lambda c: c.isNull() | c.between(least, greatest), partial(_range, least, greatest), rule)


def one_of(values: Sequence[str], rule: str = "") -> Check:
    """One of some texts."""
    allowed = list(values)
    return Check(f"isin({allowed})", lambda c: c.isNull() | c.isin(*allowed), lambda: _pandera().isin(allowed), rule)


def _range(least: int, greatest: int) -> pa.Check:
    return _pandera().in_range(least, greatest)


def _pandera() -> type[pa.Check]:
    import pandera.pyspark as pa  # a second of start-up, for who judges by it

    return pa.Check


_THERE = Check("is not null", lambda c: c.isNotNull())
# NaN, which Spark sorts above all numbers, fails too
_FINITE = Check("is a finite number", lambda c: c.isNull() | (F.abs(c) < F.lit(math.inf)))
_TYPES: dict[str, T.DataType] = {
    "string": T.StringType(),
    "bigint": T.LongType(),
    "double": T.DoubleType(),
    "date": T.DateType(),
    "timestamp": T.TimestampType(),
    "boolean": T.BooleanType(),
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: Spark's name of its type.
        description: what it holds, with its unit.
        checks: what each value obeys.
        nullable: whether a value may be missing.
    """

    kind: str
    description: str
    checks: tuple[Check, ...] = ()
    nullable: bool = False

    @property
    def spark_type(self) -> T.DataType:
        """The type as Spark's object."""
        return _TYPES[self.kind]

    @property
    def every_check(self) -> list[Check]:
        """What each value obeys, that it is there and a number included."""
        further = [] if self.nullable else [_THERE]
        return [*further, *([_FINITE] if self.kind == "double" else []), *self.checks]


def _column(kind: str, description: str, *checks: Check, nullable: bool = False) -> Column:
    return Column(kind, description, checks, nullable)


text = partial(_column, "string")
whole = partial(_column, "bigint")
number = partial(_column, "double")
day = partial(_column, "date")
instant = partial(_column, "timestamp")
flag = partial(_column, "boolean")


def count(description: str) -> Column:
    """A count, at least 0."""
    return whole(description, at_least(0))


def mean(description: str) -> Column:
    """A mean of values that are at least 0; null without values."""
    return number(description, at_least(0), nullable=True)


def share(description: str) -> Column:
    """A share from 0 to 1; null without values."""
    return number(description, between(0, 1), nullable=True)


def pandera_schema(columns: Mapping[str, Column]) -> pa.DataFrameSchema:
    """The columns as a pandera schema, to judge a Spark frame by."""
    import pandera.pyspark as pa

    return pa.DataFrameSchema(
        {
            name: pa.Column(
                cast("Any", column.spark_type),
                checks=[check.pandera() for check in column.checks if check.pandera],
                nullable=column.nullable,
                description=column.description,
            )
            for name, column in columns.items()
        },
        strict=True,
    )
