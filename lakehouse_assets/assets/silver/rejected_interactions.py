"""Delivered interactions that did not qualify."""

from __future__ import annotations

from pyspark.sql import DataFrame

from lakehouse_assets.assets.columns import one_of, text
from lakehouse_assets.assets.delivered import delivered
from lakehouse_assets.assets.silver.cleaning import REJECT_REASONS, classify
from lakehouse_assets.assets.table import Input, table_asset
from lakehouse_assets.settings import Cleaning


@table_asset(
    "silver.rejected_interactions",
    description="Rows that did not qualify, as delivered, each with the first reason that holds.",
    columns={**delivered("interactions"), "reason": text("Why the row was rejected.", one_of(REJECT_REASONS))},
    partition_column="landing_date",
    reads={"bronze": Input("bronze.interactions")},
    calendar="landings",
    version=3,
)
def rejected_interactions(
    bronze: DataFrame,
    cleaning: Cleaning,
) -> DataFrame:
    """The rows of a landing date that did not qualify: all columns as delivered, and their one reason.

    Args:
        bronze: delivered rows.
        cleaning: which rows count.
    """
    classified = classify(bronze, cleaning)
    return classified.where("reason IS NOT NULL").drop("event_time", "duration", "event_date")
