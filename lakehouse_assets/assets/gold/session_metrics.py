"""Sessions: silence or midnight starts a new one (docs/metrics: sessions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import Column, at_least, between, count, day, instant, one_of, text, whole
from lakehouse_assets.assets.division import PART
from lakehouse_assets.assets.frames import division
from lakehouse_assets.assets.silver.cleaning import calendar_day
from lakehouse_assets.assets.table import IN_ITS_PARTITION, Divide, Input, Rule, table_asset, undivided
from lakehouse_assets.settings import Settings


def _columns(settings: Settings) -> Mapping[str, Column]:
    longest_day_ms = 86_400_000 if settings.reporting_timezone == "UTC" else 90_000_000  # when the clock goes back
    actions = one_of(settings.allowed_actions)
    return {
        "session_id": text("`<user_id>_<YYYYMMDD>_<n>`, n counting from 0 in order of start."),
        "user_id": text("User."),
        "session_date": day("Day all rows of the session share."),
        "session_start_time": instant("First instant."),
        "session_end_time": instant("Last instant."),
        "actions_per_session": whole("Accepted interactions.", at_least(1)),
        "session_duration_ms": count("Sum of duration_ms, in ms."),
        "session_span_ms": whole("Last instant minus first, in ms.", between(0, longest_day_ms - 1)),
        "first_action_type": text("What it began with.", actions),
        "last_action_type": text("What it ended with.", actions),
    }


def _within_the_day(settings: Settings) -> tuple[Rule, ...]:
    zone = settings.reporting_timezone
    return (
        Rule(
            IN_ITS_PARTITION,
            "a session begins and ends on its session_date",
            lambda: (
                (F.col("session_date") == calendar_day(F.col("session_start_time"), zone))
                & (F.col("session_date") == calendar_day(F.col("session_end_time"), zone))
            ),
        ),
    )


@table_asset(
    "gold.session_metrics",
    description="One row per session: a user's actions without 30 minutes of silence or a midnight between.",
    columns=_columns,
    partition_column="session_date",
    reads={"interactions": Input("silver.interactions")},
    key=("session_date", "session_id"),
    rules=_within_the_day,
    settings=("reporting_timezone",),
    known_by_inputs=("allowed_actions",),
    version=3,
)
def session_metrics(
    interactions: DataFrame, allowed_actions: Sequence[str], session_gap_seconds: int, divide: Divide = undivided
) -> DataFrame:
    """One row per session.

    A user's day starts session 0; an instant at least ``session_gap_seconds`` after the one before starts the next.
    Rows with the same instant are always together. The number in the id follows the order of start inside the user's
    day, so the same data gives the same ids however it was processed.

    Args:
        interactions: accepted rows: event_date, user_id, timestamp, action_type, duration_ms.
        allowed_actions: the action types there are.
        session_gap_seconds: silence in seconds that starts a session; exactly that much does.
        divide: divides the rows among write tasks.

    Returns:
        session_id (`<user_id>_<YYYYMMDD>_<n>`), user_id, session_date, session_start_time, session_end_time,
        actions_per_session, session_duration_ms (sum), session_span_ms (last instant - first), first_action_type,
        last_action_type (of several at the first instant the first by name, at the last instant the last).
    """
    rows = divide(interactions, "event_date", "user_id")
    divided_by = division(rows)
    micros, gap = F.unix_micros("timestamp"), F.lit(session_gap_seconds * 1_000_000)
    # instant and action in one number: Spark sums up numbers where rows lie, and would sort again for a pair
    in_order = F.array(*map(F.lit, sorted(allowed_actions)))
    base = F.lit(len(allowed_actions) + 1)
    coded = micros * base + F.array_position(in_order, F.col("action_type"))
    # what lies within one gap of the clock is never silent for one: a session is made of such pieces
    pieces = rows.groupBy(*divided_by, "event_date", "user_id", (micros - F.pmod(micros, gap)).alias("_piece")).agg(
        F.min(coded).alias("_first"),
        F.max(coded).alias("_last"),
        F.count(F.lit(1)).alias("_actions"),
        F.sum("duration_ms").alias("_duration_ms"),
    )
    # of a day, not of a user's day: each partition of a window takes Sail 5 microseconds, however few its rows
    in_day = Window.partitionBy(*[name for name in divided_by if name == PART], "event_date")
    in_order_of_day = in_day.orderBy("user_id", "_piece")
    so_far = in_order_of_day.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    start, end = (F.call_function("div", F.col(name), base) for name in ("_first", "_last"))
    other_user = F.coalesce(F.lag("user_id").over(in_order_of_day) != F.col("user_id"), F.lit(True))
    silent = start - F.lag(end).over(in_order_of_day) >= gap
    begun = pieces.withColumn("_other_user", other_user).withColumn("_begins", F.col("_other_user") | silent)
    counted = begun.withColumn("_begun", F.sum(F.col("_begins").cast("int")).over(so_far))
    numbered = counted.withColumn(
        "_number", F.col("_begun") - F.max(F.when(F.col("_other_user"), F.col("_begun"))).over(so_far)
    )
    sessions = numbered.groupBy(*divided_by, "event_date", "user_id", "_number").agg(
        F.min("_first").alias("_first"),
        F.max("_last").alias("_last"),
        F.sum("_actions").alias("actions_per_session"),
        F.sum("_duration_ms").alias("session_duration_ms"),
    )
    day = F.replace(F.col("event_date").cast("string"), F.lit("-"), F.lit(""))
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
