"""Keeping tables small: what killed runs left, small files, old snapshots, files nobody refers to, and old days.

Everything here may run beside runs. Files are put together through the same commit as a publication, so of two that
want the same days one computes again. A snapshot is expired by when it stopped being the newest, not by when it was
made, so what a run has begun to read stays. See docs/operations.md and docs/decisions/0004-retention.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import cast

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import ancestors_of

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import ALL_DAYS, month_first
from lakehouse_assets.storage.catalog import files_overlapping, forget_days, kept_from, read_stamps
from lakehouse_assets.storage.staging_branch import staging_began
from lakehouse_assets.storage.warehouse import PublishConflict, Warehouse

_INTERACTIONS = "interactions"
_DELIVERED = f"bronze.{_INTERACTIONS}"
_ATTEMPTS = 5
_PROPERTIES = {"lakehouse.maintenance": "true"}

Landed = Callable[[str], Sequence[date]]
WithMemory = Callable[[str, Callable[[], None]], None]


@dataclass(frozen=True)
class Freed:
    """What maintaining one table did.

    Attributes:
        table: ``layer.table``.
        branches: abandoned stagings removed.
        snapshots: snapshots expired.
        files: files of the table that are gone, metadata included.
        bytes: their size.
        compacted: small data files whose rows were put into fewer.
        gave_way: stretches of small files left for next time, as a run published some of their days meanwhile.
    """

    table: str
    branches: int
    snapshots: int
    files: int
    bytes: int
    compacted: int
    gave_way: int


@dataclass(frozen=True)
class Dropping:
    """Days of one table that cleanup drops.

    Attributes:
        table: ``layer.table``.
        first_kept: every earlier day goes.
        kept_days: how many days before the newest one stay.
        days: computed days that go.
        rows: their rows.
    """

    table: str
    first_kept: date
    kept_days: int
    days: int
    rows: int


class Maintenance:
    """Maintains the tables of one lakehouse."""

    def __init__(self, warehouse: Warehouse, landed: Landed, with_memory: WithMemory) -> None:
        """Maintains.

        Args:
            warehouse: the tables.
            landed: gives the landing dates of a dataset.
            with_memory: does some work on a table with an engine that has the memory for it.
        """
        self._warehouse = warehouse
        self._landed = landed
        self._with_memory = with_memory

    def tables(self) -> list[str]:
        """The declared tables that exist."""
        existing = set(self._warehouse.catalog.names())
        return [name for name in self._warehouse.tables if name in existing]

    def maintain(self, name: str) -> Freed:
        """All steps of maintenance for one table; each step prepares the next."""
        now = datetime.now(tz=UTC)
        before = self._stored(name)
        branches, staged = self.remove_abandoned(name, now)
        compacted, gave_way = self.compact(name)
        self.merge_manifests(name)
        snapshots = self.expire(name, now, staged)
        self.remove_orphans(name)
        gone = before.keys() - self._stored(name).keys()
        freed = sum(before[path][0] for path in gone)
        return Freed(name, branches, snapshots, len(gone), freed, compacted, gave_way)

    def remove_abandoned(self, name: str, now: datetime) -> tuple[int, list[int]]:
        """Remove branches that runs staged on and left; how many, and the snapshots that are nobody's now.

        A run that is still there after `abandoned_hours` finds its branch gone when it publishes, and computes again.
        """
        oldest = now - timedelta(hours=self._warehouse.settings.abandoned_hours)
        table = self._load(name)
        left = [branch for branch in table.refs() if (began := staging_began(branch)) and began < oldest]
        catalog = self._warehouse.catalog
        heads = [head for branch in left if (head := catalog.remove_branch(name, branch))]  # else its run has ended
        table = self._load(name)
        kept = {snapshot.snapshot_id for snapshot in ancestors_of(table.current_snapshot(), table.metadata)}
        kept |= {ref.snapshot_id for ref in table.refs().values()}
        return len(heads), sorted(set(heads) - kept)

    def compact(self, name: str) -> tuple[int, int]:
        """Compact small files of consecutive days of finished months.

        Returns:
            The files replaced, and the stretches that gave way to a run.
        """
        declared = self._warehouse.tables[name]
        table = self._load(name)
        computed = read_stamps(table)
        if declared.by_month or not computed:  # a month of these is one file already
            return 0, 0
        found = files_overlapping(table, declared.partition_column, *ALL_DAYS).values()
        files = [(low, high, file.record_count) for file, low, high in found]
        unfinished = month_first(max(computed))
        compacted = gave_way = 0
        for first, last in small_neighbours(files, self._warehouse.settings.rows_per_file, unfinished):
            try:
                compact = partial(self._warehouse.compact, name, first, last, _PROPERTIES)
                self._with_memory(name, compact)
                compacted += sum(first <= low <= last for low, _, _ in files)
            except PublishConflict:
                gave_way += 1
        return compacted, gave_way

    def expire(self, name: str, now: datetime, also: Sequence[int] = ()) -> int:
        """Expire snapshots that stopped being the newest more than `snapshot_days` ago, and their files.

        Args:
            name: ``layer.table``.
            now: the time to count from.
            also: snapshots to expire whatever their age.

        Returns:
            How many were expired.
        """
        table = self._load(name)
        limit = now - timedelta(self._warehouse.settings.snapshot_days)
        newest_then = [e.snapshot_id for e in table.history() if e.timestamp_ms <= limit.timestamp() * 1000]
        kept_since = table.snapshot_by_id(newest_then[-1]) if newest_then else None
        older_than = kept_since.timestamp_ms if kept_since else 0
        old = {snapshot.snapshot_id for snapshot in table.snapshots() if snapshot.timestamp_ms < older_than} | {*also}

        def remove(now: IcebergTable) -> int:
            gone = old.intersection(each.snapshot_id for each in now.snapshots())
            gone.difference_update(ref.snapshot_id for ref in now.refs().values())
            if gone:
                now.maintenance.expire_snapshots().by_ids(sorted(gone)).commit()
            return len(gone)

        if not old.difference(ref.snapshot_id for ref in table.refs().values()):
            return 0
        expired = self._warehouse.catalog.alter(name, remove)
        storage, _ = _storage(table)
        folder = f"{storage.parse_location(table.location())[2]}/"
        # what only the expired ones named: nothing that is written from now on can name it
        for path in _needed(table) - _needed(self._load(name)):
            if storage.parse_location(path)[2].startswith(folder):  # never a file of the lakehouse this is a copy of
                table.io.delete(path)
        return expired

    def remove_orphans(self, name: str) -> None:
        """Delete old files under the table's folder that no snapshot names.

        Raises:
            OSError: a file that the table needs is not there, or lies where it was not listed; nothing is deleted.
        """
        oldest = datetime.now(tz=UTC) - timedelta(hours=self._warehouse.settings.abandoned_hours)
        old = {path for path, (_, changed) in self._stored(name).items() if changed < oldest}
        if not old:
            return
        table = self._load(
            name
        )  # after the files were listed: what is published from now on is younger than ``oldest``
        storage, files = _storage(table)
        needed = {storage.parse_location(path)[2] for path in _needed(table)}
        for file in files.get_file_info(sorted(needed - old)):  # delete nothing unless every needed file was listed
            if file.type == FileType.NotFound or file.mtime < oldest:
                raise OSError(f"{file.path} belongs to {name} and is not where its files are listed")
        metadata = [table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)]
        for path in old - needed - {storage.parse_location(path)[2] for path in metadata}:
            files.delete_file(path)

    def merge_manifests(self, name: str) -> None:
        """Merge a table's manifests into one; each publication adds one that readers must open."""

        def merge(now: IcebergTable) -> None:
            snapshot = now.current_snapshot()
            if snapshot is None or len(snapshot.manifests(now.io)) < 2:
                return
            with now.transaction() as transaction:
                appended = transaction.update_snapshot(snapshot_properties=_PROPERTIES).merge_append()  # of nothing
                appended._merge_enabled, appended._min_count_to_merge = True, 2
                appended.commit()

        self._warehouse.catalog.alter(name, merge)

    def plan_cleanup(self, retention_days: int) -> list[Dropping]:
        """What each table would lose if it kept ``retention_days`` days before its newest, or more if others need more.

        A table that others look back on keeps what they need: the days that they still compute look that far back.
        Users are kept: what a user file said long ago holds until another says something else.
        """
        plan = []
        for name in self.tables():
            declared = self._warehouse.tables[name]
            if declared.calendar == "users":
                continue
            table = self._load(name)
            computed = read_stamps(table)
            kept_days = max(retention_days, self._needed_days(name))
            if not computed or (max(computed) - min(computed)).days <= kept_days:
                continue
            first_kept = max(computed) - timedelta(kept_days)
            rows = table.scan(row_filter=f"{declared.partition_column} < '{first_kept}'").count()
            plan.append(Dropping(name, first_kept, kept_days, sum(day < first_kept for day in computed), rows))
        return plan

    def drop(self, dropping: Dropping) -> None:
        """Drop the days of one table in one commit; their files go when the snapshots before it expire.

        Raises:
            PublishConflict: runs published some of these days again and again meanwhile.
        """
        for attempt in range(_ATTEMPTS):
            try:
                drop = partial(self._warehouse.drop_before, dropping.table, dropping.first_kept, _PROPERTIES)
                return self._with_memory(dropping.table, drop)
            except PublishConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def empty_end(self) -> list[date]:
        """Computed days after the last landing date; they have no rows."""
        landed = self._landed(_INTERACTIONS)
        computed = self._warehouse.catalog.stamps(_DELIVERED)
        return sorted(day for day in computed if landed and day > landed[-1])

    def take_back(self, days: Collection[date]) -> None:
        """Remove the stamps of days without a file; the next run removes the days from every table."""

        def forget(table: IcebergTable) -> None:
            with table.transaction() as transaction:
                forget_days(transaction, table, days)

        self._warehouse.catalog.alter(_DELIVERED, forget)

    def landed_before(self, plan: Iterable[Dropping]) -> dict[str, date]:
        """For each dataset whose bronze table loses or has lost days: the first landing date that is still needed."""
        needed = {name: day for name in self.tables() if (day := kept_from(self._load(name)))}
        needed |= {dropping.table: dropping.first_kept for dropping in plan}
        return {dataset: needed[f"bronze.{dataset}"] for dataset in DATASETS if f"bronze.{dataset}" in needed}

    def _needed_days(self, name: str) -> int:
        """How many days before its newest one a table must keep for the days that can still change or come."""
        inputs = [i for table in self._warehouse.tables.values() for i in table.inputs if i.table == name]
        return max((-i.first_offset for i in inputs), default=0) + self._warehouse.settings.late_days

    def _load(self, name: str) -> IcebergTable:
        return self._warehouse.catalog.iceberg.load_table(name)

    def _stored(self, name: str) -> Mapping[str, tuple[int, datetime]]:
        """Size and time of change of every file under the table's folder, by path."""
        table = self._load(name)
        storage, files = _storage(table)
        listed = files.get_file_info(FileSelector(storage.parse_location(table.location())[2], recursive=True))
        return {file.path: (file.size, file.mtime) for file in listed if file.type == FileType.File}


def _storage(table: IcebergTable) -> tuple[PyArrowFileIO, FileSystem]:
    storage = cast("PyArrowFileIO", table.io)
    scheme, netloc, _ = storage.parse_location(table.location())
    return storage, storage.fs_by_scheme(scheme, netloc)


def _needed(table: IcebergTable) -> set[str]:
    """Every file that a snapshot of a table refers to, as it names it."""
    manifests = {}
    for snapshot in table.snapshots():
        manifests.update({manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)})
    needed = {snapshot.manifest_list for snapshot in table.snapshots()} | manifests.keys()
    for manifest in manifests.values():
        needed.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
    return needed


def small_neighbours(
    files: Iterable[tuple[date, date, int]], rows_per_file: int, unfinished: date
) -> list[tuple[date, date]]:
    """Stretches of days whose files fit into one: neighbours in a month that has ended, or files sharing days.

    Args:
        files: first day, last day and rows of every file.
        rows_per_file: most rows of a file.
        unfinished: days from this one on are left for later.
    """
    shared: list[tuple[date, date, int, int]] = []  # first day, last day, rows, files
    for first, last, rows in sorted(files):
        if shared and first <= shared[-1][1]:
            start, end, earlier, count = shared.pop()
            shared.append((start, max(end, last), earlier + rows, count + 1))
        else:
            shared.append((first, last, rows, 1))
    joined: list[tuple[date, date, int, int]] = []
    for first, last, rows, count in shared:
        if last >= unfinished:
            continue
        before = joined[-1] if joined else None
        if before and month_first(before[0]) == month_first(first) and before[2] + rows <= rows_per_file:
            joined[-1] = (before[0], last, before[2] + rows, before[3] + count)
        else:
            joined.append((first, last, rows, count))
    return [(first, last) for first, last, rows, count in joined if count > 1 and rows <= rows_per_file]
