"""The lakehouse's tables as a resource of Dagster's: what its page of resources shows."""

import re
from collections.abc import Collection

import dagster as dg
from pydantic import Field

from lakehouse_assets.calendar import span_in_words
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.orchestration.io_manager import IcebergIOManager
from lakehouse_assets.orchestration.jobs import RUNS_OF_TABLES
from lakehouse_assets.settings import SettingsError
from lakehouse_assets.storage.catalog import sqlite_file


class NoSuchDays(LakehouseError):
    """A run for days that there are no partitions for, or for none; the message names those there are."""


def iceberg_resource(
    lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition
) -> dg.ConfigurableIOManagerFactory[IcebergIOManager]:
    """The I/O manager of a lakehouse, with where everything is; addresses are shown without user and password.

    Every run of a table makes it first, so it refuses what Dagster's own page can't ask for, and its API can.
    """
    settings = lakehouse.settings
    places = {
        "warehouse": settings.warehouse_uri,
        "landing": settings.landing_uri,
        "catalog": _without_user(settings.catalog_uri) or str(sqlite_file(settings)),
        "s3_endpoint": _without_user(settings.s3_endpoint),
    }

    class IcebergTables(dg.ConfigurableIOManagerFactory[IcebergIOManager]):
        """Reads and publishes the lakehouse's Iceberg tables, where the environment and lakehouse.toml say."""

        warehouse: str = Field(description="Where the tables are (LAKEHOUSE_WAREHOUSE).")
        landing: str = Field(description="Where files are delivered (LAKEHOUSE_LANDING).")
        catalog: str = Field(description="What knows the tables: a REST catalog (LAKEHOUSE_CATALOG_URI) or a file.")
        s3_endpoint: str = Field(description="The S3 store; empty for folders, and for AWS's own (S3_ENDPOINT).")

        def create_io_manager(self, context: dg.InitResourceContext) -> IcebergIOManager:
            for name, place in places.items():
                if getattr(self, name) != place:  # of a run's own configuration
                    raise SettingsError(f"the resource's {name} follows from the settings and can't be set for a run")
            if context.run and _computes(context.run, lakehouse.tables):
                check_days(context.run, partitions)
            return IcebergIOManager(lakehouse)

    IcebergTables.__qualname__ = IcebergTables.__name__  # the page shows it
    return IcebergTables(**places)


def check_days(run: dg.DagsterRun, partitions: dg.DailyPartitionsDefinition) -> None:
    """Refuse a run for days without a partition, or for none.

    Raises:
        NoSuchDays: says which days there are.
    """
    first, last = days_of_run(run)
    earliest, latest = partitions.get_first_partition_key(), partitions.get_last_partition_key()
    there_are = f"{earliest} … {latest} (today in UTC)"
    if not first or not last:
        raise NoSuchDays(f"the run names no days, and tables are computed by day; choose some of {there_are}")
    if not (partitions.has_partition_key(first) and partitions.has_partition_key(last) and first <= last):
        raise NoSuchDays(f"{span_in_words(first, last)} is not within the days that can be computed, {there_are}")


def _computes(run: dg.DagsterRun, tables: Collection[str]) -> bool:
    """Whether a run computes some of the tables; others judge them, draw the dashboard or make assets of their own."""
    if run.asset_selection:
        return any(".".join(key.path) in tables for key in run.asset_selection)
    return run.job_name in RUNS_OF_TABLES and not run.asset_check_selection


def _without_user(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)
