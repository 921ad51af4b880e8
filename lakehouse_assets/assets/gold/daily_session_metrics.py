"""Sessions of a day: how many, how long, how deep (docs/metrics: sessions)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import ENGAGEMENT, Card, Chart
from lakehouse_assets.assets.columns import at_least, count, day, mean, share, whole
from lakehouse_assets.assets.frames import calendar
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days


@table_asset(
    "gold.daily_session_metrics",
    description="Sessions of a day: how many, how long, how deep; percentiles are spans that occurred.",
    columns={
        "date": day("Day."),
        "sessions": count("Sessions."),
        "avg_actions_per_session": mean("Mean actions."),
        "avg_session_duration_ms": mean("Mean session_duration_ms, in ms."),
        "avg_session_span_ms": mean("Mean session_span_ms, in ms, to the microsecond."),
        "p50_session_span_ms": whole("Median span, in ms.", at_least(0), nullable=True),
        "p95_session_span_ms": whole("95th percentile of spans, in ms.", at_least(0), nullable=True),
        "single_action_rate": share("Share of sessions with one action, to six decimals."),
    },
    partition_column="date",
    reads={"session_metrics": Input("gold.session_metrics")},
    key=("date",),
    by_month=True,
    charts=(
        Chart(
            "Sessions",
            ENGAGEMENT,
            "A session is a user's actions without {session_gap} of silence or a midnight between them.",
            "bar",
            "sessions",
            {"sessions": "sessions"},
            place=50,
        ),
        Chart(
            "Session length",
            ENGAGEMENT,
            "From the first to the last action of a session, in seconds: the median and the 95th percentile of the "
            "day.",
            "line",
            "seconds",
            {"median": "p50_session_span_ms / 1000", "95th percentile": "p95_session_span_ms / 1000"},
            place=80,
        ),
        Chart(
            "Sessions with a single action",
            ENGAGEMENT,
            "The share of the day's sessions that hold one action only.",
            "line",
            "share",
            {"single action": "single_action_rate"},
            place=90,
        ),
    ),
    cards=(
        Card(
            "Sessions",
            "All sessions of the days.",
            "sessions",
            "sum",
            "SELECT date, sessions FROM gold.daily_session_metrics",
            "Sessions",
            place=70,
        ),
    ),
)
def daily_session_metrics(session_metrics: DataFrame, days: Days) -> DataFrame:
    """Sessions of each of the days; percentiles are discrete (a span that occurred).

    Args:
        session_metrics: sessions of the days.
        days: days wanted.

    Returns:
        date, sessions, avg_actions_per_session, avg_session_duration_ms, avg_session_span_ms (to the microsecond),
        p50_session_span_ms, p95_session_span_ms, single_action_rate (to six decimals); on a day without sessions 0
        and nulls.
    """
    count = F.count(F.lit(1))
    span = "WITHIN GROUP (ORDER BY session_span_ms)"
    by_day = session_metrics.groupBy(F.col("session_date").alias("date")).agg(
        count.alias("sessions"),
        (F.sum("actions_per_session") / count).alias("avg_actions_per_session"),
        (F.sum("session_duration_ms") / count).alias("avg_session_duration_ms"),
        F.round(F.sum("session_span_ms") / count, 3).alias("avg_session_span_ms"),
        F.expr(f"percentile_disc(0.5) {span}").cast("bigint").alias("p50_session_span_ms"),
        F.expr(f"percentile_disc(0.95) {span}").cast("bigint").alias("p95_session_span_ms"),
        F.round(F.count_if(F.col("actions_per_session") == 1) / count, 6).alias("single_action_rate"),
    )
    return calendar(session_metrics, *days).join(by_day, "date", "left").fillna(0, ["sessions"])
