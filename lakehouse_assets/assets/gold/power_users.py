"""Users who use the app most (docs/metrics: power users)."""

from __future__ import annotations

from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, WINDOW_30, Chart
from lakehouse_assets.assets.columns import at_least, count, day, text, whole
from lakehouse_assets.assets.gold.stretches import of_users_per_class, stretches
from lakehouse_assets.assets.gold.user_rows import Integers, dates, day_number
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

POWER_DAYS = 30
POWER_PERCENT = 1
# Classes of a sum, eight to a doubling: few enough to count, narrow enough that few users share the edge's.
_CLASSES_A_DOUBLING = 8
_CLASSES = 65 * _CLASSES_A_DOUBLING  # as a sum is a bigint
_EDGES = {"begin": "date", "lowest": "bigint", "edges": "array<struct<date: date, edge: bigint, places: bigint>>"}


@table_asset(
    "gold.power_users",
    description="The top 1 % (rounded up) of users by duration over 30 days; ties at the edge are all in.",
    columns={
        "date": day("Last of the 30 days."),
        "user_id": text("User."),
        "duration_ms_30d": count("Sum of duration_ms over the 30 days, in ms."),
        "duration_rank": whole("Place by that sum; equal sums share the first.", at_least(1)),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days", 1 - POWER_DAYS, 0)},
    key=("date", "user_id"),
    by_month=True,
    charts=(
        Chart(
            "Time of power users",
            ENGAGEMENT,
            "The 1 % of the users of 30 days with the largest sum of duration_ms in them, in hours: the first, and the "
            "last who is still among them.",
            "line",
            "hours",
            query="SELECT date, series, value FROM (SELECT date, max(duration_ms_30d) / 3600000 AS 'first', "
            "min(duration_ms_30d) / 3600000 AS 'last' FROM gold.power_users GROUP BY date) "
            "UNPIVOT (value FOR series IN (first, last)) ORDER BY series, date",
            covers=WINDOW_30,
            place=30,
        ),
    ),
)
def power_users(user_days: DataFrame, days: Days) -> DataFrame:
    """The top 1 % (rounded up) of users by duration over the 30 days that end on each of the days.

    Users who share the edge's sum are all in. Writing every user's sum down for every day would be the log times
    thirty; instead users are counted by classes of their sum, the class that holds the edge is looked up for each
    day, and only the stretches in and above it are written down by day and ranked.

    Args:
        user_days: event_date, user_id, duration_ms (sum) of the days and of the 29 before.
        days: days wanted.

    Returns:
        date, user_id, duration_ms_30d (sum over the 30 days), duration_rank (from 1; equal sums share one).
    """
    active = user_days.withColumnRenamed("duration_ms", "amount")
    edges = of_users_per_class(active, POWER_DAYS, _class_of, _CLASSES, days, partial(_edges, days.first), _EDGES)
    begin, end = F.greatest("since", F.lit(days.first)), F.least("until", F.date_add(F.lit(days.last), 1))
    of_stretch = F.slice("edges", F.lit(1), F.date_diff(end, "begin"))
    reached = F.filter(of_stretch, lambda day: F.col("class") >= day["edge"])
    # few of the stretches are left by the join, and only those get the edges of their days
    candidates = (
        F.broadcast(edges)
        .join(
            stretches(active, POWER_DAYS, _class_of).where(begin < end),
            (F.col("begin") == begin) & (F.col("lowest") <= F.col("class")),
        )
        .select("user_id", "amount", F.inline(reached))
    )
    rank = F.rank().over(Window.partitionBy("date").orderBy(F.desc("amount"))).cast("bigint")
    return (
        candidates.withColumn("duration_rank", rank)
        .where("duration_rank <= places")
        .select("date", "user_id", F.col("amount").alias("duration_ms_30d"), "duration_rank")
    )


def _class_of(total: Integers) -> Integers:
    """The class of a sum: its binary digits, and the eighth of its doubling."""
    mantissa, exponent = np.frexp(total + 1.0)
    return exponent.astype(np.int64) * _CLASSES_A_DOUBLING + ((mantissa * 2 - 1) * _CLASSES_A_DOUBLING).astype(np.int64)


def _edges(first: date, users: Integers) -> pa.Table:
    """For each day the class that holds its edge and how many places it has, and those of the days ahead.

    Args:
        first: the first of the days.
        users: how many, by day and class.

    Returns:
        The columns of `_EDGES`.
    """
    places = -(-users.sum(axis=1) * POWER_PERCENT // 100)
    from_above = np.cumsum(users[:, ::-1], axis=1)
    edge = _CLASSES - 1 - np.argmax(from_above >= places[:, np.newaxis], axis=1)
    begin = np.arange(len(edge))
    ahead = begin[:, np.newaxis] + np.arange(POWER_DAYS)
    there = ahead < len(edge)
    day = ahead[there]
    dated = dates(begin + day_number(first))
    struct = pa.StructArray.from_arrays([dated.take(pa.array(day)), edge[day], places[day]], ["date", "edge", "places"])
    offsets = np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32)
    lowest = np.where(there, edge[np.minimum(ahead, len(edge) - 1)], _CLASSES).min(axis=1)
    columns = [dated, pa.array(lowest), pa.ListArray.from_arrays(offsets, struct)]
    return pa.Table.from_arrays(columns, names=list(_EDGES))
