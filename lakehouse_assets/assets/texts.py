"""Delivered texts: without blanks around, and the first reason that speaks against a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F


def trimmed(column: str) -> Column:
    """A text without the blanks and tabs around it; other white space can't be in a row that is read."""
    return F.trim(F.col(column), F.lit(" \t"))


def first_reason(reasons: Sequence[str], holds: Mapping[str, Column]) -> Column:
    """The first of the reasons that holds for a row, or null."""
    first = F.coalesce(*[F.when(holds[name], F.lit(name)) for name in reasons])
    return F.when(reduce(or_, [holds[name] for name in reasons]), first)  # few rows are asked for which it is
