"""How many actions took how long, in classes that days and versions can share (docs/metrics: performance)."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import at_least, count, day, one_of, text, whole
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.assets.users_as_of import UNKNOWN

# Classes keep a duration's six leading binary digits: 32 to a doubling, so a class is at most 1/32 of its values wide.
CLASS_BITS = 6


@table_asset(
    "silver.duration_classes",
    description="Actions by app version, type and class of duration: days and versions can be added up.",
    columns=lambda settings: {
        "date": day("Day."),
        "app_version": text("App version; `unknown` where none was delivered."),
        "action_type": text("What the users did.", one_of(settings.allowed_actions)),
        "duration_from_ms": count("Least duration of the class, in ms: its six leading binary digits."),
        "actions": whole("Accepted interactions.", at_least(1)),
    },
    partition_column="date",
    reads={"interactions": Input("silver.interactions")},
    key=("date", "app_version", "action_type", "duration_from_ms"),
    by_month=True,
)
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
    least = duration - F.pmod(duration, _class_width(duration))
    return interactions.groupBy(
        F.col("event_date").alias("date"), known_version(), "action_type", least.alias("duration_from_ms")
    ).agg(F.count(F.lit(1)).alias("actions"))


def known_version() -> Column:
    """The app version, `UNKNOWN` where none was delivered."""
    return F.coalesce("app_version", F.lit(UNKNOWN)).alias("app_version")


def _class_width(duration: Column) -> Column:
    """Width in ms of the class of a duration: the power of two that leaves six binary digits."""
    digits_cut = F.greatest(F.length(F.bin(duration)) - CLASS_BITS, F.lit(0))
    return F.call_function("shiftleft", F.lit(1).cast("bigint"), digits_cut)
