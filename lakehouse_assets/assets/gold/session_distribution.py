"""How sessions are distributed over users and actions (docs/metrics: sessions)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import at_least, day, one_of, text, whole
from lakehouse_assets.assets.table import Input, table_asset

MEASURES = ("sessions_per_user", "first_action_type", "last_action_type")


@table_asset(
    "gold.session_distribution",
    description="How many sessions users have on a day, and what sessions begin and end with.",
    columns={
        "date": day("Day."),
        "measure": text("What is counted.", one_of(MEASURES)),
        "value": text("A number of sessions, or an action type."),
        "amount": whole("Users with so many sessions, or sessions that begin or end with it.", at_least(1)),
    },
    partition_column="date",
    reads={"session_metrics": Input("gold.session_metrics")},
    key=("date", "measure", "value"),
    by_month=True,
)
def session_distribution(session_metrics: DataFrame) -> DataFrame:
    """How many sessions users have on a day, and what their sessions begin and end with.

    Args:
        session_metrics: sessions of some days.

    Returns:
        date, measure (`MEASURES`), value (a number of sessions or an action type, as text), amount (bigint: users with
        so many sessions, or sessions that begin or end with the action); no row for what did not occur.
    """
    day = F.col("session_date").alias("date")
    per_user = session_metrics.groupBy(day, "user_id").agg(F.count(F.lit(1)).cast("string").alias("value"))
    ends = [F.struct(F.lit(name).alias("measure"), F.col(name).alias("value")) for name in MEASURES[1:]]
    amount = F.count(F.lit(1)).alias("amount")
    users = per_user.groupBy("date", F.lit(MEASURES[0]).alias("measure"), "value").agg(amount)
    actions = session_metrics.select(day, F.inline(F.array(*ends))).groupBy("date", "measure", "value").agg(amount)
    return users.unionByName(actions)
