"""Activity per user and day, and exact distinct users of any window (METRICS: "Activity")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.calendar import period_first

# Lengths in days of the rolling windows, each ending on its row's day.
WINDOWS = {"weekly_active_users": 7, "monthly_active_users_28d": 28, "monthly_active_users_30d": 30}


def user_days(interactions: DataFrame, action_columns: Mapping[str, str], divided_by: Sequence[str] = ()) -> DataFrame:
    """One row per active user and day.

    Args:
        interactions: accepted rows: event_date, user_id, timestamp, action_type, duration_ms.
        action_columns: for each action type the column that counts it.
        divided_by: see `lakehouse_assets.transforms.cleaning.deduplicate`.

    Returns:
        event_date, user_id, actions (bigint), one bigint column per action type, duration_ms (sum, ms),
        first_timestamp, last_timestamp.
    """
    by_type = [F.count_if(F.col("action_type") == action).alias(name) for action, name in action_columns.items()]
    return interactions.groupBy(*divided_by, "event_date", "user_id").agg(
        F.count(F.lit(1)).alias("actions"),
        *by_type,
        F.sum("duration_ms").alias("duration_ms"),
        F.min("timestamp").alias("first_timestamp"),
        F.max("timestamp").alias("last_timestamp"),
    )


def calendar(days: DataFrame, first: date, last: date) -> DataFrame:
    """One row, column date, for every day from ``first`` to ``last``; ``days`` only lends its session."""
    span = F.sequence(F.lit(first), F.lit(last))
    return days.sparkSession.range(1).select(F.explode(span).alias("date"))


def daily_metrics(user_days: DataFrame, first: date, last: date) -> DataFrame:
    """DAU, actions, mean duration and exact rolling active users of each day from ``first`` to ``last``.

    The linear gap method: on a user's sorted active days, day d makes the user count in every window of w days that
    ends in d … d + min(w, next active day - d) - 1. A +1 where that span starts and a -1 behind its end, summed by
    day and then along the days, is the number of distinct users of the window: one shuffle by user, no explosion by
    window length.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) of ``first`` - 29 … ``last``.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, daily_active_users, total_actions, avg_duration_ms (null without activity), the columns of `WINDOWS`
        (bigint), stickiness (DAU / MAU30, null while nobody was active).
    """
    next_day = F.lead("event_date").over(Window.partitionBy("user_id").orderBy("event_date"))
    spans = user_days.select("event_date", "actions", "duration_ms", next_day.alias("next_day"))
    starts_and_ends = [
        F.struct(
            F.col("event_date").alias("date"),
            F.lit(0).alias("window"),
            F.lit(1).alias("delta"),
            "actions",
            "duration_ms",
        )
    ]
    nothing = F.lit(None).cast("bigint")
    for window in WINDOWS.values():
        end = F.least(F.date_add("event_date", window), F.col("next_day"))
        starts_and_ends.append(_step(F.col("event_date"), window, 1, nothing))
        starts_and_ends.append(_step(end, window, -1, nothing))
    steps = spans.select(F.inline(F.array(*starts_and_ends)))
    by_day = steps.groupBy("date").agg(
        F.sum(F.when(F.col("window") == 0, F.col("delta"))).alias("daily_active_users"),
        F.sum("actions").alias("total_actions"),
        F.sum("duration_ms").alias("duration_ms"),
        *[F.sum(F.when(F.col("window") == w, F.col("delta"))).alias(f"_change_{w}d") for w in WINDOWS.values()],
    )
    # a few hundred rows from here on: one task may hold them
    so_far = Window.partitionBy(F.lit(0)).orderBy("date").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    days = calendar(user_days, first, last)
    everything = by_day.join(days.withColumn("_wanted", F.lit(True)), "date", "full_outer")
    running = {
        name: F.sum(F.coalesce(F.col(f"_change_{w}d"), F.lit(0))).over(so_far).cast("bigint")
        for name, w in WINDOWS.items()
    }
    return (
        everything.withColumns(running)
        .where("_wanted")
        .select(
            "date",
            F.coalesce("daily_active_users", F.lit(0)).alias("daily_active_users"),
            F.coalesce("total_actions", F.lit(0)).alias("total_actions"),
            (F.col("duration_ms") / F.col("total_actions")).alias("avg_duration_ms"),
            *running,
            F.try_divide(F.coalesce("daily_active_users", F.lit(0)), "monthly_active_users_30d").alias("stickiness"),
        )
    )


def _step(day: Column, window: int, delta: int, nothing: Column) -> Column:
    return F.struct(
        day.alias("date"),
        F.lit(window).alias("window"),
        F.lit(delta).alias("delta"),
        nothing.alias("actions"),
        nothing.alias("duration_ms"),
    )


def monthly_metrics(user_days: DataFrame, first: date, last: date) -> DataFrame:
    """Calendar month to date for each day from ``first`` to ``last``.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) from the first of ``first``'s month to ``last``;
            earlier rows are ignored.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, month_date (first of month), monthly_active_users, total_monthly_actions, avg_duration_ms (null while
        the month has no activity).
    """
    names = ("month_date", "monthly_active_users", "total_monthly_actions")
    return _to_date(user_days, first, last, "month", names)


def weekly_metrics(user_days: DataFrame, first: date, last: date) -> DataFrame:
    """ISO week to date for each day from ``first`` to ``last``.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) from the Monday of ``first``'s week to ``last``;
            earlier rows are ignored.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, week_date (Monday), weekly_active_users, total_weekly_actions, avg_duration_ms (null while the week has
        no activity).
    """
    return _to_date(user_days, first, last, "week", ("week_date", "weekly_active_users", "total_weekly_actions"))


def _to_date(user_days: DataFrame, first: date, last: date, period: str, names: tuple[str, str, str]) -> DataFrame:
    """Period to date, its columns named as given: first day of the period, distinct users, actions; and the mean.

    A user counts from the first active day of the period on, so the running count of first active days is the number
    of distinct users: one shuffle by user.
    """
    period_date, active_users, total_actions = names
    start = F.trunc("event_date", period)
    earlier = F.lag("event_date").over(Window.partitionBy("user_id").orderBy("event_date"))
    in_periods = user_days.where(F.col("event_date") >= F.trunc(F.lit(first), period))
    by_day = (
        in_periods.select(
            F.col("event_date").alias("date"),
            "actions",
            "duration_ms",
            F.coalesce(earlier < start, F.lit(True)).alias("first_of_period"),
        )
        .groupBy("date")
        .agg(
            F.count_if("first_of_period").alias("new_users"),
            F.sum("actions").alias("actions"),
            F.sum("duration_ms").alias("duration_ms"),
        )
    )
    to_date = Window.partitionBy(period_date).orderBy("date").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    days = calendar(user_days, period_first(first, period), last)
    actions = F.sum(F.coalesce("actions", F.lit(0))).over(to_date)
    return (
        days.join(by_day, "date", "left")
        .withColumn(period_date, F.trunc("date", period))
        .select(
            "date",
            period_date,
            F.sum(F.coalesce("new_users", F.lit(0))).over(to_date).alias(active_users),
            actions.alias(total_actions),
            F.try_divide(F.sum("duration_ms").over(to_date), actions).alias("avg_duration_ms"),
        )
        .where(F.col("date") >= F.lit(first))
    )


def action_metrics(user_days: DataFrame, action_columns: Mapping[str, str], first: date, last: date) -> DataFrame:
    """Users and actions of each type on each day from ``first`` to ``last``, also of types nobody used.

    Args:
        user_days: event_date and, for each action type, the column that counts it, of ``first`` … ``last``.
        action_columns: for each action type that column.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, action_type, users, actions (bigint).
    """
    counts = [
        F.struct(F.lit(action).alias("action_type"), F.col(name).alias("actions"))
        for action, name in action_columns.items()
    ]
    by_type = user_days.select(F.col("event_date").alias("date"), F.inline(F.array(*counts)))
    by_day = by_type.groupBy("date", "action_type").agg(
        F.count_if(F.col("actions") > 0).alias("users"), F.sum("actions").alias("actions")
    )
    types = F.explode(F.array(*map(F.lit, action_columns)))
    every_day = calendar(user_days, first, last).withColumn("action_type", types)
    return every_day.join(by_day, ["date", "action_type"], "left").fillna(0, ["users", "actions"])
