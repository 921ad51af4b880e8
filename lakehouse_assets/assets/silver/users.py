"""Users over time: a slowly changing dimension of type 2."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import day, flag
from lakehouse_assets.assets.frames import in_days
from lakehouse_assets.assets.table import EVER, NO_DUPLICATE_KEY, Input, Rule, table_asset
from lakehouse_assets.assets.users_as_of import with_ends
from lakehouse_assets.assets.versions import version_columns
from lakehouse_assets.calendar import Days


@table_asset(
    "silver.users",
    description="Users over time, sorted by country: each version with its first day and the day it ended.",
    columns=lambda settings: {
        **version_columns(settings.segments, settings.extra_columns),
        "valid_to": day("First day of the user's next version; null without one.", nullable=True),
        "is_current": flag("Whether it is the user's newest version."),
    },
    partition_column="valid_from",
    reads={"changes": Input("silver.user_changes", 0, -EVER)},  # a later delivery ends a version
    calendar="users",
    key=("valid_from", "user_id"),
    rules=(
        Rule(
            "versions_end_after_they_begin",
            "valid_from < valid_to, and a version without valid_to is current",
            lambda: (
                F.coalesce(F.col("valid_from") < F.col("valid_to"), F.lit(True))
                & (F.col("is_current") == F.col("valid_to").isNull())
            ),
        ),
    ),
    checks=(NO_DUPLICATE_KEY, "versions_end_after_they_begin"),
    by_month=True,
    sorted_by=("country",),
    settings=("segments",),
)
def users(changes: DataFrame, days: Days) -> DataFrame:
    """The versions that begin on some days, with their end.

    Args:
        changes: all versions that begin on the first of the days or later.
        days: days wanted.
    """
    return with_ends(changes).where(in_days("valid_from", *days))
