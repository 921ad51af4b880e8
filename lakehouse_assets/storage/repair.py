"""Files of tables that are gone or damaged: found by name, and taken out so that their days are computed again.

A data file that can't be read leaves its table, together with its days' stamps, in one commit. Where a table's metadata
can't be read, the table goes back to its newest version that can; where there is none, it begins anew. Either way the
planner sees which days are missing or outdated. See docs/decisions/0005-repair.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem
from pyiceberg.avro.file import AvroFile
from pyiceberg.io import InputFile, load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, read_manifest_list
from pyiceberg.table import StaticTable
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.calendar import DAY, at_most, span_in_words
from lakehouse_assets.storage.catalog import days_in_file, forget_days, keep_from, kept_from, read_stamps
from lakehouse_assets.storage.catalog_errors import CatalogError
from lakehouse_assets.storage.engine import OutOfMemory
from lakehouse_assets.storage.place import sqlite_file
from lakehouse_assets.storage.s3 import name_unserved
from lakehouse_assets.storage.trouble import name_trouble
from lakehouse_assets.storage.warehouse import ContractViolation, PublishConflict, Warehouse

# what repair makes of a table
WITHOUT, EARLIER, EMPTY = "without these files", "an earlier version of itself", "empty"
_MISSING = "is missing"


class DamagedTable(CatalogError):
    """A file of a table is gone or damaged; the message names it and says how to mend that."""


@dataclass(frozen=True)
class Damage:
    """A file of a table that can't be read.

    Attributes:
        table: ``layer.table``.
        path: the file.
        why: what is wrong with it.
        file: a data file with its first and last day; None for metadata, without which the table's files are not known.
        earlier: whether only earlier snapshots need it.
    """

    table: str
    path: str
    why: str
    file: tuple[DataFile, date, date] | None = None
    earlier: bool = False

    @property
    def of_the_table(self) -> bool:
        """Whether the table can't be read at all, so that another version of it is needed."""
        return self.file is None and not self.earlier

    def __str__(self) -> str:
        """The file, the days it holds if it holds rows, and what is wrong."""
        days = f" ({span_in_words(*self.file[1:])})" if self.file else ""
        return f"{self.table}: {self.path}{days} {self.why}"


@dataclass(frozen=True)
class Mending:
    """What repairing one table does.

    Attributes:
        table: ``layer.table``.
        found: what can't be read.
        version: metadata file that the table goes back to; None where its own can be read, or none can.
        state: what the table becomes: "without these files", "an earlier version of itself" or "empty".
        days: days whose rows are taken out and computed again, as far as they are known beforehand.
        lost: days that can't be computed again, as cleanup has dropped what they follow from.
        live_files: data files that the table has, as far as its metadata can be read.
    """

    table: str
    found: Sequence[Damage]
    version: str | None
    state: str
    days: Sequence[date]
    lost: Sequence[date]
    live_files: int

    @property
    def missing_files(self) -> int:
        """Data files that are not there."""
        return sum(damage.file is not None and damage.why == _MISSING for damage in self.found)


def why_to_ask(plan: Sequence[Mending]) -> str:
    """Why a plan needs ``--yes``: it removes more than single files. Empty if it does not.

    A disk that is not mounted, or a copy that is not complete, looks like damage of many files.
    """
    emptied = [one.table for one in plan if one.state == EMPTY]
    back = [one.table for one in plan if one.version]
    lost = [one.table for one in plan if one.lost]
    gone = [f"{one.missing_files} of {one.live_files} of {one.table}" for one in plan if _mostly_gone(one)]
    reasons = []
    if emptied:
        reasons.append(f"{_first_of(emptied)} would become empty")
    if back:
        reasons.append(f"{_first_of(back)} would go back to an earlier version")
    if gone and sum(one.missing_files for one in plan) > 1:
        reasons.append(f"most files are not there ({_first_of(gone)})")
    if lost:
        reasons.append(f"days of {_first_of(lost)} could not be computed again")
    return "; ".join(reasons)


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(at_most(names, 3))


def _mostly_gone(mending: Mending) -> bool:
    return mending.missing_files > 0 and 2 * mending.missing_files >= mending.live_files


class Repair:
    """Finds and repairs damaged tables of one lakehouse."""

    def __init__(self, warehouse: Warehouse, first_day: Callable[[str], date]) -> None:
        """Repairs.

        Args:
            warehouse: the tables.
            first_day: gives the first day of a table that can be computed again.
        """
        self._warehouse = warehouse
        self._catalog = warehouse.catalog
        self._first_day = first_day

    @contextmanager
    def naming_damage(self, names: Iterable[str] | None = None) -> Iterator[None]:
        """Where something fails because a file of these tables (default all) can't be read, say which one.

        Raises:
            DamagedTable: instead of the error that was met.
            StorageTrouble: the same, where storage is full or read-only.
        """
        try:
            yield
        except (CatalogError, ContractViolation, OutOfMemory, PublishConflict):
            raise
        except Exception as error:
            name_trouble(error, self._warehouse.settings)
            self.name_damage(names)
            raise

    def name_damage(self, names: Iterable[str] | None = None) -> None:
        """Look whether a file of these tables (default all) can't be read.

        Raises:
            DamagedTable: one can't.
            StorageError: the S3 store does not serve it now.
        """
        found = next(self.find(names), None)
        if found:
            raise DamagedTable(
                f"{found}; `lakehouse maintain --repair` takes out what can't be read, and `lakehouse run` then "
                "computes its days again"
            ) from None

    def unreadable_tables(self) -> dict[str, str]:
        """Tables whose metadata can't be read, and what is to be said of each."""
        found = {}
        for name in self._catalog.names():
            try:
                self._catalog.load(name)
            except CatalogError:
                raise  # of the catalog, and so of every table
            except Exception as error:
                try:
                    self.name_damage([name])
                except DamagedTable as damage:
                    found[name] = str(damage)
                else:
                    raise error
        return found

    def find(self, names: Iterable[str] | None = None) -> Iterator[Damage]:
        """Files of tables (default all that exist) that can't be read: what is cheap to find first, at last every byte.

        Raises:
            CatalogError: the tables' folder itself is not there, or it holds none of them.
        """
        settings, existing = self._warehouse.settings, set(self._catalog.names())
        root = settings.warehouse_uri
        elsewhere = settings.catalog_uri or on_s3(root)
        if existing and not elsewhere and not any(Path(self._folder(name)).is_dir() for name in existing):
            what = "holds none of the tables" if Path(root).is_dir() else "is not there, and the tables with it"
            raise CatalogError(
                f"{root} {what}; mount it or correct LAKEHOUSE_WAREHOUSE (if they are lost for good, remove "
                f"{sqlite_file(settings)}, and `lakehouse run` computes them from what is landed)"
            )
        yield from self._look(
            [name for name in (self._warehouse.tables if names is None else names) if name in existing]
        )

    def plan(self, found: Sequence[Damage]) -> list[Mending]:
        """The plan to repair every damaged table; changes nothing."""
        by_table: dict[str, list[Damage]] = {}
        for damage in found:
            by_table.setdefault(damage.table, []).append(damage)
        replaced = {name for name, damages in by_table.items() if any(damage.of_the_table for damage in damages)}
        plan = []
        for name, damages in by_table.items():
            if name in replaced:
                version, _ = self._readable_version(name)
                plan.append(Mending(name, damages, version, EARLIER if version else EMPTY, (), (), 0))
                continue
            table = self._catalog.iceberg.load_table(name)
            # which days can't be computed again is not known yet where a table it is computed from can't be read
            known = not replaced.intersection(i.table for i in self._warehouse.tables[name].inputs)
            first = self._first_day(name) if known else date.min
            days, lost = _taken_out(table, damages, first)
            plan.append(Mending(name, damages, None, WITHOUT, days, lost, len(list(table.scan().plan_files()))))
        return plan

    def mend(self, mending: Mending) -> Mending:
        """Repair a table as planned and return what was done. Nothing may write to it meanwhile."""
        name, found = mending.table, mending.found
        if mending.state != WITHOUT:
            self._go_back(name)
            found = [*found, *self._look([name])]
        table = self._forget_unreadable(name)
        files = [damage.file for damage in found if damage.file]
        days, lost = _taken_out(table, found, self._first_day(name))
        with table.transaction() as transaction:
            forget_days(transaction, table, {*days, *lost})
            if lost:  # what looks back on them can't be computed again either, and stays as it is
                keep_from(transaction, max(lost) + DAY)
            if files:
                with transaction.update_snapshot(snapshot_properties={"lakehouse.repair": "true"}).overwrite() as out:
                    for file, _, _ in files:
                        out.delete_data_file(file)
        return replace(mending, found=found, days=days, lost=lost)

    def _look(self, names: Iterable[str]) -> Iterator[Damage]:
        readable = []
        for name in names:
            found = list(self._look_at_metadata(name))
            yield from found
            if all(damage.earlier for damage in found):
                readable.append(name)
        for unreadable in (_wrong_size, _unreadable_rows):
            for name in readable:
                yield from self._look_at_rows(name, unreadable)

    def _look_at_metadata(self, name: str) -> Iterator[Damage]:
        try:
            table = self._catalog.iceberg.load_table(name)
        except CatalogError:
            raise
        except Exception as error:  # whatever reading a damaged file raises
            name_unserved(error, name)
            told = "\n".join([str(error), *getattr(error, "__notes__", [])])
            named = re.search(r"[^/\s'\"]+\.metadata\.json", told)
            folder = f"{self._folder(name)}/metadata"
            path = f"{folder}/{named[0]}" if named else next(self._versions(name), folder)
            yield Damage(name, path, _why(error))
            return
        current = table.current_snapshot()
        if current and (damage := _unreadable(name, table, current)):
            yield damage
            return
        for snapshot in table.snapshots():
            if damage := _unreadable(name, table, snapshot):
                yield replace(damage, earlier=True)

    def _look_at_rows(self, name: str, unreadable: Callable[[FileSystem, str, DataFile], str]) -> Iterator[Damage]:
        table = self._catalog.iceberg.load_table(name)
        column, storage = self._warehouse.tables[name].partition_column, cast("PyArrowFileIO", table.io)
        for task in table.scan().plan_files():
            scheme, netloc, path = storage.parse_location(task.file.file_path)
            if why := unreadable(storage.fs_by_scheme(scheme, netloc), path, task.file):
                yield Damage(name, path, why, (task.file, *days_in_file(table, column, task.file)))

    def _readable_version(self, name: str) -> tuple[str | None, date | None]:
        """The newest version of a table that can be read, if any, and the first day that cleanup has kept, if any.

        A version holds its rows and the stamps that vouch for them, so whatever version it is, even one that was
        written and never committed, the planner knows which of its days are up to date.
        """
        versions = []
        for path in self._versions(name):
            try:
                versions.append((path, StaticTable.from_metadata(path, self._catalog.iceberg.properties)))
            except Exception as error:  # what this looks past is a damaged version
                name_unserved(error, path)
        # the versions of a table that was dropped stay, and one made anew in its folder counts from 0 again
        of_now = max((table.metadata for _, table in versions), key=lambda found: found.last_updated_ms, default=None)
        kept: date | None = None
        for path, table in versions:
            if of_now and table.metadata.table_uuid != of_now.table_uuid:
                continue
            kept = kept or kept_from(table)
            current = table.current_snapshot()
            # one that was written where the lakehouse was before it moved names the files there, not these
            here = table.location() == self._folder(name)
            if here and current and not _unreadable(name, table, current):
                return path, kept
        return None, kept

    def _go_back(self, name: str) -> None:
        """Put the newest version of a table in place that can be read; without one make the table anew, empty."""
        found, kept = self._readable_version(name)
        self._catalog.iceberg.drop_table(name)  # its entry in the catalog, no file
        if found:
            self._catalog.iceberg.register_table(name, found)
            return
        anew = self._warehouse.base(name, {}).table
        first = max(kept or date.min, self._first_day(name))
        if first > date.min:  # what cleanup has dropped stays dropped
            with anew.transaction() as transaction:
                keep_from(transaction, first)

    def _forget_unreadable(self, name: str) -> IcebergTable:
        """Take earlier snapshots that can't be read out of a table, and what runs staged and left; the table then."""
        for branch in self._catalog.iceberg.load_table(name).refs().keys() - {"main"}:
            self._catalog.remove_branch(name, branch)
        table = self._catalog.iceberg.load_table(name)
        gone = [snapshot.snapshot_id for snapshot in table.snapshots() if _unreadable(name, table, snapshot)]
        if gone:
            table.maintenance.expire_snapshots().by_ids(gone).commit()
        return self._catalog.iceberg.load_table(name)

    def _versions(self, name: str) -> Iterator[str]:
        """The metadata files in a table's folder, newest first."""
        folder = f"{self._folder(name)}/metadata"
        storage = cast("PyArrowFileIO", load_file_io(self._catalog.iceberg.properties, folder))
        scheme, netloc, path = storage.parse_location(folder)
        listed = storage.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, allow_not_found=True))
        names = (file.base_name for file in listed if file.base_name.endswith(".metadata.json"))
        return (f"{folder}/{name}" for name in sorted(names, reverse=True))  # they begin with a number of five digits

    def _folder(self, name: str) -> str:
        return f"{self._warehouse.settings.warehouse_uri}/{name.replace('.', '/')}"


def _taken_out(table: IcebergTable, found: Sequence[Damage], first: date) -> tuple[list[date], list[date]]:
    """Days of a table that lose rows with the files: those from ``first`` on are computed again, others can't be."""
    files = [damage.file for damage in found if damage.file]
    days = sorted(day for day in read_stamps(table) if any(low <= day <= high for _, low, high in files))
    return [day for day in days if day >= first], [day for day in days if day < first]


def _unreadable(name: str, table: IcebergTable, snapshot: Snapshot) -> Damage | None:
    """The first metadata file of a snapshot that can't be read."""
    path = snapshot.manifest_list
    try:
        _check_whole(table.io.new_input(path))
        for manifest in list(read_manifest_list(table.io.new_input(path))):
            path = manifest.manifest_path
            _check_whole(table.io.new_input(path))
            manifest.fetch_manifest_entry(table.io)
    except Exception as error:  # whatever reading a damaged file raises
        name_unserved(error, path)
        return Damage(name, path, _why(error))
    return None


def _check_whole(file: InputFile) -> None:
    """Fail where an Avro file does not end as its header says: PyIceberg reads on in memory, where an end may lie yet.

    Raises:
        ValueError: its end is missing.
    """
    with file.open() as source, AvroFile[Any](file) as opened:
        if not source.read().endswith(opened.header.sync):
            raise ValueError("its end is missing")


def _wrong_size(storage: FileSystem, path: str, file: DataFile) -> str:
    """Whether a data file is there and as long as it should be: why not, or nothing."""
    size = storage.get_file_info(path).size
    if size is None:
        return _MISSING
    return "" if size == file.file_size_in_bytes else f"has {size} bytes and should have {file.file_size_in_bytes}"


def _unreadable_rows(storage: FileSystem, path: str, file: DataFile) -> str:
    """Whether every page of a data file of the right size is as its checksum says: why not, or nothing."""
    if _wrong_size(storage, path, file):
        return ""
    try:
        with storage.open_input_file(path) as source:
            for _ in pq.ParquetFile(source, page_checksum_verification=True).iter_batches():
                pass
    except (OSError, pa.ArrowException) as error:
        name_unserved(error, path)
        return _why(error)
    return ""


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return _MISSING
    first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"is damaged ({first_line})"
