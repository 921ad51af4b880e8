"""Active users of the day and of rolling windows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import DAY, ENGAGEMENT, GROWTH, PERFORMANCE, WINDOW_7, WINDOW_30, Card, Chart
from lakehouse_assets.assets.columns import count, day, mean, share
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.gold.user_rows import by_user, codes, dates, day_numbers, following, sums
from lakehouse_assets.assets.gold.windows import ACTIVE_USERS_ORDERED, LONGEST_DAYS, WINDOWS
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

_CHANGES = {  # columns and their types
    "date": "date",
    **dict.fromkeys(("daily_active_users", "total_actions", "duration_ms"), "bigint"),
    **{f"_change_{window}d": "bigint" for window in WINDOWS.values()},
}


@table_asset(
    "gold.daily_metrics",
    description="Active users of the day and of rolling windows, actions and mean duration, one row a day.",
    columns={
        "date": day("Day."),
        "daily_active_users": count("DAU: distinct users active on the day."),
        "total_actions": count("Accepted interactions."),
        "avg_duration_ms": mean("Mean duration_ms of accepted interactions, in ms."),
        "weekly_active_users": count("WAU: distinct users of the 7 days that end on the day."),
        "monthly_active_users_28d": count("Distinct users of the 28 days that end on the day."),
        "monthly_active_users_30d": count("Distinct users of the 30 days that end on the day."),
        "stickiness": share("DAU / MAU30."),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days", 1 - LONGEST_DAYS, 0)},
    key=("date",),
    rules=(ACTIVE_USERS_ORDERED,),
    checks=(ACTIVE_USERS_ORDERED.name,),
    by_month=True,
    charts=(
        Chart(
            "Active users",
            GROWTH,
            "Distinct users with at least one accepted interaction on the day (DAU), on the 7 days that end on it "
            "(WAU) and on the 30 days that end on it (MAU). Counted exactly.",
            "line",
            "users",
            {
                "DAU": "daily_active_users",
                "WAU": "weekly_active_users",
                "MAU (30 days)": "monthly_active_users_30d",
            },
            covers={"DAU": DAY, "WAU": WINDOW_7, "MAU (30 days)": WINDOW_30},
            place=10,
        ),
        Chart(
            "Stickiness",
            ENGAGEMENT,
            "DAU divided by the 30-day MAU: the share of the month's users who are there on a day.",
            "line",
            "share",
            {"stickiness": "stickiness"},
            covers=WINDOW_30,
            place=10,
        ),
        Chart(
            "Mean duration of an action",
            PERFORMANCE,
            "Mean duration_ms of the day's accepted interactions, in ms.",
            "line",
            "ms",
            {"mean duration": "avg_duration_ms"},
            place=30,
        ),
    ),
    cards=(
        Card(
            "Daily active users",
            "Mean of the days' distinct users with at least one accepted interaction.",
            "users",
            "mean",
            "SELECT date, daily_active_users FROM gold.daily_metrics",
            "Active users",
            place=10,
        ),
        Card(
            "Weekly active users",
            "Distinct users of the 7 days that end on the last day.",
            "users",
            "last",
            "SELECT date, weekly_active_users FROM gold.daily_metrics",
            "Active users",
            WINDOW_7,
            place=20,
        ),
        Card(
            "Monthly active users",
            "Distinct users of the 30 days that end on the last day.",
            "users",
            "last",
            "SELECT date, monthly_active_users_30d FROM gold.daily_metrics",
            "Active users",
            WINDOW_30,
            place=30,
        ),
        Card(
            "Stickiness",
            "DAU divided by the 30-day MAU, over the days: the share of the month's users who are there on a day.",
            "share",
            "ratio",
            "SELECT date, daily_active_users, monthly_active_users_30d FROM gold.daily_metrics",
            "Stickiness",
            WINDOW_30,
            place=60,
        ),
    ),
)
def daily_metrics(user_days: DataFrame, days: Days) -> DataFrame:
    """DAU, actions, mean duration and exact rolling active users of each of the days.

    The linear gap method: on a user's sorted active days, day d makes the user count in every window of w days that
    ends in d … d + min(w, next active day - d) - 1. A +1 where that span starts and a -1 behind its end, summed by
    day and then along the days, is the number of distinct users of the window: one shuffle by user, no explosion by
    window length.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) of the days and of the 29 before.
        days: days wanted.

    Returns:
        date, daily_active_users, total_actions, avg_duration_ms (null without activity), the columns of `WINDOWS`
        (bigint), stickiness (DAU / MAU30, null while nobody was active).
    """
    by_day = (
        by_user(user_days.select("user_id", "event_date", "actions", "duration_ms"), _changes, _CHANGES)
        .groupBy("date")
        .agg(*[F.sum(name).alias(name) for name in _CHANGES if name != "date"])
    )
    # a few hundred rows from here on: one task may hold them
    so_far = Window.partitionBy(F.lit(0)).orderBy("date").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    every_day = calendar(user_days, *days)
    everything = by_day.join(every_day.withColumn("_wanted", F.lit(True)), "date", "full_outer")
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


def _changes(user_days: pa.Table) -> pa.Table:
    """By how much the users of each window change on each day, and what the users of the day did; of some users."""
    user, _ = codes(user_days["user_id"])
    day = day_numbers(user_days["event_date"])
    lowest = int(day.min())
    day -= lowest
    span = int(day.max()) + 1
    on = np.sort(user * span + day)
    begin, next_day = on % span, following(on, span)
    size = span + LONGEST_DAYS
    users = np.bincount(begin, minlength=size)
    done = [sums(day, user_days[name].to_numpy(), size) for name in ("actions", "duration_ms")]
    ends = [np.minimum(begin + window, next_day) for window in WINDOWS.values()]
    columns = [
        dates(np.arange(lowest, lowest + size)),
        *[pa.array(of_day, mask=users == 0) for of_day in (users, *done)],
        *[pa.array(users - np.bincount(end, minlength=size)) for end in ends],
    ]
    return pa.Table.from_arrays(columns, names=list(_CHANGES))
