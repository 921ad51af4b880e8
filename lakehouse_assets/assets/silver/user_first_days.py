"""Users on the first day they were ever active."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import day, text
from lakehouse_assets.assets.table import EVER, Input, table_asset


@table_asset(
    "silver.user_first_days",
    description="Users on the first day they were ever active; each user stands in it once.",
    columns={"first_date": day("First active day ever."), "user_id": text("User.")},
    partition_column="first_date",
    reads={"user_days": Input("silver.user_days"), "earlier": Input("silver.user_first_days", EVER, -1)},
    key=("first_date", "user_id"),
    by_month=True,
)
def user_first_days(user_days: DataFrame, earlier: DataFrame) -> DataFrame:
    """Users on the first day they were ever active.

    Args:
        user_days: event_date, user_id of some days.
        earlier: first_date, user_id of everybody who was first active before these days.

    Returns:
        first_date, user_id of those among ``user_days`` who are not in ``earlier``.
    """
    seen = user_days.select("user_id", F.col("event_date").alias("first_date"), F.lit(False).alias("known"))
    known = earlier.select("user_id", "first_date", F.lit(True).alias("known"))
    users = seen.unionByName(known).groupBy("user_id")
    firsts = users.agg(F.min("first_date").alias("first_date"), F.bool_or("known").alias("known"))
    return firsts.where("NOT known").select("first_date", "user_id")
