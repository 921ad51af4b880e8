"""The asset checks: blocking if data is wrong, warning if it is only odd; one result a day.

The writer counts every rule of a contract before it publishes, and raises; so a check of a rule fails only when
something else has touched the table. Run on its own from the UI, a check counts again on what is published: for the
days of the run, or, as the button "Execute all" starts one without days, for every day that is computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import dagster as dg
from pyspark.sql import functions as F

from lakehouse_assets.assets.gold.segment_metrics import ACTIVE_USERS
from lakehouse_assets.assets.table import NO_DUPLICATE_KEY, Table
from lakehouse_assets.assets.users_as_of import APP_VERSION
from lakehouse_assets.calendar import Days, at_most, days_between, in_words
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.admission import begin, check_days
from lakehouse_assets.orchestration.assets import days_of_step
from lakehouse_assets.orchestration.dagster_internals import AssetCheckEvaluationTargetMaterializationData
from lakehouse_assets.orchestration.runs import wait_for_other_runs
from lakehouse_assets.planning.planner import Stale
from lakehouse_assets.storage.query import days_not_over

_DAYS_TOLD = 10


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
    judge: Callable[[Lakehouse, date, date], Outcomes]


def declared_checks(table: Table) -> list[Check]:
    """The rules of a table's contract that are shown as checks."""
    about = {rule.name: rule.description for rule in table.contract()}
    about[NO_DUPLICATE_KEY] = f"no two rows share {', '.join(table.key)}"

    def judge(name: str) -> Callable[[Lakehouse, date, date], Outcomes]:
        def outcomes(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
            breaches = lakehouse.warehouse.audit(table.name, first, last).breaches.get(name, {})
            return {day: Outcome(rows) for day, rows in breaches.items()}

        return outcomes

    return [Check(table.name, name, about[name], True, judge(name)) for name in table.checks]


def session_actions_match(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days whose sessions have more or fewer actions than there are accepted interactions."""
    sessions = lakehouse.warehouse.read("gold.session_metrics", first, last)
    in_sessions: dict[date, int] = dict(sessions.groupBy("session_date").agg(F.sum("actions_per_session")).collect())
    accepted = lakehouse.warehouse.audit("silver.interactions", first, last).rows
    return {
        day: Outcome(abs(actions - rows), f"{actions} in sessions, {rows} accepted")
        for day in days_between(first, last)
        if (actions := in_sessions.get(day, 0)) != (rows := accepted.get(day, 0))
    }


def _counted_as_accepted(lakehouse: Lakehouse, first: date, last: date) -> Mapping[date, int]:
    """Accepted rows a day as metrics have counted them: those of users who were forgotten since are among them."""
    counts = "silver.interaction_counts"
    if counts not in lakehouse.tables:
        return lakehouse.warehouse.audit("silver.interactions", first, last).rows
    return dict(lakehouse.warehouse.read(counts, first, last).select("date", "accepted_rows").collect())


def segments_add_up(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Days on which some segment doesn't add up to the accepted interactions, or to the users of another one."""
    accepted = _counted_as_accepted(lakehouse, first, last)
    segments = lakehouse.warehouse.read("gold.segment_metrics", first, last).groupBy("date", "segment")
    sums = segments.agg(F.sum("total_actions"), F.array(*[F.sum(name) for name in ACTIVE_USERS])).collect()
    actions: dict[date, list[int]] = {}
    users: dict[date, set[tuple[int, ...]]] = {}
    for day, segment, of_segment, active_users in sums:
        actions.setdefault(day, []).append(of_segment)
        if segment not in (APP_VERSION, *lakehouse.settings.extra_columns):  # of several a user counts for each
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
    """Days with a metric outside of what was to be expected; one that is not over is not compared with whole ones."""
    rows = (
        lakehouse.warehouse.read("gold.anomalies", first, last).where("is_anomaly").orderBy("date", "metric").collect()
    )
    still_going_on = days_not_over(lakehouse.catalog) if rows else set()
    found: dict[date, list[str]] = {}
    for row in rows:
        if row["date"] in still_going_on:
            continue
        bounds = f"{row['lower_bound']:.6g} … {row['upper_bound']:.6g}"
        found.setdefault(row["date"], []).append(f"{row['metric']} is {row['value']:.6g}, expected {bounds}")
    return {day: Outcome(len(told), "; ".join(told)) for day, told in found.items()}


def unexpected_columns(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Landing dates whose files have columns beyond the expected ones."""
    zone, kept = lakehouse.zone, lakehouse.settings.extra_columns
    found = {}
    for day in days_between(first, last):
        named = []
        for file in zone.files("interactions", day):
            if columns := [name for name in zone.inspect("interactions", file).extra if name not in kept]:
                named.append(f"{file.path.name}: {', '.join(columns)}")
        if named:
            found[day] = Outcome(len(named), "; ".join(named))
    return found


def cut_last_rows(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
    """Landing dates with a file whose last row has no line end, so that it may be cut."""
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
    """Days without a landed file."""
    missing = [day for day in days_between(first, last) if not lakehouse.zone.files("interactions", day)]
    return {day: Outcome(1, "no file was delivered") for day in missing}


class _Waiting:
    """Which days wait for something, asked by the checks of a run one after the other.

    What lies in the landing zone is looked up once a run, and each table loaded once: of what a table is computed from
    nothing is published any more by the run that checks the table. After a run was waited for, both are looked up anew.
    """

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse
        self._run_id = ""

    def begin(self, run_id: str) -> None:
        if run_id != self._run_id:
            self._run_id = run_id
            self.look_again()

    def look_again(self) -> None:
        self._landed = cache(self._lakehouse.zone.listings)
        self._tables = self._lakehouse.planner.one_look()

    def windows_complete(self, table: Table) -> Check:
        """That everything a table's days look back on is computed; otherwise their figures are not final."""

        def judge(lakehouse: Lakehouse, first: date, last: date) -> Outcomes:
            waiting = lakehouse.planner.waiting_for(table.name, first, last, self._landed(), self._tables)
            return {day: Outcome(1, str(origin)) for day, origin in waiting.items()}

        windows = "; ".join(f"{i.table} {i.in_words}" for i in table.inputs if i.reads_other_days)
        about = f"every day that the figures look back on ({windows}) is computed; until then they will still change"
        return Check(table.name, "windows_complete", about, False, judge)


FURTHER_CHECKS = (
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
        "no metric is outside what its weekday and trend predict",
        False,
        unusual_days,
    ),
    Check(
        "bronze.interactions",
        "file_delivered",
        "a file was delivered for the day; without one its counts are 0",
        False,
        days_without_file,
    ),
    Check(
        "bronze.interactions",
        "no_unexpected_columns",
        "files have no unexpected columns (bronze keeps those in extra_columns)",
        False,
        unexpected_columns,
    ),
    Check(
        "bronze.interactions",
        "last_rows_complete",
        "the last row of each file ends with a line end; otherwise it may be cut",
        False,
        cut_last_rows,
    ),
)


def asset_checks(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks, those of one table in one step."""
    waiting = _Waiting(lakehouse)
    steps = []
    for table in lakehouse.tables.values():
        checks = [*declared_checks(table), *(check for check in FURTHER_CHECKS if check.table == table.name)]
        if table.layer == "gold" and any(i.reads_other_days for i in table.inputs):
            checks.append(waiting.windows_complete(table))
        if checks:
            steps.append(_step(lakehouse, partitions, table.name, checks, waiting))
    return steps


def _step(
    lakehouse: Lakehouse,
    partitions: dg.DailyPartitionsDefinition,
    name: str,
    checks: list[Check],
    waiting: _Waiting,
) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(name.split("."))
    specs = [
        dg.AssetCheckSpec(
            check.name,
            asset=key,
            description=f"{check.description}. Without chosen days it judges every computed day.",
            blocking=check.blocking,
            partitions_def=partitions,
        )
        for check in checks
    ]

    @dg.multi_asset_check(name=f"check_{name.replace('.', '_')}", specs=specs, can_subset=True)
    def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        partitioned = context.run.is_partitioned
        if partitioned:
            check_days(context.run, partitions)
        days = days_between(*days_of_step(context)) if partitioned else sorted(lakehouse.catalog.stamps(name))
        if not lakehouse.engines.has_begun(context.run.run_id):  # it computes nothing
            begin(lakehouse, context.run, context.instance, context.log)
        lakehouse.engines.turn_to(name)
        waiting.begin(context.run.run_id)
        targets = _checked_materializations(context, key) if partitioned else {}
        for check, spec in zip(checks, specs, strict=True):
            if check.name in selected:
                outcomes = check.judge(lakehouse, days[0], days[-1]) if days else {}
                if outcomes and check.blocking:
                    outcomes = _judge_when_settled(lakehouse, check, Days(days[0], days[-1]), context)
                    waiting.look_again()
                    targets = _checked_materializations(context, key) if partitioned else {}
                for day in days:
                    yield _evaluation(key, check, day, outcomes.get(day), targets.get(day.isoformat()))
                if not partitioned:
                    yield _of_all(key, check, days, [day for day in days if day in outcomes])
                # what waits for a blocking check waits for its output
                yield dg.Output(None, output_name=spec.get_python_identifier())

    return step


def _judge_when_settled(
    lakehouse: Lakehouse, check: Check, days: Days, context: dg.AssetCheckExecutionContext
) -> Outcomes:
    """What a check finds when no other run is changing the table or what it is computed from."""

    def stale() -> Stale:
        return lakehouse.planner.stale_for(check.table, *days, lakehouse.zone.listings())

    longest = lakehouse.settings.run_timeout_seconds
    wait_for_other_runs(context.instance, context.run.run_id, context.log, stale, longest)
    return check.judge(lakehouse, *days)


def _of_all(key: dg.AssetKey, check: Check, days: Sequence[date], broken: Sequence[date]) -> dg.AssetCheckEvaluation:
    """What the button shows that started the run: one answer over all days, beside that of each."""
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check.name,
        passed=not broken,
        metadata={"days": len(days), "days_that_fail": ", ".join(at_most(in_words(broken), _DAYS_TOLD))},
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        blocking=check.blocking,
    )


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
