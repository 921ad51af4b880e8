"""What tables of rolling windows and of periods to date share."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import Rule
from lakehouse_assets.calendar import period_first

# Lengths in days of the rolling windows, each ending on its row's day.
WINDOWS = {"weekly_active_users": 7, "monthly_active_users_28d": 28, "monthly_active_users_30d": 30}
LONGEST_DAYS = max(WINDOWS.values())

ACTIVE_USERS_ORDERED = Rule(
    "active_users_ordered",
    "DAU <= WAU <= MAU28 <= MAU30",
    lambda: (
        (F.col("daily_active_users") <= F.col("weekly_active_users"))
        & (F.col("weekly_active_users") <= F.col("monthly_active_users_28d"))
        & (F.col("monthly_active_users_28d") <= F.col("monthly_active_users_30d"))
    ),
)


def to_date(user_days: DataFrame, first: date, last: date, period: str, names: tuple[str, str, str]) -> DataFrame:
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
