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


class DataFileWriter:
    """One data file, written in row groups; no reader sees it before a commit names it."""

    def __init__(self, table: IcebergTable, name: str) -> None:
        metadata = table.metadata
        self._table = table
        self._path = load_location_provider(metadata.location, metadata.properties).new_data_location(name)
        self._schema = schema_to_pyarrow(table.schema())  # with the field ids that Iceberg's readers go by
        self._buffered: list[pa.Table] = []
        self.buffered_bytes = 0
        self._stream: Any = table.io.new_output(self._path).create()
        # checksums as Spark's files have them: repair finds a damaged page by them
        self._parquet = pq.ParquetWriter(
            self._stream, self._schema, compression="zstd", write_page_checksum=True, store_schema=False
        )

    def add(self, rows: pa.Table) -> None:
        """Hold rows for the next row group."""
        self._buffered.append(rows.cast(self._schema))
        self.buffered_bytes += rows.nbytes

    def flush(self) -> None:
        """Write the held rows as a row group."""
        if self._buffered:
            self._parquet.write_table(pa.concat_tables(self._buffered))
        self._buffered, self.buffered_bytes = [], 0

    def finished(self) -> DataFile:
        """Close the file; returns what the commit needs to know of it."""
        self.flush()
        self._parquet.close()
        self._stream.close()
        metadata, schema = self._table.metadata, self._table.schema()
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=self._parquet.writer.metadata,
            stats_columns=compute_statistics_plan(schema, metadata.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self._path,
            file_format=FileFormat.PARQUET,
            partition=statistics.partition(metadata.spec(), schema),
            file_size_in_bytes=len(self._table.io.new_input(self._path)),
            sort_order_id=None,
            spec_id=metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def discard(self) -> None:
        """Delete the file."""
        for close in (self._parquet.close, self._stream.close):
            with suppress(Exception):  # of a file that is to go
                close()
        self._table.io.delete(self._path)
