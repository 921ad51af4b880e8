"""The ISO week to date."""

from __future__ import annotations

from pyspark.sql import DataFrame

from lakehouse_assets.assets.charts import GROWTH, WEEK, Chart, whole_periods
from lakehouse_assets.assets.columns import count, day, mean
from lakehouse_assets.assets.gold.windows import to_date
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days


@table_asset(
    "gold.weekly_metrics",
    description="ISO week to date; the week's figure stands on its Sunday.",
    columns={
        "date": day("Day the row counts up to."),
        "week_date": day("Monday of the week."),
        "weekly_active_users": count("Distinct users of the week to date."),
        "total_weekly_actions": count("Accepted interactions of the week to date."),
        "avg_duration_ms": mean("Mean duration_ms of the week to date, in ms."),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days", -6, 0, within="week")},
    key=("date",),
    by_month=True,
    charts=(
        Chart(
            "Weekly active users",
            GROWTH,
            "Distinct users of each ISO week, Monday to Sunday; at least the last 13.",
            "bar",
            "users",
            query=whole_periods(WEEK, "gold.weekly_metrics", "weekly_active_users"),
            covers=WEEK,
            place=20,
        ),
    ),
)
def weekly_metrics(user_days: DataFrame, days: Days) -> DataFrame:
    """ISO week to date for each of the days.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) from the Monday of the first day's week on;
            earlier rows are ignored.
        days: days wanted.

    Returns:
        date, week_date (Monday), weekly_active_users, total_weekly_actions, avg_duration_ms (null while the week has
        no activity).
    """
    return to_date(user_days, *days, "week", ("week_date", "weekly_active_users", "total_weekly_actions"))
