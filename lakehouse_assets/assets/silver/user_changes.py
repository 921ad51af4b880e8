"""Versions of users by the day they begin."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from lakehouse_assets.assets.silver.rejected_users import judged
from lakehouse_assets.assets.table import EVER, Input, table_asset
from lakehouse_assets.assets.texts import trimmed
from lakehouse_assets.assets.users_as_of import attributes, user_group
from lakehouse_assets.assets.versions import version_columns


@table_asset(
    "silver.user_changes",
    description="Versions of users by the day they begin: rows of a users file that say something new.",
    columns=lambda settings: version_columns(settings.segments, settings.extra_columns),
    partition_column="valid_from",
    reads={"bronze": Input("bronze.users"), "earlier": Input("silver.user_changes", EVER, -1)},
    calendar="users",
    key=("valid_from", "user_id"),
    by_month=True,
    known_by_inputs=("extra_columns",),  # those that are segments are stamped with the segments
    version=2,
)
def user_changes(
    bronze: DataFrame, earlier: DataFrame, segments: Sequence[str], extra_columns: Sequence[str] = ()
) -> DataFrame:
    """The versions of users that begin with some deliveries: rows that say something else than was known before.

    Of a delivery's rows of one user the one with the latest join_date counts (none is earliest), then the smallest by
    content. Rows that `judged` gives a reason don't count. One shuffle by user.

    Args:
        bronze: user_id, join_date, country, device_type, subscription_type, extra_columns (JSON object),
            malformed_row (text as delivered) and landing_date (date) of some days.
        earlier: all versions that begin before these days.
        segments: see `attributes`; columns that not every users file has come from bronze's extra_columns.
        extra_columns: columns of events, which no user has.

    Returns:
        valid_from (landing date), user_id, join_date (date) and its `attributes` (null where empty).
    """
    texts = attributes(segments, extra_columns)
    extra = F.from_json("extra_columns", "map<string, string>")
    valid = judged(bronze).where("reason IS NULL")
    typed = valid.select(
        F.col("landing_date").alias("valid_from"),
        trimmed("user_id").alias("user_id"),
        F.col("joined").alias("join_date"),
        *[_blank_to_null(trimmed(name)).alias(name) for name in texts if name in bronze.columns],
        *[_blank_to_null(extra[name]).alias(name) for name in texts if name not in bronze.columns],
    )
    version = F.struct("join_date", *texts)
    # each column by itself: of structs with a null inside, engines differ on which is the smallest
    best_first = (F.col("join_date").desc_nulls_last(), *[F.col(name).asc_nulls_first() for name in texts])
    group = user_group().alias("_group")
    in_order = Window.partitionBy("_group").orderBy("user_id", "valid_from", *best_first)
    by_user = Window.partitionBy("_group").orderBy("user_id", "valid_from")

    def before(name: str, order: WindowSpec) -> Column:
        """A column of the row before, null where that is another user's."""
        return F.when(F.lag("user_id").over(order) == F.col("user_id"), F.lag(name).over(order))

    # by group first: both windows find their rows where they are
    delivered = (
        typed.select("*", group)
        .repartition("_group")
        .withColumn("_best", ~F.col("valid_from").eqNullSafe(before("valid_from", in_order)))
        .where("_best")
        .select("_group", "user_id", "valid_from", version.alias("version"), F.lit(True).alias("delivered"))
    )
    known = (
        earlier.select("*", group)
        .repartition("_group")
        .select("_group", "user_id", "valid_from", version.alias("version"), F.lit(False).alias("delivered"))
    )
    return (
        delivered.unionByName(known)
        .withColumn("before", before("version", by_user))
        .where(F.col("delivered") & ~F.col("version").eqNullSafe(F.col("before")))
        .select("valid_from", "user_id", "version.*")
    )


def _blank_to_null(text: Column) -> Column:
    return F.nullif(text, F.lit(""))
