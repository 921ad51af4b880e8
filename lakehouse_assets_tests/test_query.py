"""Asking tables whose files lie in a store: a scan reads what it asked for, whoever reads the same file beside it."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem, SubTreeFileSystem
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import PY_IO_IMPL, S3_REGION
from pyiceberg.table import Table as IcebergTable

from lakehouse_assets.storage import file_io, query
from lakehouse_assets.storage.catalog import live_files

ROWS = 3000


class SlowFile(io.FileIO):
    """Lets another thread run between any two calls, as a file of a store does."""

    def seek(self, offset: int, whence: int = 0) -> int:
        found = super().seek(offset, whence)
        time.sleep(0.003)
        return found

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.003)
        return super().read(size)


class SlowFiles(LocalFileSystem):
    def open(self, path: str, mode: str = "rb", **options: object) -> object:
        return SlowFile(path) if mode == "rb" else super().open(path, mode, **options)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IcebergTable:
    """A table in a slow store: numbers in two files of three row groups each."""
    store = SubTreeFileSystem(
        str(tmp_path), PyFileSystem(FSSpecHandler(SlowFiles(auto_mkdir=True, use_listings_cache=False)))
    )
    monkeypatch.setattr(file_io, "arrow_store", lambda region, endpoint: store)
    impl = f"{file_io.StoreFileIO.__module__}.{file_io.StoreFileIO.__name__}"
    catalog = SqlCatalog("slow", uri="sqlite://", warehouse="s3://bucket/w", **{PY_IO_IMPL: impl, S3_REGION: "here"})
    catalog.create_namespace("gold")
    numbers = pa.table({"n": pa.array(range(ROWS), pa.int64())})
    made = catalog.create_table("gold.numbers", numbers.schema, properties={"write.parquet.row-group-limit": "500"})
    for half in (numbers.slice(0, ROWS // 2), numbers.slice(ROWS // 2)):
        made.append(half)
    return made


def test_scans_of_one_dataset_in_three_threads_read_every_row(table: IcebergTable) -> None:
    dataset = query._dataset(table, live_files(table))

    def read(_: int) -> bool:
        return sorted(dataset.to_table().column("n").to_pylist()) == list(range(ROWS))

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(read, range(9)))


def test_a_query_that_scans_a_table_twice_at_once_counts_every_row(table: IcebergTable) -> None:
    connection = duckdb.connect()
    query.show(connection, "gold.numbers", table)
    twice = "SELECT count(*), sum(n) FROM (SELECT n FROM gold.numbers UNION ALL SELECT n FROM gold.numbers)"
    for _ in range(5):
        assert connection.execute(twice).fetchall() == [(2 * ROWS, 2 * sum(range(ROWS)))]


def test_scans_of_pyicebergs_own_in_three_threads_read_every_row(table: IcebergTable) -> None:
    def read(_: int) -> bool:
        return sorted(table.scan().to_arrow().column("n").to_pylist()) == list(range(ROWS))

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(read, range(6)))
