"""Which engine computes."""

from __future__ import annotations

from functools import partial

from lakehouse_assets.engines.engine import Engine
from lakehouse_assets.engines.sail import SailEngine, start_sail
from lakehouse_assets.engines.spark import SparkEngine, start_spark
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import Catalog


def chosen_engine(settings: Settings, catalog: Catalog) -> Engine:
    """The engine that the settings name; its session starts when it is first needed."""
    if settings.engine == "sail":
        return SailEngine(settings, partial(start_sail, settings))
    return spark_engine(settings, catalog)


def spark_engine(settings: Settings, catalog: Catalog) -> SparkEngine:
    """Spark, whatever the settings name: Iceberg's procedures are Spark's alone. A process has Sail or Spark."""
    return SparkEngine(settings, catalog, partial(start_spark, settings))
