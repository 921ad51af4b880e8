"""The lakehouse's definitions and two plain assets of Dagster's beside them.

`dagster dev -m own_metrics.definitions` serves both.
"""

import dagster as dg
import duckdb
import pyarrow as pa

from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.lakehouse import Lakehouse


@dg.asset(
    key=["analysis", "weekdays"],
    ins={
        "daily_metrics": dg.AssetIn(["gold", "daily_metrics"]),
        "user_days": dg.AssetIn(["silver", "user_days"]),
    },
    io_manager_key="iceberg",
)
def weekdays(daily_metrics: duckdb.DuckDBPyRelation, user_days: pa.Table) -> pa.Table:
    """Mean active users of each weekday, and the share of a user's actions on it; stored as an Iceberg table."""
    active = {}
    for day, users in daily_metrics.project("date, daily_active_users").fetchall():
        active.setdefault(day.isoweekday(), []).append(users)
    actions = {}
    for day, done in zip(user_days["event_date"].to_pylist(), user_days["actions"].to_pylist(), strict=True):
        actions[day.isoweekday()] = actions.get(day.isoweekday(), 0) + done
    total = sum(actions.values())
    return pa.table(
        {
            "weekday": sorted(active),
            "mean_active_users": [sum(active[day]) / len(active[day]) for day in sorted(active)],
            "share_of_actions": [actions.get(day, 0) / total if total else None for day in sorted(active)],
        }
    )


@dg.asset(key=["analysis", "busiest_weekday"], ins={"weekdays": dg.AssetIn(["analysis", "weekdays"])})
def busiest_weekday(weekdays) -> dg.MaterializeResult:
    """The weekday with most active users; a Spark frame is read where no type is asked for."""
    weekday = weekdays.orderBy("mean_active_users", ascending=False).first()["weekday"]
    return dg.MaterializeResult(metadata={"weekday": int(weekday)})


@dg.definitions
def defs() -> dg.Definitions:
    """The lakehouse that the environment describes, and these assets."""
    return dg.Definitions.merge(build_definitions(Lakehouse()), dg.Definitions(assets=[weekdays, busiest_weekday]))
