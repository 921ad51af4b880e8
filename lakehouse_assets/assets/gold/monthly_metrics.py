"""The calendar month to date."""

from __future__ import annotations

from pyspark.sql import DataFrame

from lakehouse_assets.assets.charts import GROWTH, MONTH, Chart, whole_periods
from lakehouse_assets.assets.columns import count, day, mean
from lakehouse_assets.assets.gold.windows import to_date
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days


@table_asset(
    "gold.monthly_metrics",
    description="Calendar month to date; the month's figure stands on its last day.",
    columns={
        "date": day("Day the row counts up to."),
        "month_date": day("First day of the month."),
        "monthly_active_users": count("Distinct users of the month to date."),
        "total_monthly_actions": count("Accepted interactions of the month to date."),
        "avg_duration_ms": mean("Mean duration_ms of the month to date, in ms."),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days", -30, 0, within="month")},  # the longest way back to the first
    key=("date",),
    by_month=True,
    charts=(
        Chart(
            "Monthly active users",
            GROWTH,
            "Distinct users of each calendar month; at least the last 13.",
            "bar",
            "users",
            query=whole_periods(MONTH, "gold.monthly_metrics", "monthly_active_users"),
            covers=MONTH,
            place=30,
        ),
    ),
)
def monthly_metrics(user_days: DataFrame, days: Days) -> DataFrame:
    """Calendar month to date for each of the days.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum) from the first of the first day's month on;
            earlier rows are ignored.
        days: days wanted.

    Returns:
        date, month_date (first of month), monthly_active_users, total_monthly_actions, avg_duration_ms (null while
        the month has no activity).
    """
    names = ("month_date", "monthly_active_users", "total_monthly_actions")
    return to_date(user_days, *days, "month", names)
