"""Statements that account for every row: numbers counted at different places, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.frames import calendar, stacked


def side_by_side(sides: Sequence[DataFrame], first: date, last: date) -> DataFrame:
    """The numbers of several frames with a column date, one row for each day from ``first`` to ``last``, 0 for none."""
    # stacked and summed once rather than joined for each: one shuffle of a few rows
    names = [name for side in sides for name in side.columns if name != "date"]
    rows = stacked(calendar(sides[0], first, last), *sides)
    totals = rows.groupBy("date").agg(*[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names])
    return totals.where(F.col("date").between(F.lit(first), F.lit(last)))
