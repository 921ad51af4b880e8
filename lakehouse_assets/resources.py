"""Dagster's resources of a lakehouse: its tables, the session that computes them, and the S3 store."""

import re
from functools import cache
from typing import Any

import dagster as dg
from dagster_pyspark import LazyPySparkResource
from pydantic import Field, PrivateAttr

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.admission import begin, check_days
from lakehouse_assets.orchestration.io_manager import IcebergIOManager
from lakehouse_assets.orchestration.runs import computes
from lakehouse_assets.orchestration.ui_metadata import UiMetadata
from lakehouse_assets.settings import SettingsError
from lakehouse_assets.storage.catalog import sqlite_file


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

    shown = cache(lambda: UiMetadata(lakehouse.catalog))  # one for all runs of a process

    class IcebergTables(dg.ConfigurableIOManagerFactory[IcebergIOManager]):
        """Reads and publishes the lakehouse's Iceberg tables, where the environment and lakehouse.toml say."""

        warehouse: str = Field(description="Where the tables are (LAKEHOUSE_WAREHOUSE).")
        landing: str = Field(description="Where files are delivered (LAKEHOUSE_LANDING).")
        catalog: str = Field(description="What knows the tables: a REST catalog (LAKEHOUSE_CATALOG_URI) or a file.")
        s3_endpoint: str = Field(description="The S3 store; empty for folders, and for AWS's own (S3_ENDPOINT).")
        _of_run: IcebergIOManager | None = PrivateAttr(None)

        def create_io_manager(self, context: dg.InitResourceContext) -> IcebergIOManager:
            for name, place in places.items():
                if getattr(self, name) != place:  # of a run's own configuration
                    raise SettingsError(f"the resource's {name} follows from the settings and can't be set for a run")
            if context.run and computes(context.run, lakehouse.tables):
                check_days(context.run, partitions)
                begin(lakehouse, context.run, context.instance, context.log)
            self._of_run = IcebergIOManager(lakehouse, shown())
            return self._of_run

        def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
            if self._of_run:
                self._of_run.end()

    IcebergTables.__qualname__ = IcebergTables.__name__  # the page shows it
    return IcebergTables(**places)


def resources(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> dict[str, Any]:
    """By name what an asset can ask for; the S3 store only where the lakehouse uses one.

    Keys of the store are in no resource: its client finds them where AWS's own does.
    """
    settings = lakehouse.settings
    found: dict[str, Any] = {
        "iceberg": iceberg_resource(lakehouse, partitions),
        "spark": spark_resource(lakehouse),
    }
    if any(on_s3(place) for place in (settings.warehouse_uri, settings.landing_uri)):
        from dagster_aws.s3 import S3Resource  # takes half a second

        found["s3"] = S3Resource(region_name=settings.s3_region, endpoint_url=settings.s3_endpoint or None)
    return found


def spark_resource(lakehouse: Lakehouse) -> LazyPySparkResource:
    """The session that computes the lakehouse's tables, started when it is first asked for."""

    class LakehouseSession(LazyPySparkResource):
        """The PySpark session of the lakehouse's engine: Sail, or Apache Spark."""

        spark_config: dict[str, Any] = Field({}, description="None: the session follows the lakehouse's settings.")

        def _init_session(self) -> None:
            self._spark_session = lakehouse.engine.session

    LakehouseSession.__qualname__ = LakehouseSession.__name__  # the page shows it
    return LakehouseSession(spark_config={})


def _without_user(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)
