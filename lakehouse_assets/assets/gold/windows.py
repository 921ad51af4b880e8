"""What tables of rolling windows and of periods to date share."""

from __future__ import annotations

from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.gold.user_rows import (
    Integers,
    by_user,
    codes,
    dates,
    day_numbers,
    preceding,
    sums,
)
from lakehouse_assets.assets.table import Rule
from lakehouse_assets.calendar import period_first

# Lengths in days of the rolling windows, each ending on its row's day.
WINDOWS = {"weekly_active_users": 7, "monthly_active_users_28d": 28, "monthly_active_users_30d": 30}
LONGEST_DAYS = max(WINDOWS.values())
_OF_DAYS = {"date": "date", "new_users": "bigint", "actions": "bigint", "duration_ms": "bigint"}

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
    in_periods = user_days.where(F.col("event_date") >= F.trunc(F.lit(first), period))
    by_day = (
        by_user(
            in_periods.select("user_id", "event_date", "actions", "duration_ms"), partial(_of_days, period), _OF_DAYS
        )
        .groupBy("date")
        .agg(*[F.sum(name).alias(name) for name in _OF_DAYS if name != "date"])
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


def _of_days(period: str, user_days: pa.Table) -> pa.Table:
    """Users on their first active day of a period, and what the users of the day did; of some users."""
    user, _ = codes(user_days["user_id"])
    day = day_numbers(user_days["event_date"])
    span = int(day.max()) + 1
    on = np.sort(user * span + day)
    active_day, lowest = on % span, int(day.min())
    start, _ = bounds(np.arange(lowest, span), period)
    opens = preceding(on, span) < start[active_day - lowest]
    size = span - lowest
    there = np.flatnonzero(np.bincount(day - lowest, minlength=size))
    new = np.bincount(active_day[opens] - lowest, minlength=size)
    done = [sums(day - lowest, user_days[name].to_numpy(), size) for name in ("actions", "duration_ms")]
    columns = [dates(there + lowest), *[pa.array(of_day[there]) for of_day in (new, *done)]]
    return pa.Table.from_arrays(columns, names=list(_OF_DAYS))


def bounds(day: Integers, period: str) -> tuple[Integers, Integers]:
    """The first days of days' periods, and of the periods after."""
    if period == "day":
        return day, day + 1
    if period == "week":
        monday = day - (day + 3) % 7  # 1 January 1970 was a Thursday
        return monday, monday + 7
    month = day.astype("datetime64[D]").astype("datetime64[M]")
    first, after = (one.astype("datetime64[D]").astype(np.int64) for one in (month, month + 1))
    return first, after
