"""Taking users' rows out of tables, and out of everything that earlier snapshots and stagings have left of them.

No engine computes here: a file that holds such rows is written again without them, and one commit swaps it in, together
with the stamps of the days. Then every other snapshot is expired and what no snapshot names is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileType
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table as IcebergTable

from lakehouse_assets.people import People
from lakehouse_assets.storage.catalog import Catalog, head_of, set_stamps
from lakehouse_assets.storage.data_files import DataFiles, DataFileWriter

USER, AS_DELIVERED = "user_id", "malformed_row"
_ATTEMPTS = 20
_PROPERTIES = {"lakehouse.forget": "true"}


def of_users(table: IcebergTable) -> bool:
    """Whether the rows of a table belong to single users."""
    return USER in table.schema().column_names


def erase(catalog: Catalog, name: str, people: People, stamps: Mapping[date, str]) -> int:
    """Remove the users' rows from a table and record its days' stamps in one commit; returns how many rows.

    Raises:
        CommitFailedException: other commits came first every time.
    """
    for attempt in range(_ATTEMPTS):
        table = catalog.iceberg.load_table(name)
        gone = 0
        replaced: list[DataFile] = []
        writers: list[DataFileWriter] = []
        try:
            for file in _files(table) if of_users(table) else ():
                if theirs := _rows_of(table, file, people):
                    gone += theirs
                    replaced.append(file)
                    if theirs < file.record_count:
                        writers.append(_rest(table, file, people, f"forget-{head_of(table)}-{attempt}-{len(writers)}"))
            if not replaced and not stamps:
                return 0
            added = [writer.finished() for writer in writers]
            transaction = table.transaction()
            if stamps:
                set_stamps(transaction, table, stamps, stamps)
            if replaced:
                overwrite = transaction.update_snapshot(snapshot_properties=_PROPERTIES).overwrite()
                for file in replaced:
                    overwrite.delete_data_file(file)
                for new in added:
                    overwrite.append_data_file(new)
                overwrite.commit()
            transaction.commit_transaction()
        except (CommitFailedException, ValidationException):  # both say that nothing was committed
            for writer in writers:
                writer.discard()
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return gone
    return 0


def purge(catalog: Catalog, name: str) -> int:
    """Reduce a table to its current snapshot: no branch, no earlier snapshot, no file that it does not name.

    Returns:
        How many files are gone.
    """
    table = catalog.iceberg.load_table(name)
    for branch in [ref for ref in table.refs() if ref != "main"]:
        catalog.remove_branch(name, branch)
    catalog.alter(name, _step_on)

    def expire(table: IcebergTable) -> None:
        current = head_of(table)
        earlier = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != current]
        if earlier:
            table.maintenance.expire_snapshots().by_ids(earlier).commit()

    catalog.alter(name, expire)
    return _sweep(catalog.iceberg.load_table(name))


def deleted_entries(table: IcebergTable) -> int:
    """Entries of files that are gone which the current snapshot still carries, with the bounds of their values."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    return sum(
        entry.status == ManifestEntryStatus.DELETED
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    )


def _step_on(table: IcebergTable) -> None:
    """A snapshot with the same rows: the one before it lists what it took out, with the bounds of its values."""
    with table.transaction() as transaction, transaction.update_snapshot(_PROPERTIES).fast_append():
        pass


def _files(table: IcebergTable) -> Sequence[DataFile]:
    return [task.file for task in table.scan().plan_files()]


@contextmanager
def _opened(table: IcebergTable, file: DataFile) -> Iterator[pq.ParquetFile]:
    with table.io.new_input(file.file_path).open() as stream:
        yield pq.ParquetFile(cast("pa.NativeFile", stream))


def _rows_of(table: IcebergTable, file: DataFile, people: People) -> int:
    with _opened(table, file) as parquet:
        columns = [name for name in (USER, AS_DELIVERED) if name in parquet.schema_arrow.names]
        batches = parquet.iter_batches(columns=columns)
        return sum(pc.sum(_theirs(batch, people)).as_py() or 0 for batch in map(_as_table, batches))


def _as_table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _theirs(rows: pa.Table, people: People) -> pa.ChunkedArray:
    """Which rows are the users': by their user_id, or as delivered where nobody could tell whose they are."""
    theirs = people.are(rows[USER])
    if AS_DELIVERED not in rows.column_names:
        return theirs
    texts = rows[AS_DELIVERED]
    named = np.zeros(len(rows), bool)
    for at in np.flatnonzero(people.may_be_in(texts).to_numpy()).tolist():
        named[at] = people.named_in(texts[at].as_py())
    return pc.or_(theirs, pa.chunked_array([pa.array(named)]))


def _rest(table: IcebergTable, file: DataFile, people: People, name: str) -> DataFileWriter:
    """A file without the users' rows, in the order and the row groups that it has."""
    writer = DataFiles(table).begin(f"{name}.parquet")
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    with _opened(table, file) as parquet:
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group)
            rows = rows.filter(pc.invert(_theirs(rows, people)))
            there = set(rows.column_names)
            columns = [
                rows[field.name].cast(field.type) if field.name in there else pa.nulls(len(rows), field.type)
                for field in schema
            ]
            if len(rows):
                writer.add(pa.table(columns, schema=schema))
                writer.flush()
    return writer


def _sweep(table: IcebergTable) -> int:
    """Delete data files, manifests and their lists that the current snapshot does not name; how many."""
    storage = cast("PyArrowFileIO", table.io)
    snapshot = table.current_snapshot()
    named = [file.file_path for file in _files(table)]
    if snapshot:
        named += [snapshot.manifest_list, *(one.manifest_path for one in snapshot.manifests(table.io))]
    live = {storage.parse_location(path)[2] for path in named}
    scheme, netloc, folder = storage.parse_location(table.location())
    files = storage.fs_by_scheme(scheme, netloc)
    swept = 0
    for found in files.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True)):
        # metadata files name snapshots and stamps, no values
        if found.type == FileType.File and found.path not in live and not found.path.endswith((".json", ".text")):
            files.delete_file(found.path)
            swept += 1
    return swept
