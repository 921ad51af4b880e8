"""Writing a table's data files without an engine."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.locations import load_location_provider


class DataFiles:
    """Makes files of a table; what they have in common is put together once."""

    def __init__(self, table: IcebergTable) -> None:
        metadata, schema = table.metadata, table.schema()
        self.io = table.io
        self.schema = pa.schema([_as_engines_have_it(field) for field in schema_to_pyarrow(schema)])
        self.locations = load_location_provider(metadata.location, metadata.properties)
        self._partitioned_by, self._spec_id, self._schema = metadata.spec(), metadata.default_spec_id, schema
        self._kept_statistics = compute_statistics_plan(schema, metadata.properties)
        self._field_ids = parquet_path_to_id_mapping(schema)

    def begin(self, name: str) -> DataFileWriter:
        """A new file."""
        return DataFileWriter(self, self.locations.new_data_location(name))

    def described(self, path: str, size: int, footer: pq.FileMetaData) -> DataFile:
        """What the commit needs to know of a finished file of so many bytes."""
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=footer, stats_columns=self._kept_statistics, parquet_column_mapping=self._field_ids
        )
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=statistics.partition(self._partitioned_by, self._schema),
            file_size_in_bytes=size,
            sort_order_id=None,
            spec_id=self._spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )


class DataFileWriter:
    """One data file, written in row groups; no reader sees it before a commit names it."""

    def __init__(self, files: DataFiles, path: str) -> None:
        self._files = files
        self._path = path
        self._buffered: list[pa.Table] = []
        self.buffered_bytes = 0
        self._stream: Any = files.io.new_output(path).create()
        # checksums as Spark's files have them: repair finds a damaged page by them
        self._parquet = pq.ParquetWriter(
            self._stream, files.schema, compression="zstd", write_page_checksum=True, store_schema=False
        )

    def add(self, rows: pa.Table) -> None:
        """Hold rows for the next row group."""
        self._buffered.append(rows)
        self.buffered_bytes += rows.nbytes

    def flush(self) -> None:
        """Write the held rows as a row group."""
        if self._buffered:
            self._parquet.write_table(pa.concat_tables(self._buffered).cast(self._files.schema))
        self._buffered, self.buffered_bytes = [], 0

    def finished(self) -> DataFile:
        """Close the file; returns what the commit needs to know of it."""
        self.flush()
        self._parquet.close()
        size = self._stream.tell()
        self._stream.close()
        return self._files.described(self._path, size, self._parquet.writer.metadata)

    def discard(self) -> None:
        """Delete the file."""
        for close in (self._parquet.close, self._stream.close):
            with suppress(Exception):  # of a file that is to go
                close()
        self._files.io.delete(self._path)


def _as_engines_have_it(field: pa.Field) -> pa.Field:
    """A field with the id that Iceberg's readers go by, of a text as Arrow's usual one: a file has both alike."""
    return field.with_type(pa.string()) if field.type == pa.large_string() else field
