"""Active users of each day by app version."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import at_least, day, text, whole
from lakehouse_assets.assets.table import Divide, Input, table_asset, undivided


@table_asset(
    "silver.user_version_days",
    description="One row per active user, day and app version.",
    columns={
        "event_date": day("Day."),
        "user_id": text("User."),
        "app_version": text("App version; null where none was delivered.", nullable=True),
        "actions": whole("Accepted interactions.", at_least(1)),
    },
    partition_column="event_date",
    reads={"interactions": Input("silver.interactions")},
    key=("event_date", "user_id", "app_version"),
)
def user_version_days(interactions: DataFrame, divide: Divide = undivided) -> DataFrame:
    """One row per active user, day and app version.

    Args:
        interactions: accepted rows: event_date, user_id, app_version.
        divide: divides the rows among write tasks.

    Returns:
        event_date, user_id, app_version (null where none was delivered), actions (bigint).
    """
    rows = interactions.groupBy("event_date", "user_id", "app_version").agg(F.count(F.lit(1)).alias("actions"))
    return divide(rows, "event_date", "user_id")
