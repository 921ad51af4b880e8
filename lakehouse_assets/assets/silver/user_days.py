"""Active users of each day: what every active-user metric comes from."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import at_least, count, day, instant, text, whole
from lakehouse_assets.assets.table import Divide, Input, table_asset, undivided
from lakehouse_assets.settings import action_column


@table_asset(
    "silver.user_days",
    description="One row per active user and day; every active-user metric comes from it.",
    columns=lambda settings: {
        "event_date": day("Day."),
        "user_id": text("User."),
        "actions": whole("Accepted interactions.", at_least(1)),
        **{action_column(name): count(f"Accepted interactions of type `{name}`.") for name in settings.allowed_actions},
        "duration_ms": count("Sum of duration_ms, in ms."),
        "first_timestamp": instant("First instant of the day."),
        "last_timestamp": instant("Last instant of the day."),
    },
    partition_column="event_date",
    reads={"interactions": Input("silver.interactions")},
    key=("event_date", "user_id"),
)
def user_days(interactions: DataFrame, allowed_actions: Sequence[str], divide: Divide = undivided) -> DataFrame:
    """One row per active user and day.

    Args:
        interactions: accepted rows: event_date, user_id, timestamp, action_type, duration_ms.
        allowed_actions: action types, each counted in its `action_column`.
        divide: divides the rows among write tasks.

    Returns:
        event_date, user_id, actions (bigint), one bigint column per action type, duration_ms (sum, ms),
        first_timestamp, last_timestamp.
    """
    by_type = [F.count_if(F.col("action_type") == action).alias(action_column(action)) for action in allowed_actions]
    rows = interactions.groupBy("event_date", "user_id").agg(
        F.count(F.lit(1)).alias("actions"),
        *by_type,
        F.sum("duration_ms").alias("duration_ms"),
        F.min("timestamp").alias("first_timestamp"),
        F.max("timestamp").alias("last_timestamp"),
    )
    return divide(rows, "event_date", "user_id")
