"""The lakehouse from Python."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame

from lakehouse_assets.calendar import days_between
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.files import parse_date
from lakehouse_assets.planning.planner import Work
from lakehouse_assets.runner import Runner
from lakehouse_assets.settings import Settings


class DataLakehouseETL:
    """Computes tables from Python, in the same runs as the command and Dagster's pages."""

    def __init__(self, settings: Settings | None = None) -> None:
        """A lakehouse; settings are read from the environment when left out."""
        self.lakehouse = Lakehouse(settings)
        self._runner = Runner(self.lakehouse, print)

    def create_gold_layer(self, day: date | str) -> dict[str, DataFrame]:
        """Compute every table for one day; returns the gold tables' rows of that day by table name."""
        first = _date(day)
        self.process_date_range(first, first)
        gold = [name for name, table in self.lakehouse.tables.items() if table.layer == "gold"]
        return {name: self.lakehouse.warehouse.read(name, first, first) for name in gold}

    def process_date_range(self, start: date | str, end: date | str) -> Sequence[Work]:
        """Compute every table for the days from ``start`` to ``end``, both included, in one run."""
        return self._runner.run_range(_date(start), _date(end))

    def backfill_gold_metrics(
        self, start_date: date | str, end_date: date | str, parallel: bool = True
    ) -> Sequence[Work]:
        """Recompute every table for a range; one run on all cores, or with ``parallel=False`` a run a day."""
        first, last = _date(start_date), _date(end_date)
        if parallel:
            return self.process_date_range(first, last)
        return [work for day in days_between(first, last) for work in self.process_date_range(day, day)]


def _date(day: date | str) -> date:
    return parse_date(day) if isinstance(day, str) else day
