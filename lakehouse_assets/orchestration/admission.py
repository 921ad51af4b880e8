"""How a run begins: days without a partition are refused, and the engine is chosen."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import dagster as dg

from lakehouse_assets.calendar import ALL_DAYS, span_in_words
from lakehouse_assets.engines.choice import ENGINE_TAG
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.orchestration.runs import RUNS_OF_TABLES


class NoSuchDays(LakehouseError):
    """A run for days without a partition, or for no days; the message names the possible days."""


def begin(
    lakehouse: Lakehouse, run: dg.DagsterRun, instance: dg.DagsterInstance | None, log: dg.DagsterLogManager | None
) -> None:
    """Choose the engine of a run or of its checks, and tag the run with it."""
    keys = run.asset_selection or {check.asset_key for check in run.asset_check_selection or ()}
    names = [name for name in (".".join(key.path) for key in keys) if name in lakehouse.tables]
    first, last = (
        date.fromisoformat(day) if day else other for day, other in zip(days_of_run(run), ALL_DAYS, strict=True)
    )
    choice = lakehouse.begin(run.run_id, names or list(lakehouse.tables), first, last)
    if log:
        log.info("%s", choice)
    if instance and run.tags.get(ENGINE_TAG) != choice.name:
        instance.add_run_tags(run.run_id, {ENGINE_TAG: choice.name})


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


def computes(run: dg.DagsterRun, tables: Collection[str]) -> bool:
    """Whether a run computes some of the tables; others judge them, draw the dashboard or make assets of their own."""
    if run.asset_selection:
        return any(".".join(key.path) in tables for key in run.asset_selection)
    return run.job_name in RUNS_OF_TABLES and not run.asset_check_selection
