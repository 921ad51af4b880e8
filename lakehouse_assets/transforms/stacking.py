"""Rows of several frames below each other."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


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
