"""Sensors and schedules: runs for landed files and ended days, the dashboard, and reports of failed runs."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import cache
from itertools import chain, islice

import dagster as dg

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.calendar import DAY, at_most, days_between, in_words
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.redivision import waiting
from lakehouse_assets.landing.zone import Listings, Signatures, signatures
from lakehouse_assets.orchestration.dagster_internals import RUN_KEY_TAG
from lakehouse_assets.orchestration.failures import (
    Failure,
    TableFailed,
    days_of_run,
    failure_of,
    in_sentences,
    left_because,
)
from lakehouse_assets.orchestration.jobs import DASHBOARD_JOB, run_tags
from lakehouse_assets.orchestration.runs import JOB, RUNS_OF_TABLES, unfinished_runs
from lakehouse_assets.orchestration.webhook import Complaints, post
from lakehouse_assets.planning.planner import Stale, Work, without
from lakehouse_assets.settings import SettingsError
from lakehouse_assets.storage.repair import DamagedTable

LOOK_SECONDS = 4  # Dagster's daemon asks every 5, and leaves out a sensor that is just short of its interval
QUIET_SECONDS = 15  # since a file's last change, where nobody can tell whether it is still open for writing
DASHBOARD_SECONDS = 15
MOST_DAYS_WITHOUT_FILE = 31  # that the end of a day gives rows to by itself
MOST_RUNS_A_LOOK = 25  # later ticks ask for the rest
AIMS_TAG = "lakehouse/aims"  # what each table of a run that was asked for is to be afterwards
BEFORE_TAG = "lakehouse/before"  # and what it was before
_RUNS_LOOKED_AT, _FAILURES_LOOKED_AT = 100, 1000
_REASONS_TOLD = 5


def landing_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Asks for runs of exactly the stale days, once the files that make them stale are complete.

    What is stale follows from the tables' stamps and from what is landed. The cursor only holds the last look at dates
    that are to be computed, to tell whether their files still change, so a tick that is lost or repeated does no harm
    (Dagster keeps the cursor of every tick, so at rest it is empty). The run key names what would be
    computed and which snapshots it would replace: the same is never asked for twice, not even by a daemon that died
    before its cursor was saved, and a file that comes back in an earlier version is run again.
    """

    @dg.sensor(
        name="landing",
        job_name=JOB,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at the landing zone and computes the days that new, changed and removed files make stale.",
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        with complaints.telling(context.log):
            unlike = _settings_unlike(lakehouse)
            if unlike:
                complaints.tell(context.log, [unlike])
                context.log.warning(unlike)
                return dg.SensorResult(skip_reason=unlike, cursor=context.cursor)
            busy = unfinished_runs(context.instance)
            if busy:
                return dg.SensorResult(skip_reason=f"run {busy[0].run_id} has not ended yet", cursor=context.cursor)
            try:
                with lakehouse.repair.naming_damage():
                    return look(context, lakehouse)
            except DamagedTable:
                damaged = lakehouse.repair.unreadable_tables()
                if not damaged:
                    raise
            with lakehouse.repair.naming_damage():  # what follows from none of them is run all the same
                return look(context, lakehouse.without(damaged), list(damaged.values()))

    complaints = Complaints(lakehouse.settings, "sensor landing")
    known_failures: dict[str, Failure] = {}  # by run, as none changes any more
    at_rest: list[object] = []  # what the landing zone and the tables were when there was nothing to do, and why

    def look(context: dg.SensorEvaluationContext, lakehouse: Lakehouse, damage: Sequence[str] = ()) -> dg.SensorResult:
        now = lakehouse.zone.listings()
        seen = (signatures(now), lakehouse.catalog.versions(lakehouse.tables))
        if at_rest[:1] == [seen]:
            return dg.SensorResult(skip_reason=str(at_rest[1]), cursor=context.cursor)
        if request := dividing(context):
            return dg.SensorResult(run_requests=[request], cursor=context.cursor)
        phases = lakehouse.planner.phases(now)
        changed = next(phases)
        signed = _signatures_of_changed(changed, now)
        unlike = lakehouse.zone.incomplete(_last_look(context.cursor, signed), signed, QUIET_SECONDS)
        incomplete = {day for dataset, day in unlike if day.isoformat() in signed[dataset]}
        refused = lakehouse.planner.refused(changed, now)
        left = incomplete | refused.keys()
        reasons = [f"{days} may still be written to" for days in in_words(incomplete)]
        complained = [*damage, *(refused[day] for day in sorted(refused))]
        requests: list[dg.RunRequest] = []
        failed: dict[str, set[date]] = {}
        for stale in chain([changed], phases):
            for (run_id, name), days in _computed_in_vain(lakehouse, context.instance, stale).items():
                left.update(days)
                complained.append(
                    f"run {run_id} computed {name} {', '.join(in_words(days))} with other settings or code than this "
                    "code server has; reload the definitions, or run `lakehouse run`"
                )
            for (name, first, last), failure in _tried_in_vain(
                lakehouse, context.instance, stale, known_failures
            ).items():
                failed.setdefault(name, set()).update(stale[name].keys() & days_between(first, last))
                reasons.append(f"{failure}; nothing has changed since")
            following = lakehouse.planner.following(failed, now) if failed else {}
            reasons += in_sentences(left_because(stale, following))
            work = lakehouse.planner.work(without(stale, failed, following), left, stale)
            wanted = lakehouse.planner.keys(lakehouse.planner.ready(work))
            requests = _requests(lakehouse, dict(islice(wanted.items(), MOST_RUNS_A_LOOK)))
            if requests:
                break
        complaints.tell(context.log, complained)
        reasons += complained
        lakehouse.zone.save_index()
        cursor = json.dumps(signed)
        told = "; ".join(at_most(reasons, _REASONS_TOLD))
        why = told or "everything is up to date"
        at_rest[:] = [] if requests or incomplete or complained else [seen, why]
        if not requests:
            return dg.SensorResult(skip_reason=why, cursor=cursor)
        if told:
            context.log.warning(told)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    def dividing(context: dg.SensorEvaluationContext) -> dg.RunRequest | None:
        """A run of bronze, which divides files again where the zones have changed, before anything else is planned."""
        first = lakehouse.settings.start_date
        days = [day for one in waiting(lakehouse.zone, lakehouse.settings) for day in one.days]
        day = min((day for day in days if day >= first), default=None)
        if day is None:
            return None
        wanted = lakehouse.planner.keys([Work(("bronze.interactions",), day, day)])
        if _runs_of(context.instance, wanted):  # it was tried, and what stays as it was is to keep nothing waiting
            return None
        [request] = _requests(lakehouse, wanted)
        return request

    return landing


def dashboard_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Draws the dashboard when gold has changed since it was last drawn, and nothing is being computed."""

    @dg.sensor(
        name="dashboard",
        job_name=DASHBOARD_JOB,
        minimum_interval_seconds=DASHBOARD_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Draws the dashboard when the metrics have changed.",
    )
    def dashboard(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        gold = [name for name in lakehouse.tables if lakehouse.tables[name].layer == "gold"]
        with complaints.telling(context.log):
            snapshots = [snapshot for name in gold if (snapshot := lakehouse.catalog.snapshot_id(name))]
        complaints.tell(context.log, ())
        busy = unfinished_runs(context.instance)
        if busy or not snapshots:
            return dg.SkipReason(f"run {busy[0].run_id} has not ended yet" if busy else "nothing is computed yet")
        return dg.RunRequest(run_key=f"{DASHBOARD_JOB} {snapshots}")

    complaints = Complaints(lakehouse.settings, "sensor dashboard")
    return dashboard


def day_end_schedule(lakehouse: Lakehouse) -> dg.ScheduleDefinition:
    """Gives a day without a file its rows of zeros, and a warning."""
    settings = lakehouse.settings

    @dg.schedule(
        name="day_end",
        job_name=JOB,
        cron_schedule=f"0 {settings.expected_hour} * * *",
        execution_timezone=settings.reporting_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Gives a day that ended without a file its rows of zeros, and a warning.",
    )
    def day_end(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        with complaints.telling(context.log):
            yesterday = context.scheduled_execution_time.astimezone(settings.reporting_zone).date() - DAY
            return end_of(yesterday)

    complaints = Complaints(settings, "schedule day_end")

    def end_of(yesterday: date) -> dg.RunRequest | dg.SkipReason:
        unlike = _settings_unlike(lakehouse)
        if unlike:  # the sensor complains of it
            return dg.SkipReason(unlike)
        known = {*lakehouse.zone.dates("interactions"), *lakehouse.catalog.stamps("bronze.interactions")}
        if not known:
            return dg.SkipReason("no file has been landed yet")
        first = max(known) + DAY
        if first > yesterday:
            return dg.SkipReason(f"{max(known)} is landed or computed already")
        if (yesterday - first).days >= MOST_DAYS_WITHOUT_FILE:  # nobody delivers to this lake any more
            return dg.SkipReason(
                f"nothing was delivered since {max(known)}, more than {MOST_DAYS_WITHOUT_FILE} days ago; "
                f"`lakehouse run --start {first} --end {yesterday}` computes these days without files"
            )
        tables = tuple(name for name, table in lakehouse.tables.items() if table.calendar != "users")
        [request] = _requests(lakehouse, lakehouse.planner.keys([Work(tables, first, yesterday)]))
        return request

    return day_end


def failure_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Posts why a run failed to `LAKEHOUSE_WEBHOOK_URL`."""

    @dg.run_failure_sensor(
        name="run_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the webhook which run failed, for which days and why.",
    )
    def run_failures(context: dg.RunFailureSensorContext) -> None:
        failure = failure_of(context.instance, context.dagster_run)
        of = f"failed for {failure.days}" if failure.days else f"of job {context.dagster_run.job_name} failed"
        post(
            lakehouse.settings,
            f"lakehouse run {failure.run_id[:8]} {of}: {failure.reason}",
            run_id=failure.run_id,
            days=failure.days or "no days",
            tables=failure.tables,
            failed={one.table: one.reason for one in failure.failed},
            reason=failure.reason,
        )
        context.log.info("the webhook was told of run %s", failure.run_id)

    return run_failures


def _settings_unlike(lakehouse: Lakehouse) -> str:
    """Why no run may be asked for: its settings would differ from these definitions'. Empty if they would not."""
    try:
        changed = lakehouse.changed_settings()
    except SettingsError as error:
        return f"{error.args[0].removesuffix('.')}; nothing runs until you correct that"
    return (
        f"settings changed ({', '.join(changed)}): reload the definitions; nothing runs until then" if changed else ""
    )


def _signatures_of_changed(changed: Stale, landed: Listings) -> Signatures:
    """Signatures of the landing dates that are to be computed; empty for those whose files are gone."""
    found = signatures(landed)
    return {
        dataset: {
            (text := day.isoformat()): found[dataset].get(text, "") for day in changed.get(f"bronze.{dataset}", ())
        }
        for dataset in DATASETS
    }


def _last_look(cursor: str | None, signed: Signatures) -> Signatures:
    """What the cursor holds of these dates; nothing, as at the first look, where a person has put something else in."""
    try:
        kept = json.loads(cursor or "{}")
        return {
            dataset: {day: kept[dataset][day] for day in days if day in kept[dataset]}
            for dataset, days in signed.items()
            if dataset in kept
        }
    except (ValueError, TypeError):
        return {}


def _runs_of(instance: dg.DagsterInstance, keys: Collection[str]) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: list(keys)})) if keys else ()


def _tried_in_vain(
    lakehouse: Lakehouse,
    instance: dg.DagsterInstance,
    stale: Stale,
    known: dict[str, Failure],
) -> dict[tuple[str, date, date], TableFailed]:
    """Days of tables that failed in a run of the sensor, and whose inputs have not changed since."""
    ended = dg.RunsFilter(job_name=JOB, statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
    tried: list[tuple[dg.DagsterRun, Work]] = []
    for run in instance.get_runs(ended, limit=_FAILURES_LOOKED_AT) if any(stale.values()) else ():
        tables = tuple(name for name in lakehouse.tables if name in json.loads(run.tags.get(AIMS_TAG, "{}")))
        if tables:
            first, last = map(date.fromisoformat, days_of_run(run))
            if any(not stale.get(name, {}).keys().isdisjoint(days_between(first, last)) for name in tables):
                tried.append((run, Work(tables, first, last)))
    work = [one for _, one in tried]
    found: dict[tuple[str, date, date], TableFailed] = {}  # a run that died is tried again, and may die again
    for (run, one), aims, before in zip(
        tried, lakehouse.planner.aims(work), lakehouse.planner.before(work), strict=True
    ):
        aimed_at, was = json.loads(run.tags[AIMS_TAG]), json.loads(run.tags.get(BEFORE_TAG, "{}"))
        same = {
            name for name in stale if name in aims and (aims[name], before[name]) == (aimed_at[name], was.get(name))
        }
        if same and run.run_id not in known:
            known[run.run_id] = failure_of(instance, run, one.tables)
        for failure in known[run.run_id].failed if same else ():
            if failure.table in same:
                found.setdefault((failure.table, one.first, one.last), failure)
    return found


def _computed_in_vain(
    lakehouse: Lakehouse, instance: dg.DagsterInstance, stale: Stale
) -> dict[tuple[str, str], set[date]]:
    """Stale days by run and table that a run of a sensor's has just computed: asked for again, it would do the same.

    That is so where its aim is the one of now and nobody came after it. Another run over the same days makes them right
    to be asked for again, as when a file's earlier version comes back; so does a repair, which takes their stamps.
    """
    found: dict[tuple[str, str], set[date]] = {}
    later: dict[str, set[date]] = {name: set() for name in lakehouse.tables}
    recorded = cache(lakehouse.catalog.stamps)
    for run in instance.get_runs(limit=_RUNS_LOOKED_AT) if any(stale.values()) else ():
        first, last = days_of_run(run)
        if run.job_name not in RUNS_OF_TABLES or not first:
            continue
        work = Work(
            tuple(n for n in later if not run.asset_selection or dg.AssetKey(n.split(".")) in run.asset_selection),
            date.fromisoformat(first),
            date.fromisoformat(last),
        )
        days = set(days_between(work.first, work.last))
        aims = json.loads(run.tags.get(AIMS_TAG, "{}")) if run.status == dg.DagsterRunStatus.SUCCESS else {}
        still = {name: days & stale.get(name, {}).keys() & recorded(name).keys() - later[name] for name in work.tables}
        if aims and any(still.values()):
            [now] = lakehouse.planner.aims([work])
            found |= {(run.run_id, n): left for n, left in still.items() if left and now[n] == aims.get(n)}
        for name in work.tables:
            later[name] |= days
    return found


def _requests(lakehouse: Lakehouse, wanted: Mapping[str, Work]) -> list[dg.RunRequest]:
    aims, before = lakehouse.planner.aims(wanted.values()), lakehouse.planner.before(wanted.values())
    return [
        dg.RunRequest(
            run_key=key,
            asset_selection=[dg.AssetKey(name.split(".")) for name in work.tables],
            tags=run_tags(work) | {AIMS_TAG: json.dumps(aim), BEFORE_TAG: json.dumps(was)},
        )
        for (key, work), aim, was in zip(wanted.items(), aims, before, strict=True)
    ]
