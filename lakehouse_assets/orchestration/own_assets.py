"""Plain assets of Dagster's beside the declared tables: they read and store through the same I/O manager.

A table is read as what the asset's argument is annotated with: a Spark frame, a PyArrow table or a DuckDB relation.
Any of these is stored as an Iceberg table under the asset's key; nothing but its columns is checked.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import ALWAYS_TRUE
from pyiceberg.table import Table as IcebergTable
from pyspark.sql import DataFrame

from lakehouse_assets.calendar import Days
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.storage.query import connect

DAY_COLUMN = "partition_expr"  # metadata of an asset, as other I/O managers name it: the column its partitions go by
_TYPES = "pyspark.sql.DataFrame, pyarrow.Table or duckdb.DuckDBPyRelation"


class OwnAssetError(LakehouseError):
    """An asset asks for what the I/O manager can't give or store; the message says what to write instead."""


def read_table(lakehouse: Lakehouse, name: str, days: Days | None, wanted: Any) -> Any:
    """The rows of a table as an asset asks for them.

    Args:
        lakehouse: whose tables are read.
        name: ``namespace.name``, of a declared table or of one that an asset has stored.
        days: the days to read of a declared table; default all. Of another table all rows are read.
        wanted: the type that the asset's argument is annotated with; a Spark frame where it is not.

    Raises:
        OwnAssetError: there is no such table, or it can't be had as that type.
    """
    table = lakehouse.catalog.load(name)
    if table is None:
        raise OwnAssetError(f"there is no table {name} yet; materialize it first")
    declared = lakehouse.declared.get(name)
    within = _within(declared.partition_column, days) if declared and days else ALWAYS_TRUE
    if wanted is duckdb.DuckDBPyRelation:
        relation = connect(lakehouse.catalog, [name]).table(name)
        if declared and days:
            relation = relation.filter(_within(declared.partition_column, days))
        return relation
    if wanted is pa.Table:
        return table.scan(row_filter=within).to_arrow()
    if wanted in (DataFrame, Any, None):
        files = [task.file for task in table.scan(row_filter=within).plan_files()]
        if not files:
            return lakehouse.engine.session.createDataFrame(table.scan(limit=0).to_arrow())
        frame = lakehouse.engine.read(table, files)
        if declared and days:
            frame = frame.where(_within(declared.partition_column, days))
        return frame
    raise OwnAssetError(
        f"{name} can't be read as {getattr(wanted, '__name__', wanted)}; annotate the argument with {_TYPES}"
    )


def store(lakehouse: Lakehouse, name: str, rows: object, days: Days | None, day_column: str | None) -> IcebergTable:
    """Replace the rows of a table that is not declared, all of them or those of some days; make it if it is missing.

    Args:
        lakehouse: whose catalog and warehouse hold the table.
        name: ``namespace.name``.
        rows: a Spark frame, a PyArrow table or a DuckDB relation; held in memory.
        days: the days replaced; default all rows.
        day_column: the column of the days.

    Raises:
        OwnAssetError: the name, the rows or the column can't be used.
    """
    namespace, _, short = name.partition(".")
    if not short or "." in short:
        raise OwnAssetError(f"the asset {name} can't be stored as a table; give it a key of two parts")
    if isinstance(rows, DataFrame):
        rows = rows.toArrow()
    elif isinstance(rows, duckdb.DuckDBPyRelation):
        rows = rows.to_arrow_table()
    if not isinstance(rows, pa.Table):
        raise OwnAssetError(f"{name} can't store {type(rows).__name__}; return {_TYPES}")
    if days and (not day_column or day_column not in rows.column_names):
        raise OwnAssetError(f'{name} has partitions; name their column in its metadata: {{"{DAY_COLUMN}": "date"}}')
    catalog = lakehouse.catalog.iceberg
    catalog.create_namespace_if_not_exists(namespace)
    catalog.create_table_if_not_exists(name, rows.schema)
    replaced = _within(day_column, days) if days and day_column else ALWAYS_TRUE

    def replace(table: IcebergTable) -> IcebergTable:
        with table.transaction() as transaction:
            with transaction.update_schema() as update:
                update.union_by_name(rows.schema)
            transaction.overwrite(rows, replaced)
        return table

    return lakehouse.catalog.alter(name, replace)


def _within(column: str, days: Days) -> str:
    return f"{column} >= '{days.first.isoformat()}' and {column} <= '{days.last.isoformat()}'"
