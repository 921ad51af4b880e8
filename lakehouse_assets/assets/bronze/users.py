"""Every delivered user row."""

from __future__ import annotations

from pyspark.sql import DataFrame

from lakehouse_assets.assets.delivered import delivered as delivered_columns
from lakehouse_assets.assets.table import table_asset


@table_asset(
    "bronze.users",
    description="Every delivered user row as text, nothing dropped; one day is one landing date.",
    columns=delivered_columns("users"),
    partition_column="landing_date",
    landed="users",
    version=3,
    calendar="users",
    by_month=True,
)
def users(delivered: DataFrame) -> DataFrame:
    """The rows of the landed files as they are.

    Args:
        delivered: the files' columns as text, landing_date, source_file, source_line, ingested_at and what did not fit.
    """
    return delivered
