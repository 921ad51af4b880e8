"""Stretches of days over which a user's rolling total stays the same, and how many users each day has of them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


def stretches(user_days: DataFrame, window: int) -> DataFrame:
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


def users_per_class(stretches: DataFrame, of: Column, days: DataFrame, name: str) -> DataFrame:
    """For each date and class of ``days`` how many users' stretches of that class cover the date.

    Args:
        stretches: rows of `stretches`.
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
