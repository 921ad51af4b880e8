"""How sessions are distributed over users, lengths and actions (docs/metrics: sessions)."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, MOST_VALUES, Chart, largest
from lakehouse_assets.assets.columns import at_least, day, one_of, text, whole
from lakehouse_assets.assets.table import Input, table_asset

MEASURES = ("sessions_per_user", "session_length", "first_action_type", "last_action_type")
# classes of session_span_ms, each up to the next one's first ms
LENGTHS = {"no time": 0, "under 1 min": 1, "1 to 10 min": 60_000, "10 to 30 min": 600_000, "30 min and more": 1_800_000}


@table_asset(
    "gold.session_distribution",
    description="How many sessions users have on a day, how long they are, and what they begin and end with.",
    columns={
        "date": day("Day."),
        "measure": text("What is counted.", one_of(MEASURES)),
        "value": text("A number of sessions, a class of lengths, or an action type."),
        "amount": whole("Users with so many sessions, or sessions that have it.", at_least(1)),
    },
    partition_column="date",
    reads={"session_metrics": Input("gold.session_metrics")},
    key=("date", "measure", "value"),
    by_month=True,
    version=2,
    charts=(
        Chart(
            "Sessions by length",
            ENGAGEMENT,
            "The day's sessions by the time from their first to their last action.",
            "bar",
            "sessions",
            query="SELECT date, value AS series, amount::DOUBLE AS value FROM gold.session_distribution "  # noqa: S608
            f"WHERE measure = 'session_length' ORDER BY list_position({list(LENGTHS)}, value), date",
            place=60,
        ),
        Chart(
            "Sessions a user, first and last actions",
            ENGAGEMENT,
            "Users by how many sessions they had on the day; or the day's sessions by the action they began or ended "
            f"with. The {MOST_VALUES} most frequent of the newest day.",
            "bar",
            "users or sessions",
            query="SELECT date, value AS series, amount::DOUBLE AS value, measure FROM gold.session_distribution "  # noqa: S608
            "WHERE measure <> 'session_length' "
            f"AND {largest('gold.session_distribution', 'measure', 'value', 'amount')} "
            "ORDER BY measure, try_cast(series AS BIGINT), series, date",
            choice="measure",
            place=70,
        ),
    ),
)
def session_distribution(session_metrics: DataFrame) -> DataFrame:
    """How many sessions users have on a day, how long these are, and what they begin and end with.

    Args:
        session_metrics: sessions of some days.

    Returns:
        date, measure (`MEASURES`), value (a number of sessions, one of `LENGTHS` or an action type, as text), amount
        (bigint: users with so many sessions, sessions so long from the first to the last action, or sessions that begin
        or end with the action); no row for what did not occur.
    """
    day = F.col("session_date").alias("date")
    per_user = session_metrics.groupBy(day, "user_id").agg(F.count(F.lit(1)).cast("string").alias("value"))
    names = {name: F.col(name) for name in MEASURES[2:]} | {MEASURES[1]: _length(F.col("session_span_ms"))}
    measured = [F.struct(F.lit(name).alias("measure"), value.alias("value")) for name, value in names.items()]
    amount = F.count(F.lit(1)).alias("amount")
    users = per_user.groupBy("date", F.lit(MEASURES[0]).alias("measure"), "value").agg(amount)
    of_sessions = session_metrics.select(day, F.inline(F.array(*measured))).groupBy("date", "measure", "value")
    return users.unionByName(of_sessions.agg(amount))


def _length(span_ms: Column) -> Column:
    """The class of `LENGTHS` that a span belongs to."""
    name = F.lit(None).cast("string")
    for each, first_ms in LENGTHS.items():
        name = F.when(span_ms >= first_ms, F.lit(each)).otherwise(name)
    return name
