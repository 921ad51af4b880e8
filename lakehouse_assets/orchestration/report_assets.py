"""Assets of dashboard and profiles.

The profiles are shown in the graph and made by a job's own step: they take a package of 0.4 GB that may not be there,
and "Materialize all" takes every asset that can be materialized.
"""

from typing import Any

import dagster as dg

from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.assets import CODE_VERSION, OWNERS
from lakehouse_assets.reports.dashboard import write_dashboard
from lakehouse_assets.reports.profiles import PROFILED, write_profile

REPORTS_GROUP = "reports"
DASHBOARD = dg.AssetKey([REPORTS_GROUP, "dashboard"])
PROFILES = dg.AssetKey([REPORTS_GROUP, "profiles"])
PROFILES_JOB = "profiles"


def dashboard_asset(lakehouse: Lakehouse) -> dg.AssetsDefinition:
    """The page that people look at."""

    @dg.asset(
        key=DASHBOARD,
        group_name=REPORTS_GROUP,
        deps=[dg.AssetKey(name.split(".")) for name, table in lakehouse.tables.items() if table.charts or table.cards],
        kinds={"html"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        description="One HTML page with the metrics, which needs no network; drawn from all days that are computed.",
    )
    def dashboard(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        page = write_dashboard(lakehouse.catalog, lakehouse.declared, lakehouse.settings.dashboard_path)
        return dg.MaterializeResult(
            metadata={"page": dg.MetadataValue.path(page), "bytes": dg.MetadataValue.int(page.stat().st_size)}
        )

    return dashboard


def profiles_spec(lakehouse: Lakehouse) -> dg.AssetSpec:
    """The profiles as an asset."""
    return dg.AssetSpec(
        PROFILES,
        group_name=REPORTS_GROUP,
        deps=[dg.AssetKey(name.split(".")) for name in PROFILED if name in lakehouse.tables],
        kinds={"html"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        description="Profiles of interactions and users by date, and what drifted since the ones before. "
        "The job `profiles` makes them.",
    )


def profiles_job(lakehouse: Lakehouse) -> dg.JobDefinition:
    """The profiles of interactions and users."""

    @dg.op(out=dg.Out(dg.Nothing))
    def profile(context: dg.OpExecutionContext) -> None:
        tables = [lakehouse.tables[name] for name in PROFILED if name in lakehouse.tables]
        made = {
            table.name: write_profile(lakehouse.catalog, table, lakehouse.settings.profiles_path) for table in tables
        }
        shown: dict[str, dg.MetadataValue[Any]] = {}
        for name, one in made.items():
            shown[name] = dg.MetadataValue.path(one.page)
            shown[f"{name} rows in the sample"] = dg.MetadataValue.int(one.rows)
            if one.drift:
                shown[f"{name} drift since {one.against}"] = dg.MetadataValue.path(one.drift)
        context.log_event(dg.AssetMaterialization(PROFILES, metadata=shown))

    @dg.job(
        name=PROFILES_JOB, description="Profiles interactions and users, and compares them with the profiles before."
    )
    def profiles() -> None:
        profile()

    return profiles
