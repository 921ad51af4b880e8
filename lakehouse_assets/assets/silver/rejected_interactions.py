"""Delivered interactions that did not qualify."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame

from lakehouse_assets.assets.columns import one_of, text
from lakehouse_assets.assets.delivered import delivered
from lakehouse_assets.assets.silver.cleaning import REJECT_REASONS, classify
from lakehouse_assets.assets.table import Input, table_asset


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
    allowed_actions: Sequence[str],
    max_duration_ms: int,
    late_days: int,
    input_timezone: str,
    reporting_timezone: str,
    timestamp_formats: Sequence[str],
) -> DataFrame:
    """The rows of a landing date that did not qualify: all columns as delivered, and their one reason.

    Args:
        bronze: delivered rows.
        allowed_actions: action types that count.
        max_duration_ms: longest valid duration, itself included, in ms.
        late_days: days after its event date that a row may still be delivered.
        input_timezone: zone of timestamps without an offset.
        reporting_timezone: zone whose calendar days are event dates.
        timestamp_formats: further formats of timestamps.
    """
    classified = classify(
        bronze,
        allowed_actions=allowed_actions,
        max_duration_ms=max_duration_ms,
        late_days=late_days,
        input_timezone=input_timezone,
        reporting_timezone=reporting_timezone,
        timestamp_formats=timestamp_formats,
    )
    return classified.where("reason IS NOT NULL").drop("event_time", "duration", "event_date")
