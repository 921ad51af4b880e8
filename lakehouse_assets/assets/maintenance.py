"""Maintenance: old days dropped, files and snapshots kept few; what each run did shows per table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from lakehouse_assets.assets.declaration import OWNERS
from lakehouse_assets.io.maintenance import Dropping, Freed
from lakehouse_assets.lakehouse import Lakehouse

MAINTENANCE_GROUP = "maintenance"


def maintenance_assets(lakehouse: Lakehouse) -> list[dg.AssetsDefinition]:
    """The maintenance assets of a lakehouse; they have no partitions and store nothing of their own."""
    common: dict[str, Any] = {
        "key_prefix": [MAINTENANCE_GROUP],
        "group_name": MAINTENANCE_GROUP,
        "kinds": {"pyspark", "iceberg"},
        "owners": OWNERS,
        "io_manager_key": "iceberg",
    }

    @dg.asset(**common, description="Days older than LAKEHOUSE_RETENTION_DAYS, dropped from every table; unset, none.")
    def retention(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        days = lakehouse.settings.retention_days
        plan = lakehouse.maintenance.plan_cleanup(days) if days else []
        for dropping in plan:
            lakehouse.maintenance.drop(dropping)
            context.log.info("%s", dropping)
        return _shown(plan)

    @dg.asset(
        **common,
        deps=[retention],
        description="Small files put together, old snapshots expired, files of killed runs removed, table by table.",
    )
    def storage(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        freed = []
        for name in lakehouse.maintenance.tables():
            freed.append(lakehouse.maintenance.maintain(name))
            context.log.info("%s", freed[-1])
        return _shown(freed)

    return [retention, storage]


def _shown(done: Sequence[Freed] | Sequence[Dropping]) -> dg.MaterializeResult:
    """A row per table, and the sum of each number, which Dagster plots over time."""
    rows = [
        {key: value if isinstance(value, int) else str(value) for key, value in asdict(one).items()} for one in done
    ]
    sums: dict[str, int] = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(value, int) and key != "kept_days":
                sums[key] = sums.get(key, 0) + value
    columns = [
        dg.TableColumn(key, "int" if isinstance(value, int) else "string")
        for row in rows[:1]
        for key, value in row.items()
    ]
    table = dg.TableMetadataValue([dg.TableRecord(row) for row in rows], dg.TableSchema(columns))
    return dg.MaterializeResult(metadata={"tables": table, **sums})
