"""What became of every interaction row (docs/metrics: everything reconciles)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.charts import QUALITY, Card, Chart
from lakehouse_assets.assets.columns import count, day
from lakehouse_assets.assets.reconciliation import side_by_side
from lakehouse_assets.assets.table import Input, Rule, table_asset
from lakehouse_assets.calendar import Days


@table_asset(
    "silver.interaction_counts",
    description="What became of every row: delivered = rejected + routed, arrived = accepted + duplicates.",
    columns={
        "date": day("The day, as a landing date and as an event date."),
        "delivered_rows": count("Rows in the files of this landing date."),
        "rejected_rows": count("Rows of this landing date that were rejected."),
        "routed_rows": count("Rows of this landing date that went to an event date."),
        "arrived_rows": count("Rows of any landing date that belong to this event date."),
        "accepted_rows": count("Interactions of this event date."),
        "duplicate_rows": count("Duplicates of this event date."),
    },
    partition_column="date",
    reads=lambda settings: {
        "bronze": Input("bronze.interactions"),
        "rejected": Input("silver.rejected_interactions"),
        "routing": Input("silver.interaction_routing", -settings.days_ahead, settings.late_days),
        "accepted": Input("silver.interactions"),
    },
    key=("date",),
    rules=(
        Rule(
            "rows_reconcile",
            "delivered = rejected + routed, and arrived = accepted + duplicates",
            lambda: (
                (F.col("delivered_rows") == F.col("rejected_rows") + F.col("routed_rows"))
                & (F.col("arrived_rows") == F.col("accepted_rows") + F.col("duplicate_rows"))
            ),
        ),
    ),
    checks=("rows_reconcile",),
    by_month=True,
    charts=(
        Chart(
            "What became of the delivered rows",
            QUALITY,
            "Rows by the day they belong to: accepted, or duplicates of accepted ones; and rejected rows by the day "
            "they were delivered. Nothing is dropped without being counted.",
            "bar",
            "rows",
            {"accepted": "accepted_rows", "duplicates": "duplicate_rows", "rejected": "rejected_rows"},
            place=20,
        ),
    ),
    cards=(
        Card(
            "Rejected rows",
            "Of the rows delivered on the days, the share that did not qualify.",
            "share",
            "ratio",
            "SELECT date, rejected_rows, delivered_rows FROM silver.interaction_counts",
            "Rejected rows by reason",
            place=80,
        ),
    ),
)
def interaction_counts(
    bronze: DataFrame, rejected: DataFrame, routing: DataFrame, accepted: DataFrame, days: Days
) -> DataFrame:
    """What became of every row, for each of the days, each number counted at its own place.

    Args:
        bronze: landing_date of the delivered rows.
        rejected: landing_date of the quarantined rows.
        routing: landing_date, event_date, reason, delivered_rows; of every landing date that may send
            rows to the days.
        accepted: event_date and duplicates of the accepted interactions.
        days: days wanted.

    Returns:
        date; as a landing date delivered_rows, rejected_rows, routed_rows; as an event date arrived_rows (routed
        here from any landing date), accepted_rows, duplicate_rows.
    """
    count = F.count(F.lit(1))
    routed = routing.where("reason IS NULL")
    sides = (
        bronze.groupBy(F.col("landing_date").alias("date")).agg(count.alias("delivered_rows")),
        rejected.groupBy(F.col("landing_date").alias("date")).agg(count.alias("rejected_rows")),
        routed.groupBy(F.col("landing_date").alias("date")).agg(F.sum("delivered_rows").alias("routed_rows")),
        routed.groupBy(F.col("event_date").alias("date")).agg(F.sum("delivered_rows").alias("arrived_rows")),
        accepted.groupBy(F.col("event_date").alias("date")).agg(
            count.alias("accepted_rows"), F.sum("duplicates").alias("duplicate_rows")
        ),
    )
    return side_by_side(sides, *days)
