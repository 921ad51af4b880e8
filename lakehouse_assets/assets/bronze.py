"""Bronze: every delivered row as text, one partition per landing date."""

from datetime import UTC, datetime

import dagster as dg
from pyspark.sql import DataFrame

from lakehouse_assets.assets.declaration import days_of, table_asset
from lakehouse_assets.calendar import days_between
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.deliveries import read_deliveries
from lakehouse_assets.landing.files import DATASETS


def bronze_assets(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The bronze assets of a lakehouse."""

    def delivered(context: dg.AssetExecutionContext, dataset: str) -> DataFrame:
        zone = lakehouse.zone
        lakehouse.divide_again(context.log.info)
        context.resources.iceberg.note_base(context.run.run_id, f"bronze.{dataset}", *days_of(context))
        files = {
            day: [zone.inspect(dataset, file) for file in zone.files(dataset, day)]
            for day in days_between(*days_of(context))
        }
        context.log.info("%s: %s files", dataset, sum(len(found) for found in files.values()))
        return read_deliveries(
            lakehouse.engine,
            files,
            DATASETS[dataset],
            datetime.now(tz=UTC).replace(microsecond=0),
            lakehouse.settings.rows_per_file,
        )

    @table_asset(lakehouse.declared["bronze.interactions"], partitions)
    def interactions(context: dg.AssetExecutionContext) -> DataFrame:
        return delivered(context, "interactions")

    @table_asset(lakehouse.declared["bronze.users"], partitions)
    def users(context: dg.AssetExecutionContext) -> DataFrame:
        return delivered(context, "users")

    return [interactions, users]
