"""Reports: what people look at."""

import dagster as dg

from lakehouse_assets.assets.declaration import OWNERS
from lakehouse_assets.dashboard import TABLES, write_dashboard
from lakehouse_assets.lakehouse import Lakehouse

DASHBOARD = dg.AssetKey(["reports", "dashboard"])


def report_assets(lakehouse: Lakehouse) -> list[dg.AssetsDefinition]:
    """The report assets of a lakehouse."""

    @dg.asset(
        key=DASHBOARD,
        group_name="reports",
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

    return [dashboard]
