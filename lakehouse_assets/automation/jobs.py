"""The daily partitions and the job over all assets."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from lakehouse_assets.io.landing import DATASETS
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.settings import EARLIEST_LANDING_DATE

JOB = "lakehouse"


def daily_partitions(lakehouse: Lakehouse) -> dg.DailyPartitionsDefinition:
    """One partition a day in UTC, from `start_date` (or the first landed date) to today, today included."""
    landed = [days[0] for dataset in DATASETS if (days := lakehouse.zone.dates(dataset))]
    first = lakehouse.settings.start_date or min(landed, default=datetime.now(tz=UTC).date())
    # an event may belong to a day before the first delivery
    first = max(EARLIEST_LANDING_DATE, first - (first - first.replace(day=1)))
    return dg.DailyPartitionsDefinition(first.isoformat(), timezone="UTC", end_offset=1)


def lakehouse_job() -> dg.UnresolvedAssetJobDefinition:
    """Every table for a day or a range of days."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all(),
        description="Every table for a day, or for a range of days in one run.",
    )
