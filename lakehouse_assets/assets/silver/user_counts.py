"""What became of every row of users' files (docs/metrics: everything reconciles)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import count, day
from lakehouse_assets.assets.reconciliation import side_by_side
from lakehouse_assets.assets.silver.rejected_users import judged
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.assets.texts import trimmed
from lakehouse_assets.calendar import Days


@table_asset(
    "silver.user_counts",
    description="What became of every row of users' files: delivered = rejected + duplicates + kept.",
    columns={
        "date": day("Landing date."),
        "delivered_rows": count("Rows in the users' files of this landing date."),
        "rejected_rows": count("Rows of this landing date that were rejected."),
        "duplicate_rows": count("Valid rows of a user beside the one that counts, in all files of the date."),
        "kept_rows": count("Users of this landing date, one row each: what `silver.user_changes` goes by."),
    },
    partition_column="date",
    reads={"bronze": Input("bronze.users"), "rejected": Input("silver.rejected_users")},
    calendar="users",
    key=("date",),
    rules=(
        Rule(
            "rows_reconcile",
            "delivered = rejected + duplicates + kept",
            lambda: F.col("delivered_rows") == F.col("rejected_rows") + F.col("duplicate_rows") + F.col("kept_rows"),
        ),
    ),
    checks=("rows_reconcile",),
    by_month=True,
)
def user_counts(bronze: DataFrame, rejected: DataFrame, days: Days) -> DataFrame:
    """What became of every row of the users' files, for each landing date.

    The rejected rows are counted where they were published, all others where they were delivered.

    Args:
        bronze: user_id, join_date, malformed_row and landing_date of the delivered rows.
        rejected: landing_date of the quarantined rows.
        days: landing dates wanted.

    Returns:
        date, delivered_rows, rejected_rows, duplicate_rows (valid rows of a user beside the one that counts),
        kept_rows (one a user).
    """
    user = F.when(F.col("reason").isNull(), trimmed("user_id"))
    of_users = judged(bronze).groupBy("landing_date", user.alias("user_id")).agg(F.count(F.lit(1)).alias("rows"))
    delivered = of_users.groupBy(F.col("landing_date").alias("date")).agg(
        F.sum("rows").alias("delivered_rows"),
        F.sum(F.when(F.col("user_id").isNotNull(), F.col("rows") - 1)).alias("duplicate_rows"),
        F.count("user_id").alias("kept_rows"),
    )
    apart = rejected.groupBy(F.col("landing_date").alias("date")).agg(F.count(F.lit(1)).alias("rejected_rows"))
    return side_by_side((delivered, apart), *days)
