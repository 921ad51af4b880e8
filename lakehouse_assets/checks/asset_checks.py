"""The asset checks: blocking where data is wrong, warning where it is only odd, one result a day.

The writer counts every law of a contract before it publishes, and raises; so a check of a law fails only when
something else has touched the table. Run on its own from the UI, a check counts again on what is published.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from pyspark.sql import functions as F

from lakehouse_assets.assets.declaration import days_of
from lakehouse_assets.io.catalog import kept_from, read_stamps
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.partitions import days_between, month_first, period_first
from lakehouse_assets.tables import NO_DUPLICATE_KEY, Table
from lakehouse_assets.transforms.activity import WINDOWS
from lakehouse_assets.transforms.anomalies import HISTORY_DAYS
from lakehouse_assets.transforms.engagement import L28_DAYS, POWER_DAYS
from lakehouse_assets.transforms.performance import WINDOW_DAYS
from lakehouse_assets.transforms.segments import ACTIVE_USERS, APP_VERSION, LONGEST_DAYS


@dataclass(frozen=True)
class Outcome:
    """What a check found on one day; no breach means it passed."""

    breaches: int
    detail: str = ""


Outcomes = Mapping[date, Outcome]


@dataclass(frozen=True)
class Check:
    """A check of a table: name, what it says, whether a breach stops what comes after, and how to look."""

    table: str
    name: str
    description: str
    blocking: bool
    look: Callable[[Lakehouse, date, date], Outcomes]


def declared_checks(table: Table) -> list[Check]:
    """The laws of a table's contract that it shows as checks."""
    about = {rule.name: rule.description for rule in table.contract()}
    about[NO_DUPLICATE_KEY] = f"no two rows share {', '.join(table.key)}"

    def look(name: str) -> Callable[[Lakehouse, date, date], Outcomes]:
        def outcomes(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
            breaches = lakehouse.warehouse.audit(table.name, first, last).breaches.get(name, {})
            return {day: Outcome(rows) for day, rows in breaches.items()}

        return outcomes

    return [Check(table.name, name, about[name], True, look(name)) for name in table.checks]


def session_actions_match(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days whose sessions hold another number of actions than there are accepted interactions."""
    sessions = lakehouse.warehouse.read("gold.session_metrics", first, last)
    in_sessions: dict[date, int] = dict(sessions.groupBy("session_date").agg(F.sum("actions_per_session")).collect())
    accepted = lakehouse.warehouse.audit("silver.interactions", first, last).rows
    return {
        day: Outcome(abs(actions - rows), f"{actions} in sessions, {rows} accepted")
        for day in days_between(first, last)
        if (actions := in_sessions.get(day, 0)) != (rows := accepted.get(day, 0))
    }


def segments_add_up(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days on which some segment doesn't add up to the accepted interactions, or to the users of another one."""
    accepted = lakehouse.warehouse.audit("silver.interactions", first, last).rows
    segments = lakehouse.warehouse.read("gold.segment_metrics", first, last).groupBy("date", "segment")
    sums = segments.agg(F.sum("total_actions"), F.array(*[F.sum(name) for name in ACTIVE_USERS])).collect()
    actions: dict[date, list[int]] = {}
    users: dict[date, set[tuple[int, ...]]] = {}
    for day, segment, of_segment, active_users in sums:
        actions.setdefault(day, []).append(of_segment)
        if segment != APP_VERSION:  # of several versions a user counts for each
            users.setdefault(day, set()).add(tuple(active_users))
    found = {}
    for day in days_between(first, last):
        rows = accepted.get(day, 0)
        wrong = max(abs(of_segment - rows) for of_segment in actions.get(day, [0]))
        if wrong or len(users.get(day, ())) > 1:
            told = f"{rows} accepted, {sorted(actions.get(day, [0]))} in segments, users {sorted(users.get(day, ()))}"
            found[day] = Outcome(max(wrong, 1), told)
    return found


def unusual_days(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days with a metric outside of what was to be expected."""
    rows = (
        lakehouse.warehouse.read("gold.anomalies", first, last).where("is_anomaly").orderBy("date", "metric").collect()
    )
    found: dict[date, list[str]] = {}
    for row in rows:
        bounds = f"{row['lower_bound']:.6g} … {row['upper_bound']:.6g}"
        found.setdefault(row["date"], []).append(f"{row['metric']} is {row['value']:.6g}, expected {bounds}")
    return {day: Outcome(len(told), "; ".join(told)) for day, told in found.items()}


def unexpected_columns(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Landing dates whose files have columns beyond the expected ones."""
    zone = lakehouse.zone
    found = {}
    for day in days_between(first, last):
        extra = {f.path.name: zone.inspect("interactions", f).extra for f in zone.files("interactions", day)}
        named = [f"{name}: {', '.join(columns)}" for name, columns in extra.items() if columns]
        if named:
            found[day] = Outcome(len(named), "; ".join(named))
    return found


def cut_last_rows(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Landing dates with a file that does not end its last row, which may be cut in the middle."""
    zone = lakehouse.zone
    found = {}
    for day in days_between(first, last):
        cut = [
            f.path.name
            for f in zone.files("interactions", day)
            if not zone.inspect("interactions", f).complete_last_row
        ]
        if cut:
            found[day] = Outcome(len(cut), ", ".join(cut))
    return found


def days_without_file(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days that nothing was delivered for."""
    missing = [day for day in days_between(first, last) if not lakehouse.zone.files("interactions", day)]
    return {day: Outcome(1, "no file was delivered") for day in missing}


def _windows_complete(since: Callable[[date], date]) -> Callable[[Lakehouse, date, date], Outcomes]:
    """Days that look back on days that are landed and not computed yet: their figures are not final."""

    def outcomes(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
        table = lakehouse.catalog.load("silver.user_days")
        computed, dropped = (read_stamps(table), kept_from(table)) if table else ({}, None)
        landed = [day for day in lakehouse.zone.dates("interactions") if not dropped or day >= dropped]
        open_days = set(landed) - set(computed)
        found = {}
        for day in days_between(first, last):
            missing = sorted(d for d in open_days if since(day) <= d <= day)
            if missing:
                found[day] = Outcome(len(missing), f"landed and not computed: {missing[0]} … {missing[-1]}")
        return found

    return outcomes


FURTHER_CHECKS = (
    *(
        Check(
            table,
            "windows_complete",
            "every landed day that the figures look back on is computed; otherwise they will still change",
            False,
            _windows_complete(since),
        )
        for table, since in (
            ("gold.daily_metrics", lambda day: day - timedelta(max(WINDOWS.values()) - 1)),
            ("gold.monthly_metrics", month_first),
            ("gold.weekly_metrics", lambda day: period_first(day, "week")),
            ("gold.l28_histogram", lambda day: day - timedelta(L28_DAYS - 1)),
            ("gold.power_users", lambda day: day - timedelta(POWER_DAYS - 1)),
            ("gold.segment_metrics", lambda day: day - timedelta(LONGEST_DAYS - 1)),
            ("gold.version_performance", lambda day: day - timedelta(WINDOW_DAYS - 1)),
            ("gold.anomalies", lambda day: day - timedelta(HISTORY_DAYS)),
            ("gold.retention_weekly", lambda _: date.min),
            ("gold.lifecycle_metrics", lambda _: date.min),  # who is new depends on all that was
        )
    ),
    Check(
        "gold.session_metrics",
        "session_actions_match",
        "the sessions of a day hold exactly its accepted interactions",
        True,
        session_actions_match,
    ),
    Check(
        "gold.segment_metrics",
        "segments_add_up",
        "the values of every segment add up to the day's accepted interactions, and those of the users' columns to "
        "the same users",
        True,
        segments_add_up,
    ),
    Check(
        "gold.anomalies",
        "no_unusual_days",
        "no metric is outside of what its weekday and trend let expect",
        False,
        unusual_days,
    ),
    Check(
        "bronze.interactions",
        "file_delivered",
        "a file was delivered for the day; without one it counts as a day on which nothing happened",
        False,
        days_without_file,
    ),
    Check(
        "bronze.interactions",
        "no_unexpected_columns",
        "files have no columns beyond the expected ones (such are kept in extra_columns)",
        False,
        unexpected_columns,
    ),
    Check(
        "bronze.interactions",
        "last_rows_complete",
        "files end their last row with a line end; otherwise it may be cut",
        False,
        cut_last_rows,
    ),
)


def asset_checks(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks, those of one table in one step."""
    checks = [check for table in lakehouse.tables.values() for check in declared_checks(table)]
    by_table: dict[str, list[Check]] = {}
    for check in [*checks, *(check for check in FURTHER_CHECKS if check.table in lakehouse.tables)]:
        by_table.setdefault(check.table, []).append(check)
    return [_step(lakehouse, partitions, name, found) for name, found in by_table.items()]


def _step(
    lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition, name: str, checks: list[Check]
) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(name.split("."))
    specs = [
        dg.AssetCheckSpec(
            check.name, asset=key, description=check.description, blocking=check.blocking, partitions_def=partitions
        )
        for check in checks
    ]

    @dg.multi_asset_check(name=f"check_{name.replace('.', '_')}", specs=specs, can_subset=True)
    def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        first, last = days_of(context)
        targets = _checked_materializations(context, key)
        for check, spec in zip(checks, specs, strict=True):
            if check.name in selected:
                outcomes = check.look(lakehouse, first, last)
                for day in days_between(first, last):
                    yield _evaluation(key, check, day, outcomes.get(day), targets.get(day.isoformat()))
                # what waits for a blocking check waits for its output
                yield dg.Output(None, output_name=spec.get_python_identifier())

    return step


def _evaluation(
    key: dg.AssetKey,
    check: Check,
    day: date,
    outcome: Outcome | None,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    found: dict[str, Any] = {"breaches": outcome.breaches, "detail": outcome.detail} if outcome else {"breaches": 0}
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check.name,
        passed=outcome is None,
        metadata=found,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        blocking=check.blocking,
        partition=day.isoformat(),
        target_materialization_data=target,
    )


def _checked_materializations(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """Which materialization of each day a check of this run looks at, when the run made it itself."""
    latest = context.instance.get_latest_materialization_event(key)
    if latest is None or latest.run_id != context.run.run_id:
        return {}
    stored = context.instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(context.partition_keys)
    )
    return {
        day: AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=latest.run_id, timestamp=latest.timestamp
        )
        for day, storage_id in stored.items()
    }
