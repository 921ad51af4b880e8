"""Which event dates the rows of a landing date belong to."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import QUALITY, Chart
from lakehouse_assets.assets.columns import count, day, one_of, text
from lakehouse_assets.assets.silver.cleaning import REJECT_REASONS, classify
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.settings import Cleaning


@table_asset(
    "silver.interaction_routing",
    description="How many rows of a landing date went to which event date, or were rejected for which reason.",
    columns={
        "landing_date": day("Day the rows were delivered under."),
        "event_date": day("Day the rows belong to; null for rejected rows.", nullable=True),
        "reason": text("Reject reason; null for routed rows.", one_of(REJECT_REASONS), nullable=True),
        "delivered_rows": count("Rows."),
    },
    partition_column="landing_date",
    reads={"bronze": Input("bronze.interactions")},
    calendar="landings",
    key=("landing_date", "event_date", "reason"),
    rules=(
        Rule(
            "routed_or_rejected",
            "a row has an event date or a reason, not both",
            lambda: F.col("event_date").isNull() != F.col("reason").isNull(),
        ),
    ),
    by_month=True,
    version=3,
    charts=(
        Chart(
            "Rejected rows by reason",
            QUALITY,
            "Rows that did not qualify, by the day they were delivered and the first reason that held.",
            "bar",
            "rows",
            query="SELECT landing_date AS date, reason AS series, sum(delivered_rows)::DOUBLE AS value "
            "FROM silver.interaction_routing WHERE reason IS NOT NULL GROUP BY ALL ORDER BY series, date",
            place=30,
        ),
    ),
)
def interaction_routing(
    bronze: DataFrame,
    cleaning: Cleaning,
) -> DataFrame:
    """Count the rows of each landing date by their event date, or by their reason.

    Args:
        bronze: delivered rows.
        cleaning: which rows count.

    Returns:
        landing_date, event_date (null for rejected rows), reason (null for routed rows), delivered_rows (bigint).
    """
    classified = classify(bronze, cleaning)
    event_date = F.when(F.col("reason").isNull(), F.col("event_date"))
    return (
        classified.select("landing_date", event_date.alias("event_date"), "reason")
        .groupBy("landing_date", "event_date", "reason")
        .agg(F.count("*").alias("delivered_rows"))
    )
