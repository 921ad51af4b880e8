"""How long actions take, by app version and action type (docs/metrics: performance)."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import at_least, count, day, mean, one_of, text, whole
from lakehouse_assets.assets.silver.duration_classes import class_width, known_version
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.calendar import Days

WINDOW_DAYS = 28
PERCENTS = (50, 95, 99)
_BY = ("app_version", "action_type")


@table_asset(
    "gold.version_performance",
    description="How long actions take by app version and type: exact for the day, by classes for 28 days.",
    columns=lambda settings: {
        "date": day("Day."),
        "app_version": text("App version; `unknown` where none was delivered."),
        "action_type": text("What the users did.", one_of(settings.allowed_actions)),
        "actions": count("Accepted interactions of the day."),
        "avg_duration_ms": mean("Mean duration_ms of the day, in ms."),
        **{
            f"p{percent}_duration_ms": whole(
                f"{percent}th percentile of the day's durations, in ms.", at_least(0), nullable=True
            )
            for percent in PERCENTS
        },
        "actions_28d": whole("Accepted interactions of the 28 days that end on the day.", at_least(1)),
        **{
            f"p{percent}_duration_ms_28d": count(
                f"{percent}th percentile of the 28 days' durations, in ms, to 1/64 of it."
            )
            for percent in PERCENTS
        },
    },
    partition_column="date",
    reads={
        "interactions": Input("silver.interactions"),
        "duration_classes": Input("silver.duration_classes", 1 - WINDOW_DAYS, 0),
    },
    key=("date", "app_version", "action_type"),
    by_month=True,
)
def version_performance(interactions: DataFrame, duration_classes: DataFrame, days: Days) -> DataFrame:
    """Percentiles of durations by app version and action type: exact for the day, by classes for its 28 days.

    Args:
        interactions: accepted rows of the days: event_date, app_version, action_type, duration_ms.
        duration_classes: rows of silver.duration_classes of the days and of the 27 before.
        days: days wanted.

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
    of_day = interactions.groupBy(F.col("event_date").alias("date"), known_version(), "action_type").agg(
        count.alias("actions"),
        (F.sum("duration_ms") / count).alias("avg_duration_ms"),
        *[column.cast("bigint") for column in exact],
    )
    return (
        _of_window(duration_classes, *days)
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
    middle = F.col("duration_from_ms") + F.call_function("div", class_width(F.col("duration_from_ms")), F.lit(2))
    so_far = F.col("so_far") * 100
    return ranked.groupBy("date", *_BY).agg(
        F.first("total").alias("actions_28d"),
        *[
            F.min(F.when(so_far >= F.col("total") * percent, middle)).alias(f"p{percent}_duration_ms_28d")
            for percent in PERCENTS
        ],
    )
