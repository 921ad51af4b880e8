"""Whether users of a segment have longer durations than the others (docs/metrics: performance)."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import PERFORMANCE, Chart, largest
from lakehouse_assets.assets.columns import at_least, between, day, number, one_of, text, whole
from lakehouse_assets.assets.table import EVER, Input, table_asset
from lakehouse_assets.assets.users_as_of import UsersAsOf, by_segment, user_segments
from lakehouse_assets.calendar import Days

_Z_95 = 1.959964  # the normal distribution has 95 % within so many standard deviations
_DECIMALS = 12  # of a published correlation
_DISTANCE = "decimal(12,0)"  # holds a user's distance from the middle place, and 38 digits hold the sum of its squares


@table_asset(
    "gold.segment_performance",
    description="Whether a segment's users have longer durations than the others, with a confidence interval.",
    columns=lambda settings: {
        "date": day("Day."),
        "segment": text("What divides the users.", one_of(user_segments(settings.segments, settings.extra_columns))),
        "value": text("Its value; `unknown` for users in no file and where it is empty."),
        "users": whole("Distinct users active on the day.", at_least(1)),
        "avg_duration_ms": number("Mean duration_ms of their actions, in ms.", at_least(0)),
        "duration_correlation": number(
            "Spearman's correlation between being in the segment and a user's mean duration.",
            between(-1, 1),
            nullable=True,
        ),
        "duration_correlation_low": number("Lower end of its 95 % confidence interval.", between(-1, 1), nullable=True),
        "duration_correlation_high": number(
            "Upper end of its 95 % confidence interval.", between(-1, 1), nullable=True
        ),
    },
    partition_column="date",
    reads={
        "user_days": Input("silver.user_days"),
        "users": Input("silver.user_changes", EVER, 0, as_of=True),
    },
    key=("date", "segment", "value"),
    by_month=True,
    known_by_inputs=("extra_columns",),  # those that are segments are stamped with the segments
    version=2,
    charts=(
        Chart(
            "Do segments take longer?",
            PERFORMANCE,
            "Spearman's correlation, from -1 to 1, between being in the segment and a user's mean duration_ms of the "
            "day; 0 is no connection. A connection is not a cause. Confidence intervals are in "
            "gold.segment_performance.",
            "line",
            "correlation",
            query="SELECT date, value AS series, duration_correlation AS value, segment FROM gold.segment_performance "  # noqa: S608
            f"WHERE {largest('gold.segment_performance', 'segment', 'value', 'users')} ORDER BY segment, series, date",
            choice="segment",
            place=20,
        ),
    ),
)
def segment_performance(
    user_days: DataFrame, users: UsersAsOf, segments: Sequence[str], days: Days, extra_columns: Sequence[str] = ()
) -> DataFrame:
    """Whether users of a segment have longer or shorter durations than the others, on each of the days.

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
        users: as of the days.
        segments: columns of the users; `APP_VERSION` and the extra columns are none.
        days: days wanted.
        extra_columns: columns of the events.

    Returns:
        date, segment, value, users, avg_duration_ms (over the users' actions), duration_correlation (-1 … 1; null
        where all users are in the segment or have the same mean), duration_correlation_low and
        duration_correlation_high (95 %; null also below 4 users; the bound itself where the correlation is 1 or -1).
    """
    mean = (F.col("duration_ms") / F.col("actions")).alias("mean")
    active = user_days.select(F.col("event_date").alias("date"), "user_id", "actions", "duration_ms", mean)
    by_day = Window.partitionBy("date")
    # users with the same mean share the middle of their places
    ties = F.count(F.lit(1)).over(by_day.orderBy("mean").rangeBetween(0, 0))
    place = 2 * F.rank().over(by_day.orderBy("mean")).cast("bigint") + ties - 1
    ranked = active.withColumns({"place": place, "n": F.count(F.lit(1)).over(by_day)})
    distance = F.col("place") - (F.col("n") + 1)
    # squares of distances among more than two million users pass 64 bits
    square = F.col("distance").cast(_DISTANCE) * F.col("distance").cast(_DISTANCE)
    centred = ranked.withColumn("distance", distance).withColumn("squares", F.sum(square).over(by_day))
    of_users = user_segments(segments, extra_columns)
    known = users.on_day(centred, of_users, days.first)
    groups = (
        known.select("*", by_segment(of_users))
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
