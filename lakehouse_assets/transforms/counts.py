"""The statements that account for every delivered row (METRICS: "Everything reconciles")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.transforms.activity import calendar
from lakehouse_assets.transforms.cleaning import trimmed
from lakehouse_assets.transforms.stacking import stacked
from lakehouse_assets.transforms.users import judged


def interaction_counts(
    bronze: DataFrame, rejected: DataFrame, routing: DataFrame, accepted: DataFrame, first: date, last: date
) -> DataFrame:
    """What became of every row, for each day from ``first`` to ``last``, each number counted at its own place.

    Args:
        bronze: landing_date of the delivered rows.
        rejected: landing_date of the quarantined rows.
        routing: landing_date, event_date, reason, delivered_rows; of every landing date that may send
            rows to the days.
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
    return _side_by_side(sides, first, last)


def user_counts(bronze: DataFrame, rejected: DataFrame, first: date, last: date) -> DataFrame:
    """What became of every row of the users' files, for each landing date from ``first`` to ``last``.

    The rejected rows are counted where they were published, all others where they were delivered.

    Args:
        bronze: user_id, join_date, malformed_row and landing_date of the delivered rows.
        rejected: landing_date of the quarantined rows.
        first: first landing date wanted.
        last: last landing date wanted.

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
    return _side_by_side((delivered, apart), first, last)


def _side_by_side(sides: Sequence[DataFrame], first: date, last: date) -> DataFrame:
    """The numbers of several frames with a column date, one row for each day from ``first`` to ``last``, 0 for none."""
    # stacked and summed once rather than joined for each: one shuffle of a few rows
    names = [name for side in sides for name in side.columns if name != "date"]
    rows = stacked(calendar(sides[0], first, last), *sides)
    totals = rows.groupBy("date").agg(*[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names])
    return totals.where(F.col("date").between(F.lit(first), F.lit(last)))
