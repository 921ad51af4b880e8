"""How often and how much users use the app over a rolling window (METRICS: "L28", "Power users")."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar

L28_DAYS = 28
POWER_DAYS = 30
POWER_PERCENT = 1
# Classes of a sum, eight to a doubling: few enough to count, narrow enough that few users share the edge's.
_CLASSES_A_DOUBLING = 8


def l28_histogram(user_days: DataFrame, first: date, last: date) -> DataFrame:
    """How many users were active on k of the 28 days that end on each day from ``first`` to ``last``.

    Args:
        user_days: event_date, user_id of ``first`` - 27 … ``last``.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, active_days (k = 1 … 28), users (bigint); 28 rows a day.
    """
    stretches = _stretches(user_days.withColumn("amount", F.lit(1)), L28_DAYS)
    numbers = F.explode(F.sequence(F.lit(1).cast("bigint"), F.lit(L28_DAYS).cast("bigint")))
    days = calendar(user_days, first, last).withColumn("active_days", numbers)
    return _users_per_class(stretches, F.col("amount"), days, "active_days").select("date", "active_days", "users")


def power_users(user_days: DataFrame, first: date, last: date) -> DataFrame:
    """The top 1 % (rounded up) of users by duration over the 30 days that end on each day from ``first`` to ``last``.

    Users who share the edge's sum are all in. Writing every user's sum down for every day would be the log times
    thirty; instead users are counted by classes of their sum, the class that holds the edge is looked up for each
    day, and only the stretches in and above it are written down by day and ranked.

    Args:
        user_days: event_date, user_id, duration_ms (sum) of ``first`` - 29 … ``last``.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, user_id, duration_ms_30d (sum over the 30 days), duration_rank (from 1; equal sums share one).
    """
    stretches = _stretches(user_days.withColumnRenamed("duration_ms", "amount"), POWER_DAYS)
    of_sum = F.floor(F.log2(F.col("amount") + 1) * _CLASSES_A_DOUBLING).cast("bigint")
    classed = stretches.withColumn("class", of_sum)
    days = calendar(user_days, first, last).crossJoin(classed.select("class").distinct())
    counted = _users_per_class(classed, F.col("class"), days, "class")
    by_day = Window.partitionBy("date")
    from_above = by_day.orderBy(F.desc("class"))
    places = F.ceil(F.sum("users").over(by_day) * POWER_PERCENT / 100)
    edges = (
        counted.withColumns({"places": places, "above": F.sum("users").over(from_above)})
        .where("users > 0 AND above >= places")
        .groupBy("date")
        .agg(F.max("class").alias("edge"), F.first("places").alias("places"))
    )
    lowest = edges.agg(F.min("edge").alias("lowest"))
    candidates = (
        classed.join(F.broadcast(lowest), F.col("class") >= F.col("lowest"))
        .withColumn("since", F.greatest("since", F.lit(first)))
        .withColumn("until", F.least("until", F.date_add(F.lit(last), 1)))
        .where(F.col("since") < F.col("until"))
        .select("user_id", "amount", "class", F.explode(F.sequence("since", F.date_sub("until", 1))).alias("date"))
        .join(F.broadcast(edges), "date")
        .where("class >= edge")
    )
    rank = F.rank().over(by_day.orderBy(F.desc("amount"))).cast("bigint")
    return (
        candidates.withColumn("duration_rank", rank)
        .where("duration_rank <= places")
        .select("date", "user_id", F.col("amount").alias("duration_ms_30d"), "duration_rank")
    )


def _stretches(user_days: DataFrame, window: int) -> DataFrame:
    """The days over which a user's total of the last ``window`` days stays the same.

    A total changes on an active day, and ``window`` days later when that day leaves the window: two changes an active
    day, whatever the length of the window. One shuffle by user.

    Args:
        user_days: event_date, user_id, amount.
        window: days the total covers.

    Returns:
        user_id, since (first day), until (day after the last), amount (bigint); only while an active day is inside.
    """
    changes = user_days.select(
        "user_id",
        F.inline(
            F.array(
                _change(F.col("event_date"), F.col("amount"), 1),
                _change(F.date_add("event_date", window), -F.col("amount"), -1),
            )
        ),
    )
    by_user = Window.partitionBy("user_id").orderBy("since")
    # a running sum takes changes of the same day together, so of two rows of a day one lasts for no time
    return (
        changes.select(
            "user_id",
            "since",
            F.lead("since").over(by_user).alias("until"),
            F.sum("amount").over(by_user).cast("bigint").alias("amount"),
            F.sum("active_days").over(by_user).alias("active_days"),
        )
        .where("active_days > 0 AND since < until")
        .select("user_id", "since", "until", "amount")
    )


def _change(day: Column, amount: Column, active_days: int) -> Column:
    return F.struct(day.alias("since"), amount.alias("amount"), F.lit(active_days).alias("active_days"))


def _users_per_class(stretches: DataFrame, of: Column, days: DataFrame, name: str) -> DataFrame:
    """For each date and class of ``days`` how many users' stretches of that class cover the date.

    Args:
        stretches: rows of `_stretches`.
        of: the class of a stretch.
        days: date and the class column; for a class all dates from the first wanted on.
        name: the class column's name.

    Returns:
        ``days`` with users (bigint).
    """
    begins_and_ends = F.array(
        F.struct(F.col("since").alias("date"), F.lit(1).alias("step")),
        F.struct(F.col("until").alias("date"), F.lit(-1).alias("step")),
    )
    steps = (
        stretches.select(of.alias(name), F.inline(begins_and_ends))
        .groupBy(name, "date")
        .agg(F.sum("step").alias("step"))
    )
    so_far = Window.partitionBy(name).orderBy("date")
    everything = days.withColumn("wanted", F.lit(True)).join(steps, [name, "date"], "full_outer")
    return (
        everything.withColumn("users", F.sum(F.coalesce("step", F.lit(0))).over(so_far))
        .where("wanted")
        .select("date", name, "users")
    )
