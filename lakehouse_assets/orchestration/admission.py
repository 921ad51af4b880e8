"""How a run begins: days without a partition are refused, and the engine is chosen."""

from __future__ import annotations

from datetime import date

import dagster as dg

from lakehouse_assets.calendar import ALL_DAYS, span_in_words
from lakehouse_assets.engines.choice import ENGINE_TAG
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.orchestration.runs import WAITS_TAG


class NoSuchDays(LakehouseError):
    """A run for days without a partition, or for no days; the message names the possible days."""


def begin(
    lakehouse: Lakehouse, run: dg.DagsterRun, instance: dg.DagsterInstance | None, log: dg.DagsterLogManager | None
) -> None:
    """Choose the engine of a run or of its checks, and tag the run with it; a run tried again waits for none."""
    keys = run.asset_selection or {check.asset_key for check in run.asset_check_selection or ()}
    names = [name for name in (".".join(key.path) for key in keys) if name in lakehouse.tables]
    first, last = (
        date.fromisoformat(day) if day else other for day, other in zip(days_of_run(run), ALL_DAYS, strict=True)
    )
    choice = lakehouse.begin(run.run_id, names or list(lakehouse.tables), first, last)
    if log:
        log.info("%s", choice)
    tags = {ENGINE_TAG: choice.name} | ({WAITS_TAG: ""} if run.tags.get(WAITS_TAG) else {})
    if instance and any(run.tags.get(name) != tag for name, tag in tags.items()):
        instance.add_run_tags(run.run_id, tags)


def check_days(run: dg.DagsterRun, partitions: dg.DailyPartitionsDefinition) -> None:
    """Refuse a run for days without a partition, or for none.

    Raises:
        NoSuchDays: says which days there are.
    """
    first, last = days_of_run(run)
    earliest, latest = partitions.get_first_partition_key(), partitions.get_last_partition_key()
    there_are = f"{earliest} … {latest} (today in UTC)"
    if not first or not last:
        raise NoSuchDays(f"the run names no days; choose some of {there_are}")
    if not (partitions.has_partition_key(first) and partitions.has_partition_key(last) and first <= last):
        raise NoSuchDays(f"{span_in_words(first, last)} is outside the days that can be computed, {there_are}")
