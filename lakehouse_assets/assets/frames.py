"""Frames that many tables need: a calendar, stacked rows, and the columns that divide rows."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.division import DIVIDED


def calendar(frame: DataFrame, first: date, last: date) -> DataFrame:
    """One row, column date, for every day from ``first`` to ``last``; ``frame`` only lends its session."""
    span = F.sequence(F.lit(first), F.lit(last))
    return frame.sparkSession.range(1).select(F.explode(span).alias("date"))


def stacked(*frames: DataFrame) -> DataFrame:
    """The rows of frames below each other; where a frame lacks a column of another, it is null.

    The null has the column's type: Spark's own `allowMissingColumns` leaves that to the engine, and Sail then has a
    column of no type, which nothing can be summed up from.
    """
    types = {field.name: field.dataType for frame in frames for field in frame.schema}
    return reduce(
        lambda above, below: above.unionByName(below),
        [
            frame.select(
                *[
                    F.col(name) if name in frame.columns else F.lit(None).cast(kind).alias(name)
                    for name, kind in types.items()
                ]
            )
            for frame in frames
        ],
    )


def in_days(column: str, first: date, last: date) -> Column:
    """Whether a date column lies between ``first`` and ``last``, both included."""
    return F.col(column).between(F.lit(first), F.lit(last))


def division(frame: DataFrame) -> list[str]:
    """The columns that divide the rows of a frame among write tasks, if it is divided.

    They follow from day and user; who groups by these groups by them too and spares a second shuffle.
    """
    return [name for name in DIVIDED if name in frame.columns]
