"""How many rows a run reads, estimated from file sizes and Iceberg metadata. No file is opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from lakehouse_assets.assets.table import Table
from lakehouse_assets.calendar import ALL_DAYS, DAY
from lakehouse_assets.landing.deliveries import BYTES_PER_ROW
from lakehouse_assets.landing.text_files import COMPRESSED_ENDINGS
from lakehouse_assets.landing.zone import LandingZone
from lakehouse_assets.storage.catalog import Catalog, files_overlapping

_COMPRESSED_TO = 6  # text bytes per byte of a compressed file


class Intake:
    """Counts what runs of one lakehouse read: rows of landed files, and rows of existing tables."""

    def __init__(self, tables: Mapping[str, Table], catalog: Catalog, zone: LandingZone) -> None:
        self._tables = tables
        self._catalog = catalog
        self._zone = zone

    def rows(self, names: Collection[str], first: date, last: date, enough: int) -> int:
        """About how many rows enter a run from outside; for tables an upper bound.

        Rows that one table of the run reads from another are counted once. Whole tables are counted first; only if
        they have more than ``enough`` rows, the files of the days that are read are counted.

        Args:
            names: the tables that the run computes.
            first: its first day.
            last: its last day.
            enough: a count up to this need not be exact.
        """
        delivered = sum(self._delivered(name, first, last) for name in names if self._tables[name].layer == "bronze")
        spans: dict[str, tuple[date, date]] = {}
        for i in (i for name in names for i in self._tables[name].inputs):
            low, high = ALL_DAYS if i.as_of else i.span_read(first, last)
            if i.table not in names or low < first or high > last:
                before = spans.get(i.table, (low, high))
                spans[i.table] = (min(low, before[0]), max(high, before[1]))
        whole = delivered + sum(self._all(name) for name in spans)
        if whole <= enough:
            return whole
        rows = delivered
        for name, (low, high) in spans.items():
            around = [(low, first - DAY), (last + DAY, high)] if name in names else [(low, high)]
            rows += sum(self._within(name, *days) for days in around if days[0] <= days[1])
        return rows

    def _delivered(self, name: str, first: date, last: date) -> int:
        days = self._zone.listing(name.removeprefix("bronze."))
        files = [file for day, found in days.items() if first <= day <= last for file in found]
        texts = [
            file.size * (_COMPRESSED_TO if file.path.name.lower().endswith(COMPRESSED_ENDINGS) else 1) for file in files
        ]
        return -(-sum(texts) // BYTES_PER_ROW)

    def _all(self, name: str) -> int:
        table = self._catalog.load(name)
        snapshot = table.current_snapshot() if table else None
        summary = snapshot.summary if snapshot else None
        return int((summary and summary["total-records"]) or 0)

    def _within(self, name: str, first: date, last: date) -> int:
        """Rows of a table from ``first`` to ``last``; of a file with further days, its share of days."""
        table = self._catalog.load(name)
        found = files_overlapping(table, self._tables[name].partition_column, first, last) if table else {}
        rows = 0
        for file, low, high in found.values():
            days = (min(last, high) - max(first, low)).days + 1
            rows += -(-file.record_count * days // ((high - low).days + 1))
        return rows
