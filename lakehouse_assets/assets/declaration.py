"""How a declared table becomes a Dagster asset: partitions, lineage, kinds and descriptions come from the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg

from lakehouse_assets.io.iceberg_io_manager import column_schema
from lakehouse_assets.tables import Input, Table

OWNERS = ["team:data-platform"]


def table_asset(
    table: Table, partitions: dg.DailyPartitionsDefinition, arguments: tuple[str, ...] | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorator: a function from the inputs' frames (in the order of ``table.inputs``) to the table's frame.

    Args:
        table: the declaration.
        partitions: the daily partitions.
        arguments: names of the function's parameters that take the inputs; default the inputs' table names.
    """
    names = arguments or tuple(i.table.split(".")[1] for i in table.inputs)
    layer, short = table.name.split(".")
    return dg.asset(
        name=short,
        key_prefix=[layer],
        group_name=layer,
        description=table.description,
        ins={
            name: dg.AssetIn(key=i.table.split("."), partition_mapping=_mapping(i))
            for name, i in zip(names, table.inputs, strict=True)
        },
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"pyspark", "iceberg", "parquet"},
        owners=OWNERS,
        tags={"layer": layer, "storage": "month" if table.by_month else "day"},
        code_version=str(table.version),
        metadata={"dagster/column_schema": column_schema(table), "dagster/table_name": table.name},
        io_manager_key="iceberg",
        required_resource_keys=set() if table.inputs else {"iceberg"},  # to note the table before files are read
    )


def _mapping(i: Input) -> dg.TimeWindowPartitionMapping:
    return dg.TimeWindowPartitionMapping(
        start_offset=i.first_offset, end_offset=i.last_offset, allow_nonexistent_upstream_partitions=True
    )


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> tuple[date, date]:
    """First and last day of the run."""
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)
