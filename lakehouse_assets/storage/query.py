"""Queries and exports without Spark: DuckDB over the live files of the Iceberg tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import cast

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.storage.catalog import Catalog, live_files
from lakehouse_assets.storage.coverage import COVERAGE, SOURCES, cover

# the answer to `show tables`: names that a query can use
TABLES = (
    "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables "
    "WHERE table_schema <> 'main' ORDER BY name"
)


class QueryError(LakehouseError):
    """A query or an export that fails; the message says why."""


def connect(catalog: Catalog, names: Iterable[str] | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with a view per table, all or those named; it can read nothing else and change nothing.

    With the tables that it follows from there is the view `COVERAGE` too: which figures do not cover their period.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    shown = catalog.names() if names is None else list(names)
    for name in shown:
        show(connection, name, catalog.iceberg.load_table(name))
    if names is None or set(SOURCES) <= set(shown):
        cover(connection, catalog)
    return connection


def days_not_over(catalog: Catalog) -> set[date]:
    """The computed days that were not over when they were last read."""
    connection = connect(catalog, [name for name in SOURCES if catalog.load(name)])
    cover(connection, catalog)
    return {row[0] for row in connection.execute(f"SELECT date FROM {COVERAGE} WHERE NOT is_over").fetchall()}  # noqa: S608


def show(
    connection: duckdb.DuckDBPyConnection, name: str, table: IcebergTable, files: Sequence[DataFile] | None = None
) -> None:
    """Let a connection see rows of a loaded table under ``layer.table``, in place of what it saw there.

    Args:
        connection: the connection.
        name: ``layer.table``.
        table: the table.
        files: those with the rows; default the table's live files.
    """
    schema, view = name.split(".")
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    connection.register(f"{schema}__{view}", _dataset(table, live_files(table) if files is None else files))
    connection.execute(f'CREATE OR REPLACE VIEW "{schema}"."{view}" AS SELECT * FROM "{schema}__{view}"')  # noqa: S608  our own names


def export(catalog: Catalog, name: str, target: Path, file_format: str, first: date | None, last: date | None) -> int:
    """Write a table's rows to a file, in order; returns how many. Instants are written in UTC.

    In CSV a text that a spreadsheet would run as a formula is given a leading apostrophe.

    Raises:
        QueryError: there is no such table, or the file can't be written.
    """
    if name not in catalog.names():
        there_are = ", ".join(catalog.names()) or f"none yet in {catalog.settings.home_path}"
        raise QueryError(f"there is no table {name!r}; there are {there_are}")
    if first and last and last < first:
        raise QueryError(f"--end {last} is before --start {first}")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    table = catalog.iceberg.load_table(name)
    connection.register("rows", _dataset(table, live_files(table)))
    relation = connection.table("rows")
    column = table.schema().find_column_name(table.spec().fields[0].source_id)
    columns = [
        _exported(other, str(kind), file_format) for other, kind in zip(relation.columns, relation.types, strict=True)
    ]
    relation = relation.order(", ".join(f'"{c}"' for c in [column, *relation.columns])).project(", ".join(columns))
    for bound, sign in ((first, ">="), (last, "<=")):
        if bound:
            relation = relation.filter(f"\"{column}\" {sign} DATE '{bound.isoformat()}'")
    rows = relation.aggregate("count(*)").fetchall()[0][0]
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        if file_format == "csv":
            relation.write_csv(str(temporary))
        elif file_format == "parquet":
            relation.write_parquet(str(temporary))
        else:
            with temporary.open("w", encoding="utf-8") as sink:
                for batch in relation.to_arrow_reader(65_536):
                    sink.writelines(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())
        temporary.replace(target)
    except (OSError, duckdb.Error) as error:
        raise QueryError(f"{target} can't be written ({error})") from None
    finally:
        temporary.unlink(missing_ok=True)
    return int(rows)


def overview(catalog: Catalog) -> Sequence[tuple[str, int, int, int, str, str]]:
    """Name, rows, files, bytes, first and last stamped day of every table."""
    found = []
    for name in catalog.names():
        table = catalog.load(name)
        files = live_files(table) if table else ()
        days = catalog.stamps(name)
        found.append(
            (
                name,
                sum(file.record_count for file in files),
                len(files),
                sum(file.file_size_in_bytes for file in files),
                str(min(days, default="")),
                str(max(days, default="")),
            )
        )
    return found


def _dataset(table: IcebergTable, data: Sequence[DataFile]) -> ds.Dataset:
    schema = pa.schema([field.remove_metadata() for field in schema_to_pyarrow(table.schema())])
    paths = [file.file_path for file in data]
    if not paths:
        return ds.dataset(schema.empty_table())
    storage = cast("PyArrowFileIO", table.io)
    scheme, netloc, _ = storage.parse_location(paths[0])
    files = [storage.parse_location(path)[2] for path in paths]
    # from paths and not from open files: each scan opens its own, as those that share one read each other's bytes
    return ds.dataset(files, schema=schema, format="parquet", filesystem=storage.fs_by_scheme(scheme, netloc))


def _exported(column: str, kind: str, file_format: str) -> str:
    quoted = f'"{column}"'
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"{quoted}::TIMESTAMP AS {quoted}"
    if kind == "VARCHAR" and file_format == "csv":
        formula = f"regexp_matches({quoted}, '^[=+@\\t\\r\\n-]')"
        return f"CASE WHEN {formula} THEN '''' || {quoted} ELSE {quoted} END AS {quoted}"
    return quoted
