"""Sessionization (METRICS: "Sessions"): 30 minutes of silence or midnight starts a new session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar

MEASURES = ("sessions_per_user", "first_action_type", "last_action_type")


def session_metrics(
    interactions: DataFrame, actions: Sequence[str], gap_seconds: int = 1800, divided_by: Sequence[str] = ()
) -> DataFrame:
    """One row per session.

    A user's day starts session 0; an instant at least ``gap_seconds`` after the one before starts the next. Rows with
    the same instant are always together. The number in the id follows the order of start inside the user's day, so
    the same data gives the same ids however it was processed.

    Args:
        interactions: accepted rows: event_date, user_id, timestamp, action_type, duration_ms.
        actions: the action types there are.
        gap_seconds: silence in seconds that starts a session; exactly that much does.
        divided_by: see `lakehouse_assets.transforms.cleaning.deduplicate`.

    Returns:
        session_id (`<user_id>_<YYYYMMDD>_<n>`), user_id, session_date, session_start_time, session_end_time,
        actions_per_session, session_duration_ms (sum), session_span_ms (last instant - first), first_action_type,
        last_action_type (of several at the first instant the first by name, at the last instant the last).
    """
    in_day = Window.partitionBy(*divided_by, "event_date", "user_id").orderBy("timestamp")
    micros = F.unix_micros("timestamp")
    starts = F.coalesce(micros - F.lag(micros).over(in_day) >= F.lit(gap_seconds * 1_000_000), F.lit(False))
    # the frame is a range, so rows of one instant get one number in whatever order they come
    # instant and action in one number: Spark sums up numbers where rows lie, and would sort again for a pair
    in_order = F.array(*map(F.lit, sorted(actions)))
    base = F.lit(len(actions) + 1)
    coded = micros * base + F.array_position(in_order, F.col("action_type"))
    numbered = interactions.withColumn("_starts", starts.cast("int")).withColumn(
        "_number", F.sum("_starts").over(in_day)
    )
    sessions = numbered.groupBy(*divided_by, "event_date", "user_id", "_number").agg(
        F.min(coded).alias("_first"),
        F.max(coded).alias("_last"),
        F.count(F.lit(1)).alias("actions_per_session"),
        F.sum("duration_ms").alias("session_duration_ms"),
    )
    day = F.replace(F.col("event_date").cast("string"), F.lit("-"), F.lit(""))
    start, end = (F.call_function("div", F.col(name), base) for name in ("_first", "_last"))
    return sessions.select(
        *divided_by,
        F.concat_ws("_", "user_id", day, F.col("_number").cast("string")).alias("session_id"),
        "user_id",
        F.col("event_date").alias("session_date"),
        F.timestamp_micros(start).alias("session_start_time"),
        F.timestamp_micros(end).alias("session_end_time"),
        "actions_per_session",
        "session_duration_ms",
        F.floor((end - start) / F.lit(1000)).cast("bigint").alias("session_span_ms"),
        *[
            F.element_at(in_order, (F.col(code) % base).cast("int")).alias(name)
            for name, code in (("first_action_type", "_first"), ("last_action_type", "_last"))
        ],
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


def session_distribution(sessions: DataFrame) -> DataFrame:
    """How many sessions users have on a day, and what their sessions begin and end with.

    Args:
        sessions: rows of `session_metrics`.

    Returns:
        date, measure (`MEASURES`), value (a number of sessions or an action type, as text), amount (bigint: users with
        so many sessions, or sessions that begin or end with the action); no row for what did not occur.
    """
    day = F.col("session_date").alias("date")
    per_user = sessions.groupBy(day, "user_id").agg(F.count(F.lit(1)).cast("string").alias("value"))
    ends = [F.struct(F.lit(name).alias("measure"), F.col(name).alias("value")) for name in MEASURES[1:]]
    amount = F.count(F.lit(1)).alias("amount")
    users = per_user.groupBy("date", F.lit(MEASURES[0]).alias("measure"), "value").agg(amount)
    actions = sessions.select(day, F.inline(F.array(*ends))).groupBy("date", "measure", "value").agg(amount)
    return users.unionByName(actions)
