"""Maintenance: old days dropped, files and snapshots kept few; what each run did shows per table.

Its assets are shown in the graph and made by a job's own steps, so that "Materialize all", which takes every asset that
can be materialized, computes tables and maintains none.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.assets import CODE_VERSION, OWNERS
from lakehouse_assets.storage.maintenance import Dropping, Freed

MAINTENANCE_JOB = "maintenance"
RETENTION, STORAGE = (dg.AssetKey([MAINTENANCE_JOB, name]) for name in ("retention", "storage"))


def maintenance_specs() -> list[dg.AssetSpec]:
    """What the maintenance job does, as assets that have no partitions and store nothing of their own."""
    common: dict[str, Any] = {
        "group_name": MAINTENANCE_JOB,
        "kinds": {"pyspark", "iceberg"},
        "owners": OWNERS,
        "code_version": CODE_VERSION,
    }
    return [
        dg.AssetSpec(
            RETENTION,
            description="Drops days older than LAKEHOUSE_RETENTION_DAYS from every table; none if it is not set. "
            "The job `maintenance` does it.",
            **common,
        ),
        dg.AssetSpec(
            STORAGE,
            deps=[RETENTION],
            description="Compacts small files, expires old snapshots and removes files of killed runs, table by "
            "table. The job `maintenance` does it.",
            **common,
        ),
    ]


def maintenance_job(lakehouse: Lakehouse) -> dg.JobDefinition:
    """Old days dropped, then every table maintained."""

    @dg.op(out=dg.Out(dg.Nothing))
    def retention(context: dg.OpExecutionContext) -> None:
        days = lakehouse.settings.retention_days
        plan = lakehouse.maintenance.plan_cleanup(days) if days else []
        for dropping in plan:
            lakehouse.maintenance.drop(dropping)
            context.log.info("%s", dropping)
        context.log_event(dg.AssetMaterialization(RETENTION, metadata=_shown(plan)))

    @dg.op(ins={"dropped": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
    def storage(context: dg.OpExecutionContext) -> None:
        freed = []
        for name in lakehouse.maintenance.tables():
            freed.append(lakehouse.maintenance.maintain(name))
            context.log.info("%s", freed[-1])
        context.log_event(dg.AssetMaterialization(STORAGE, metadata=_shown(freed)))

    @dg.job(
        name=MAINTENANCE_JOB,
        description="Drops days older than LAKEHOUSE_RETENTION_DAYS, if set; keeps every table small.",
    )
    def maintenance() -> None:
        storage(retention())

    return maintenance


def _shown(done: Sequence[Freed] | Sequence[Dropping]) -> dict[str, Any]:
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
    return {"tables": table, **sums}
