"""User snapshots (METRICS: `silver.users`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.transforms.cleaning import trimmed

ATTRIBUTES = ("country", "device_type", "subscription_type")


def user_snapshots(bronze: DataFrame, snapshot_dates: Sequence[date]) -> DataFrame:
    """The newest row per user at each snapshot date.

    Newest is the latest landing date; ties inside one are broken by the latest join_date (none is earliest), then by
    the smallest row by content. Rows without a user_id, with an unreadable join_date or malformed ones don't count.

    Args:
        bronze: user_id, join_date, country, device_type, subscription_type, malformed_row (text as delivered) and
            landing_date (date) of all landings up to the last snapshot.
        snapshot_dates: landing dates that delivered a users file.

    Returns:
        snapshot_date, user_id, join_date (date), country, device_type, subscription_type (null where empty),
        landing_date (of the row that survived).
    """
    join_text = trimmed("join_date")
    join_date = F.when(F.length(join_text) == 10, join_text.try_cast("date"))
    typed = bronze.where(
        F.col("malformed_row").isNull()
        & (F.coalesce(trimmed("user_id"), F.lit("")) != "")
        & (F.coalesce(join_text == "", F.lit(True)) | join_date.isNotNull())
    ).select(
        trimmed("user_id").alias("user_id"),
        join_date.alias("join_date"),
        *[_blank_to_null(name) for name in ATTRIBUTES],
        "landing_date",
    )
    snapshots = bronze.sparkSession.range(1).select(
        F.explode(F.array(*[F.lit(day) for day in snapshot_dates]).cast("array<date>")).alias("snapshot_date")
    )
    newest = Window.partitionBy("snapshot_date", "user_id").orderBy(
        F.desc("landing_date"), F.desc_nulls_last("join_date"), *ATTRIBUTES
    )
    return (
        typed.join(F.broadcast(snapshots), F.col("landing_date") <= F.col("snapshot_date"))
        .withColumn("_rank", F.row_number().over(newest))
        .where("_rank = 1")
        .select("snapshot_date", "user_id", "join_date", *ATTRIBUTES, "landing_date")
    )


def _blank_to_null(name: str) -> Column:
    return F.nullif(trimmed(name), F.lit("")).alias(name)
