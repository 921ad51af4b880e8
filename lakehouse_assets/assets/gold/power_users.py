"""Users who use the app most (docs/metrics: power users)."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, WINDOW_30, Chart
from lakehouse_assets.assets.columns import at_least, count, day, text, whole
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.gold.stretches import stretches, users_per_class
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

POWER_DAYS = 30
POWER_PERCENT = 1
# Classes of a sum, eight to a doubling: few enough to count, narrow enough that few users share the edge's.
_CLASSES_A_DOUBLING = 8
_MOST_CLASSES = 63 * _CLASSES_A_DOUBLING  # as a sum is a bigint


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
    summed = stretches(user_days.withColumnRenamed("duration_ms", "amount"), POWER_DAYS)
    of_sum = F.floor(F.log2(F.col("amount") + 1) * _CLASSES_A_DOUBLING).cast("bigint")
    classed = summed.withColumn("class", of_sum)
    every_class = F.explode(F.sequence(F.lit(0).cast("bigint"), F.lit(_MOST_CLASSES).cast("bigint")))
    every_day = calendar(user_days, *days)
    counted = users_per_class(classed, F.col("class"), every_day.withColumn("class", every_class), "class")
    by_day = Window.partitionBy("date")
    from_above = by_day.orderBy(F.desc("class"))
    places = F.ceil(F.sum("users").over(by_day) * POWER_PERCENT / 100)
    edges = (
        counted.withColumns({"places": places, "above": F.sum("users").over(from_above)})
        .where("users > 0 AND above >= places")
        .groupBy("date")
        .agg(F.max("class").alias("edge"), F.first("places").alias("places"))
    )
    # in one row, so that what they are counted from is read twice and not three times
    edge_of_day = F.sort_array(F.collect_list(F.struct("date", "edge", "places")))
    all_edges = every_day.join(edges, "date", "left").agg(edge_of_day.alias("edges"), F.min("edge").alias("lowest"))
    since, until = F.greatest("since", F.lit(days.first)), F.least("until", F.date_add(F.lit(days.last), 1))
    of_stretch = F.slice("edges", F.date_diff(since, F.lit(days.first)) + 1, F.date_diff(until, since))
    reached = F.filter(of_stretch, lambda day: F.col("class") >= day["edge"])
    candidates = (
        classed.join(F.broadcast(all_edges), F.col("class") >= F.col("lowest"))
        .where(since < until)
        .select("user_id", "amount", F.inline(reached))
    )
    rank = F.rank().over(by_day.orderBy(F.desc("amount"))).cast("bigint")
    return (
        candidates.withColumn("duration_rank", rank)
        .where("duration_rank <= places")
        .select("date", "user_id", F.col("amount").alias("duration_ms_30d"), "duration_rank")
    )
