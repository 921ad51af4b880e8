"""How a declared table becomes a Dagster asset: partitions, lineage, kinds and descriptions come from the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from typing import Any

import dagster as dg

from lakehouse_assets.orchestration.io_manager import column_schema
from lakehouse_assets.tables import Table

OWNERS = ["team:data-platform"]
CODE_VERSION = version("lakehouse-assets")  # of what has no version of its own


def table_asset(
    table: Table, partitions: dg.DailyPartitionsDefinition, arguments: tuple[str, ...] | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorator: a function from the inputs' frames (in the order of ``table.inputs``) to the table's frame.

    To Dagster day D of a table follows from day D of its inputs, and the I/O manager reads the further days that the
    declaration names. If Dagster knew of those, a backfill of three days would compute every day that may follow from
    them, up to today, in a run for each table (docs/decisions/0010-days-of-a-backfill.md). For the same reason a table
    is no input of itself to Dagster: its function asks the I/O manager for its earlier days.

    Args:
        table: the declaration.
        partitions: the daily partitions.
        arguments: names of the function's parameters that take the other tables; default these tables' names.
    """
    inputs = [i for i in table.inputs if i.table != table.name]
    names = arguments or tuple(i.table.split(".")[1] for i in inputs)
    layer, short = table.name.split(".")
    return dg.asset(
        name=short,
        key_prefix=[layer],
        group_name=layer,
        description=_described(table),
        ins={name: dg.AssetIn(key=i.table.split(".")) for name, i in zip(names, inputs, strict=True)},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"pyspark", "iceberg", "parquet"},
        owners=OWNERS,
        tags={"layer": layer, "storage": "month" if table.by_month else "day"},
        code_version=str(table.version),
        metadata={"dagster/column_schema": column_schema(table), "dagster/table_name": table.name},
        io_manager_key="iceberg",
        # for what no input loads: delivered files, and a table's own earlier days
        required_resource_keys={"iceberg"} if table.reads_itself or not table.inputs else set(),
    )


def _described(table: Table) -> str:
    """A table's description, with what its lineage does not show: which days of other tables a day is computed from."""
    windows = [f"{i.table} {i.in_words}" for i in table.inputs if i.reads_other_days]
    return f"{table.description}\n\nA day is computed from {'; '.join(windows)}." if windows else table.description


def days_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> tuple[date, date]:
    """First and last day of the run."""
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)
