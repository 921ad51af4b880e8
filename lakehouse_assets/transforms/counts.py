"""The statement that accounts for every delivered row (METRICS: "Everything reconciles")."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar


def interaction_counts(
    bronze: DataFrame, rejected: DataFrame, routing: DataFrame, accepted: DataFrame, first: date, last: date
) -> DataFrame:
    """What became of every row, for each day from ``first`` to ``last``, each number counted at its own place.

    Args:
        bronze: landing_date of the delivered rows.
        rejected: landing_date of the quarantined rows.
        routing: landing_date, event_date, reason, delivered_rows; landing dates ``first`` … ``last`` + late_days.
        accepted: event_date and duplicates of the accepted interactions.
        first: first day wanted.
        last: last day wanted.

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
    # stacked and summed once rather than joined five times: one shuffle of a few rows
    names = [name for side in sides for name in side.columns if name != "date"]
    stacked = calendar(bronze, first, last)
    for side in sides:
        stacked = stacked.unionByName(side, allowMissingColumns=True)
    totals = stacked.groupBy("date").agg(*[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names])
    return totals.where(F.col("date").between(F.lit(first), F.lit(last)))
