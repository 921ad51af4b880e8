"""The one Definitions object: what Dagster loads."""

from __future__ import annotations

import gc
import warnings
from functools import partial

if gc.get_threshold()[0] < 100_000:
    # the processes of Dagster import this first: at the default of 700, looking for garbage is a seventh of importing
    gc.set_threshold(100_000)

import dagster as dg

from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.assets import table_assets
from lakehouse_assets.orchestration.checks import asset_checks
from lakehouse_assets.orchestration.jobs import (
    daily_partitions,
    dashboard_job,
    freshness_policy,
    lakehouse_job,
    maintenance_schedule,
    profiles_schedule,
)
from lakehouse_assets.orchestration.maintenance_assets import maintenance_job, maintenance_specs
from lakehouse_assets.orchestration.report_assets import dashboard_asset, profiles_job, profiles_spec
from lakehouse_assets.orchestration.sensors import dashboard_sensor, day_end_schedule, failure_sensor, landing_sensor
from lakehouse_assets.resources import resources


def build_definitions(lakehouse: Lakehouse) -> dg.Definitions:
    """Assets, checks, jobs, schedules and resources of one lakehouse."""
    with warnings.catch_warnings():
        # single-run backfills and partitioned checks are what this project stands on, beta or not: pinned and tested
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return _build(lakehouse)


def _build(lakehouse: Lakehouse) -> dg.Definitions:
    settings, partitions = lakehouse.settings, daily_partitions(lakehouse.settings)
    daily = partial(dg.apply_freshness_policy, policy=freshness_policy(settings))
    tables = [  # users are delivered whenever they are
        asset if lakehouse.tables[".".join(asset.key.path)].calendar == "users" else asset.map_asset_specs(daily)
        for asset in table_assets(lakehouse, partitions)
    ]
    return dg.Definitions(
        assets=[
            *tables,
            *dg.with_source_code_references([dashboard_asset(lakehouse)]),
            profiles_spec(lakehouse),
            *maintenance_specs(),
        ],
        asset_checks=asset_checks(lakehouse, partitions),
        jobs=[lakehouse_job(settings), dashboard_job(), maintenance_job(lakehouse), profiles_job(lakehouse)],
        sensors=[
            landing_sensor(lakehouse),
            dashboard_sensor(lakehouse),
            *([failure_sensor(lakehouse)] if settings.webhook_url else []),
        ],
        schedules=[day_end_schedule(lakehouse), maintenance_schedule(), profiles_schedule()],
        resources=resources(lakehouse, partitions),
        # one JVM a run: an executor with a process per step would start Spark for every table and check
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The lakehouse that the environment describes."""
    return build_definitions(Lakehouse())
