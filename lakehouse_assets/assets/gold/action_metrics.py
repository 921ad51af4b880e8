"""Users and actions by action type."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, Chart
from lakehouse_assets.assets.columns import count, day, one_of, text
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.calendar import Days
from lakehouse_assets.settings import action_column


@table_asset(
    "gold.action_metrics",
    description="Users and actions of each action type and day.",
    columns=lambda settings: {
        "date": day("Day."),
        "action_type": text("What the users did.", one_of(settings.allowed_actions)),
        "users": count("Distinct users who did it."),
        "actions": count("How often they did, accepted interactions."),
    },
    partition_column="date",
    reads={"user_days": Input("silver.user_days")},
    key=("date", "action_type"),
    rules=(Rule("users_within_actions", "users <= actions", lambda: F.col("users") <= F.col("actions")),),
    checks=("users_within_actions",),
    by_month=True,
    charts=(
        Chart(
            "Actions by type",
            ENGAGEMENT,
            "Accepted interactions of the day by what the users did.",
            "bar",
            "actions",
            query="SELECT date, action_type AS series, actions::DOUBLE AS value FROM gold.action_metrics "
            "ORDER BY action_type, date",
            place=40,
        ),
    ),
)
def action_metrics(user_days: DataFrame, allowed_actions: Sequence[str], days: Days) -> DataFrame:
    """Users and actions of each type on each of the days, also of types nobody used.

    Args:
        user_days: event_date and, for each action type, the column that counts it, of the days.
        allowed_actions: action types, each counted in its `action_column`.
        days: days wanted.

    Returns:
        date, action_type, users, actions (bigint).
    """
    counts = [
        F.struct(F.lit(action).alias("action_type"), F.col(action_column(action)).alias("actions"))
        for action in allowed_actions
    ]
    by_type = user_days.select(F.col("event_date").alias("date"), F.inline(F.array(*counts)))
    by_day = by_type.groupBy("date", "action_type").agg(
        F.count_if(F.col("actions") > 0).alias("users"), F.sum("actions").alias("actions")
    )
    types = F.explode(F.array(*map(F.lit, allowed_actions)))
    every_day = calendar(user_days, *days).withColumn("action_type", types)
    return every_day.join(by_day, ["date", "action_type"], "left").fillna(0, ["users", "actions"])
