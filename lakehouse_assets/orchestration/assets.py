"""How declared tables become Dagster assets: partitions, lineage, kinds and descriptions come from the table."""

import inspect
from datetime import UTC, date, datetime
from importlib.metadata import version
from itertools import chain
from typing import Any, cast

import dagster as dg
from pyspark.sql import DataFrame

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.table import Function, Table, parameters
from lakehouse_assets.calendar import Days, days_between
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliveries import read_deliveries
from lakehouse_assets.orchestration.io_manager import column_schema

OWNERS = ["team:data-platform"]
CODE_VERSION = version("lakehouse-assets")  # of what has no version of its own


def table_assets(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """An asset for each table of a lakehouse."""
    return [_asset(lakehouse, table, partitions) for table in lakehouse.tables.values()]


def _asset(lakehouse: Lakehouse, table: Table, partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """A table as an asset.

    To Dagster day D of a table follows from day D of its inputs, and the I/O manager reads the further days that the
    declaration names. If Dagster knew of those, a backfill of three days would compute every day that may follow from
    them, up to today, in a run for each table (docs/decisions/0010-days-of-a-backfill.md). For the same reason a table
    is no input of itself to Dagster: its function gets its earlier days from the I/O manager.
    """
    taken = parameters(table.function)
    others = {name: dg.AssetKey(i.table.split(".")) for name, i in table.reads.items() if i.table != table.name}

    def compute(context: dg.AssetExecutionContext, **frames: Any) -> DataFrame:
        tables = context.resources.iceberg
        if table.landed:
            with tables.naming_trouble(context.run.run_id, table.name, context.retry_number):
                frames["delivered"] = _delivered(lakehouse, table, context)
        return cast("DataFrame", tables.rows(context, frames))

    layer, short = table.name.split(".")
    return dg.asset(
        name=short,
        key_prefix=[layer],
        group_name=layer,
        description=_described(table),
        ins={name: dg.AssetIn(key=key) for name, key in others.items() if name in taken},
        deps=[key for name, key in others.items() if name not in taken],  # its stamps vouch, its rows are not read
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"pyspark", "iceberg", "parquet"},
        owners=OWNERS,
        tags={"layer": layer, "storage": "month" if table.by_month else "day"},
        code_version=str(table.version),
        metadata={
            "dagster/column_schema": column_schema(table),
            "dagster/table_name": table.name,
            "dagster/code_references": _code_of(table.function),
        },
        io_manager_key="iceberg",
        # for what no input loads (delivered files, and a table's own earlier days), and for an engine that ends
        required_resource_keys={"iceberg"},
    )(compute)


def _delivered(lakehouse: Lakehouse, table: Table, context: dg.AssetExecutionContext) -> DataFrame:
    """The rows of the files of some landing dates."""
    zone, days = lakehouse.zone, days_of_step(context)
    lakehouse.divide_again(context.log.info)
    context.resources.iceberg.note_base(context.run.run_id, table.name, *days)
    delivered = {day: zone.files(table.landed, day) for day in days_between(*days)}
    zone.inspect_all(table.landed, chain.from_iterable(delivered.values()))
    files = {day: [zone.inspect(table.landed, file) for file in found] for day, found in delivered.items()}
    context.log.info("%s: %s files", table.landed, sum(len(found) for found in files.values()))
    now = datetime.now(tz=UTC).replace(microsecond=0)
    return read_deliveries(lakehouse.engine, files, DATASETS[table.landed], now, lakehouse.settings.rows_per_file)


def _described(table: Table) -> str:
    """A table's description, with what its lineage does not show: which days of other tables a day is computed from."""
    windows = [f"{i.table} {i.in_words}" for i in table.inputs if i.reads_other_days]
    return f"{table.description}\n\nA day is computed from {'; '.join(windows)}." if windows else table.description


def _code_of(function: Function) -> dg.CodeReferencesMetadataValue:
    """The place of a table's file."""
    file, line = inspect.getsourcefile(function) or "", inspect.unwrap(function).__code__.co_firstlineno
    return dg.CodeReferencesMetadataValue(code_references=[dg.LocalFileCodeReference(file_path=file, line_number=line)])


def days_of_step(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Days:
    """First and last day of the run."""
    keys = context.partition_key_range
    return Days(date.fromisoformat(keys.start), date.fromisoformat(keys.end))
