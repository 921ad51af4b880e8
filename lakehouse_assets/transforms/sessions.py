"""Sessionization (METRICS: "Sessions"): 30 minutes of silence or midnight starts a new session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar


def session_metrics(interactions: DataFrame, gap_seconds: int = 1800, divided_by: Sequence[str] = ()) -> DataFrame:
    """One row per session.

    A user's day starts session 0; an instant at least ``gap_seconds`` after the one before starts the next. Rows with
    the same instant are always together. The number in the id follows the order of start inside the user's day, so
    the same data gives the same ids however it was processed.

    Args:
        interactions: accepted rows: event_date, user_id, timestamp, duration_ms.
        gap_seconds: silence in seconds that starts a session; exactly that much does.
        divided_by: see `lakehouse_assets.transforms.cleaning.deduplicate`.

    Returns:
        session_id (`<user_id>_<YYYYMMDD>_<n>`), user_id, session_date, session_start_time, session_end_time,
        actions_per_session, session_duration_ms (sum), session_span_ms (last instant - first).
    """
    in_day = Window.partitionBy(*divided_by, "event_date", "user_id").orderBy("timestamp")
    micros = F.unix_micros("timestamp")
    starts = F.coalesce(micros - F.lag(micros).over(in_day) >= F.lit(gap_seconds * 1_000_000), F.lit(False))
    # the frame is a range, so rows of one instant get one number in whatever order they come
    numbered = interactions.withColumn("_starts", starts.cast("int")).withColumn(
        "_number", F.sum("_starts").over(in_day)
    )
    sessions = numbered.groupBy(*divided_by, "event_date", "user_id", "_number").agg(
        F.min("timestamp").alias("session_start_time"),
        F.max("timestamp").alias("session_end_time"),
        F.count(F.lit(1)).alias("actions_per_session"),
        F.sum("duration_ms").alias("session_duration_ms"),
    )
    day = F.replace(F.col("event_date").cast("string"), F.lit("-"), F.lit(""))
    span = F.unix_micros("session_end_time") - F.unix_micros("session_start_time")
    return sessions.select(
        *divided_by,
        F.concat_ws("_", "user_id", day, F.col("_number").cast("string")).alias("session_id"),
        "user_id",
        F.col("event_date").alias("session_date"),
        "session_start_time",
        "session_end_time",
        "actions_per_session",
        "session_duration_ms",
        F.floor(span / F.lit(1000)).cast("bigint").alias("session_span_ms"),
    )


def daily_session_metrics(sessions: DataFrame, first: date, last: date) -> DataFrame:
    """Sessions of each day from ``first`` to ``last``; percentiles are discrete (a span that occurred).

    Args:
        sessions: rows of `session_metrics`.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, sessions, avg_actions_per_session, avg_session_duration_ms, avg_session_span_ms, p50_session_span_ms,
        p95_session_span_ms,
        single_action_rate (to six decimals; the mean span to the microsecond); on a day without sessions 0 and nulls.
    """
    count = F.count(F.lit(1))
    span = "WITHIN GROUP (ORDER BY session_span_ms)"
    by_day = sessions.groupBy(F.col("session_date").alias("date")).agg(
        count.alias("sessions"),
        (F.sum("actions_per_session") / count).alias("avg_actions_per_session"),
        (F.sum("session_duration_ms") / count).alias("avg_session_duration_ms"),
        F.round(F.sum("session_span_ms") / count, 3).alias("avg_session_span_ms"),
        F.expr(f"percentile_disc(0.5) {span}").cast("bigint").alias("p50_session_span_ms"),
        F.expr(f"percentile_disc(0.95) {span}").cast("bigint").alias("p95_session_span_ms"),
        F.round(F.count_if(F.col("actions_per_session") == 1) / count, 6).alias("single_action_rate"),
    )
    return calendar(sessions, first, last).join(by_day, "date", "left").fillna(0, ["sessions"])
