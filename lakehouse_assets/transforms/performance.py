"""How long actions take, by app version and by what users are (docs/metrics: performance)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.users import UNKNOWN, by_segment, on_day

WINDOW_DAYS = 28
PERCENTS = (50, 95, 99)
# Classes keep a duration's six leading binary digits: 32 to a doubling, so a class is at most 1/32 of its values wide.
CLASS_BITS = 6
_BY = ("app_version", "action_type")
_Z_95 = 1.959964  # the normal distribution has 95 % within so many standard deviations
_DECIMALS = 12  # of a published correlation
_DISTANCE = "decimal(12,0)"  # holds a user's distance from the middle place, and 38 digits hold the sum of its squares


def duration_classes(interactions: DataFrame) -> DataFrame:
    """How many actions of each version and type took how long, in classes that any days and versions can share.

    A mergeable sketch in plain columns: the classes of several days added up are the classes of the days together.
    Durations below 64 ms are classes of their own, all others keep their six leading binary digits (the log-linear
    buckets of HdrHistogram), so the middle of a class is within 1/64 of what is in it.

    Args:
        interactions: accepted rows: event_date, app_version, action_type, duration_ms.

    Returns:
        date, app_version (`UNKNOWN` where none was delivered), action_type, duration_from_ms (least of its class),
        actions (bigint).
    """
    duration = F.col("duration_ms")
    least = duration - F.pmod(duration, _width(duration))
    return interactions.groupBy(
        F.col("event_date").alias("date"), _version(), "action_type", least.alias("duration_from_ms")
    ).agg(F.count(F.lit(1)).alias("actions"))


def version_performance(interactions: DataFrame, classes: DataFrame, first: date, last: date) -> DataFrame:
    """Percentiles of durations by app version and action type: exact for the day, by classes for its 28 days.

    Args:
        interactions: accepted rows of ``first`` … ``last``: event_date, app_version, action_type, duration_ms.
        classes: rows of `duration_classes` of ``first`` - 27 … ``last``.
        first: first day wanted.
        last: last day wanted.

    Returns:
        date, app_version, action_type, actions, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms
        (discrete: durations that occurred; null without actions on the day), actions_28d, p50_duration_ms_28d,
        p95_duration_ms_28d, p99_duration_ms_28d (within 1/64); a row for what was used in the 28 days.
    """
    count = F.count(F.lit(1))
    exact = [
        F.expr(f"percentile_disc({percent / 100}) WITHIN GROUP (ORDER BY duration_ms)").alias(f"p{percent}_duration_ms")
        for percent in PERCENTS
    ]
    of_day = interactions.groupBy(F.col("event_date").alias("date"), _version(), "action_type").agg(
        count.alias("actions"),
        (F.sum("duration_ms") / count).alias("avg_duration_ms"),
        *[column.cast("bigint") for column in exact],
    )
    return (
        _of_window(classes, first, last)
        .join(of_day, ["date", *_BY], "left")
        .select(
            "date",
            *_BY,
            F.coalesce("actions", F.lit(0)).alias("actions"),
            "avg_duration_ms",
            *[f"p{percent}_duration_ms" for percent in PERCENTS],
            "actions_28d",
            *[f"p{percent}_duration_ms_28d" for percent in PERCENTS],
        )
    )


def _of_window(classes: DataFrame, first: date, last: date) -> DataFrame:
    """Percentiles by classes over the 28 days that end on each day.

    A class's count enters on its day and leaves 28 days later, so along the days two changes a class say it all.

    Returns:
        date, app_version, action_type, actions_28d and the percentiles.
    """
    enters = F.struct(F.col("date"), F.col("actions").alias("change"))
    leaves = F.struct(F.date_add("date", WINDOW_DAYS).alias("date"), (-F.col("actions")).alias("change"))
    changes = (
        classes.select(*_BY, "duration_from_ms", F.inline(F.array(enters, leaves)))
        .groupBy(*_BY, "duration_from_ms", "date")
        .agg(F.sum("change").alias("change"))
    )
    along = Window.partitionBy(*_BY, "duration_from_ms").orderBy("date")
    begin = F.greatest("date", F.lit(first))
    end = F.least(F.date_sub(F.lead("date").over(along), 1), F.lit(last))
    stretches = changes.select(
        *_BY, "duration_from_ms", F.sum("change").over(along).alias("actions"), begin.alias("begin"), end.alias("end")
    )
    days = stretches.where("actions > 0 AND begin <= end").withColumn("date", F.explode(F.sequence("begin", "end")))
    group = Window.partitionBy("date", *_BY)
    total = F.sum("actions").over(group)
    ranked = days.withColumns({"total": total, "so_far": F.sum("actions").over(group.orderBy("duration_from_ms"))})
    middle = F.col("duration_from_ms") + F.call_function("div", _width(F.col("duration_from_ms")), F.lit(2))
    so_far = F.col("so_far") * 100
    return ranked.groupBy("date", *_BY).agg(
        F.first("total").alias("actions_28d"),
        *[
            F.min(F.when(so_far >= F.col("total") * percent, middle)).alias(f"p{percent}_duration_ms_28d")
            for percent in PERCENTS
        ],
    )


def segment_performance(
    user_days: DataFrame,
    changes: DataFrame,
    segments: Sequence[str],
    snapshot_dates: Sequence[date],
    first: date,
) -> DataFrame:
    """Whether users of a segment have longer or shorter durations than the others, on each day.

    The correlation is Spearman's, between being in the segment (1 or 0) and a user's mean duration on the day. The
    unit is the user and not the action, so that one busy user counts once. The interval is Fisher's with the standard
    error of Bonett and Wright (2000) for ranks, sqrt((1 + r² / 2) / (n - 3)).

    Sums of fractions depend on the order of the rows in their last bits, and one such bit made a correlation of
    1.0000000000000002. So every sum is one of whole numbers: with d, twice a user's distance from the middle place, G
    the sum of d over the m users of a segment and S that of d² over all n, the correlation is
    G / sqrt(m (n - m) / n * S). What follows from the exact sums is rounded to 12 decimals, so that a perfect
    correlation is exactly 1 and no library's last bit shows.

    Args:
        user_days: event_date, user_id, actions, duration_ms (sum).
        changes: rows of `lakehouse_assets.transforms.users.user_changes` up to the last of the snapshots.
        segments: columns of ``changes``.
        snapshot_dates: the snapshots that the days go by.
        first: a day no later than any of ``user_days``.

    Returns:
        date, segment, value, users, avg_duration_ms (over the users' actions), duration_correlation (-1 … 1; null
        where all users are in the segment or have the same mean), duration_correlation_low and
        duration_correlation_high (95 %; null also below 4 users; the bound itself where the correlation is 1 or -1).
    """
    mean = (F.col("duration_ms") / F.col("actions")).alias("mean")
    days = user_days.select(F.col("event_date").alias("date"), "user_id", "actions", "duration_ms", mean)
    by_day = Window.partitionBy("date")
    # users with the same mean share the middle of their places
    ties = F.count(F.lit(1)).over(by_day.orderBy("mean").rangeBetween(0, 0))
    place = 2 * F.rank().over(by_day.orderBy("mean")).cast("bigint") + ties - 1
    ranked = days.withColumns({"place": place, "n": F.count(F.lit(1)).over(by_day)})
    distance = F.col("place") - (F.col("n") + 1)
    # squares of distances among more than two million users pass 64 bits
    square = F.col("distance").cast(_DISTANCE) * F.col("distance").cast(_DISTANCE)
    centred = ranked.withColumn("distance", distance).withColumn("squares", F.sum(square).over(by_day))
    known = on_day(centred, changes, segments, snapshot_dates, first)
    groups = (
        known.select("*", by_segment(segments))
        .groupBy("date", "segment", "value")
        .agg(
            F.count(F.lit(1)).alias("users"),
            (F.sum("duration_ms") / F.sum("actions")).alias("avg_duration_ms"),
            F.sum("distance").alias("distance"),
            F.first("n").alias("n"),
            F.first("squares").cast("double").alias("squares"),
        )
    )
    n = F.col("n")
    spread = F.sqrt(F.col("users") * (n - F.col("users")) / n * F.col("squares"))
    # `try_divide` of fractions is not in Sail
    correlation = F.when(spread != 0, F.round(F.col("distance").cast("double") / spread, _DECIMALS))
    error = F.lit(_Z_95) * F.sqrt((1 + F.col("r") * F.col("r") / 2) / (n - 3))
    bounds = [
        F.when(n > 3, F.round(F.tanh(F.atanh("r") + sign * error), _DECIMALS)).alias(f"duration_correlation_{name}")
        for name, sign in (("low", -1), ("high", 1))
    ]
    return groups.withColumn("r", correlation).select(
        "date",
        "segment",
        "value",
        "users",
        "avg_duration_ms",
        F.col("r").alias("duration_correlation"),
        *bounds,
    )


def _version() -> Column:
    return F.coalesce("app_version", F.lit(UNKNOWN)).alias("app_version")


def _width(duration: Column) -> Column:
    """Width in ms of the class of a duration: the power of two that leaves six binary digits."""
    digits_cut = F.greatest(F.length(F.bin(duration)) - CLASS_BITS, F.lit(0))
    return F.call_function("shiftleft", F.lit(1).cast("bigint"), digits_cut)
