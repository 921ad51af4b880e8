"""Reports: what people look at."""

from typing import Any

import dagster as dg

from lakehouse_assets.assets.declaration import OWNERS
from lakehouse_assets.dashboard import TABLES, write_dashboard
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.profiles import PROFILED, write_profile

REPORTS_GROUP = "reports"
DASHBOARD = dg.AssetKey([REPORTS_GROUP, "dashboard"])
PROFILES = dg.AssetKey([REPORTS_GROUP, "profiles"])


def report_assets(lakehouse: Lakehouse) -> list[dg.AssetsDefinition]:
    """The report assets of a lakehouse."""

    @dg.asset(
        key=DASHBOARD,
        group_name=REPORTS_GROUP,
        deps=[dg.AssetKey(name.split(".")) for name in TABLES if name in lakehouse.tables],
        kinds={"html"},
        owners=OWNERS,
        description="One HTML page with the metrics, which needs no network; drawn from all days that are computed.",
    )
    def dashboard(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        page = write_dashboard(lakehouse.catalog, lakehouse.settings.dashboard_path)
        return dg.MaterializeResult(
            metadata={"page": dg.MetadataValue.path(page), "bytes": dg.MetadataValue.int(page.stat().st_size)}
        )

    profiled = [lakehouse.tables[name] for name in PROFILED if name in lakehouse.tables]

    @dg.asset(
        key=PROFILES,
        group_name=REPORTS_GROUP,
        deps=[dg.AssetKey(table.name.split(".")) for table in profiled],
        kinds={"html"},
        owners=OWNERS,
        description="Profiles of interactions and users by date, and what drifted since the ones before.",
    )
    def profiles(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        made = {
            table.name: write_profile(lakehouse.catalog, table, lakehouse.settings.profiles_path) for table in profiled
        }
        shown: dict[str, dg.MetadataValue[Any]] = {}
        for name, profile in made.items():
            shown[name] = dg.MetadataValue.path(profile.page)
            shown[f"{name} rows in the sample"] = dg.MetadataValue.int(profile.rows)
            if profile.drift:
                shown[f"{name} drift since {profile.against}"] = dg.MetadataValue.path(profile.drift)
        return dg.MaterializeResult(metadata=shown)

    return [dashboard, profiles]
