"""What starts runs by itself: files that land, and a day that ends; and what tells about runs that failed."""

import json
import urllib.request
from collections.abc import Collection, Sequence
from itertools import chain

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from lakehouse_assets.automation.failures import failure_of
from lakehouse_assets.automation.jobs import DASHBOARD_JOB, JOB, run_tags, unfinished_runs
from lakehouse_assets.io.landing import DATASETS, Looks, Signatures, signatures
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.partitions import DAY, at_most, days_between, in_words
from lakehouse_assets.stamps import Stale, Work, calendar_of

LOOK_SECONDS = 15
MOST_RUNS_A_LOOK = 25  # what is left is asked for by later looks
_REASONS_TOLD = 5
_WEBHOOK_SECONDS = 10


def landing_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Runs for exactly the days whose content changes, once the files that change them are complete.

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
        description="Looks at the landing zone and runs what new, changed and removed files make stale.",
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        busy = unfinished_runs(context.instance)
        if busy:
            return dg.SensorResult(skip_reason=f"run {busy[0].run_id} has not ended yet", cursor=context.cursor)
        with lakehouse.repair.naming_damage():
            return look(context)

    at_rest: list[object] = []  # what the landing zone and the tables were when there was nothing to do

    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = lakehouse.zone.look_at_all()
        seen = (signatures(now), lakehouse.catalog.versions())
        if at_rest == [seen]:
            return dg.SensorResult(skip_reason="everything is up to date", cursor=context.cursor)
        phases = lakehouse.stamps.phases(now)
        changed = next(phases)
        signed = _signatures_of_changed(changed, now)
        before: Signatures = json.loads(context.cursor) if context.cursor else {}
        unlike = lakehouse.zone.incomplete(before, signed)
        incomplete = {day for dataset, day in unlike if day.isoformat() in signed[dataset]}
        refused = lakehouse.stamps.refused(changed, now)
        left = incomplete | refused.keys()
        reasons = [
            *(f"{days} may still be written to" for days in in_words(incomplete)),
            *(refused[day] for day in sorted(refused)),
        ]
        requests: list[dg.RunRequest] = []
        for stale in chain([changed], phases):
            work = lakehouse.stamps.work(stale, left, stale)
            wanted = lakehouse.stamps.keys(lakehouse.stamps.ready(work))
            for run in _runs_of(context.instance, wanted):
                failed = wanted.pop(run.tags[RUN_KEY_TAG])
                left.update(days_between(failed.first, failed.last))
                reasons.append(f"run {run.run_id} failed for {failed.first} … {failed.last}; nothing has changed since")
            requests = [_request(one, key) for key, one in wanted.items()][:MOST_RUNS_A_LOOK]
            if requests:
                break
        lakehouse.zone.save_index()
        cursor = json.dumps(signed)
        told = "; ".join(at_most(reasons, _REASONS_TOLD))
        at_rest[:] = [] if requests or told else [seen]
        if not requests:
            return dg.SensorResult(skip_reason=told or "everything is up to date", cursor=cursor)
        if told:
            context.log.warning(told)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return landing


def dashboard_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Draws the dashboard when gold has changed since it was last drawn, and nothing is being computed."""

    @dg.sensor(
        name="dashboard",
        job_name=DASHBOARD_JOB,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Draws the dashboard again when the metrics have changed.",
    )
    def dashboard(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        gold = [name for name in lakehouse.tables if lakehouse.tables[name].layer == "gold"]
        snapshots = [snapshot for name in gold if (snapshot := lakehouse.catalog.snapshot_id(name))]
        busy = unfinished_runs(context.instance)
        if busy or not snapshots:
            return dg.SkipReason(f"run {busy[0].run_id} has not ended yet" if busy else "nothing is computed yet")
        return dg.RunRequest(run_key=f"{DASHBOARD_JOB} {snapshots}")

    return dashboard


def day_end_schedule(lakehouse: Lakehouse) -> dg.ScheduleDefinition:
    """A day without a file gets its rows all the same, and the warning that no file came."""
    settings = lakehouse.settings

    @dg.schedule(
        name="day_end",
        job_name=JOB,
        cron_schedule=f"0 {settings.expected_hour} * * *",
        execution_timezone=settings.reporting_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Gives days that ended without a file their rows of zeros, with a warning.",
    )
    def day_end(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        yesterday = context.scheduled_execution_time.astimezone(settings.reporting_zone).date() - DAY
        known = {*lakehouse.zone.dates("interactions"), *lakehouse.catalog.stamps("bronze.interactions")}
        if not known:
            return dg.SkipReason("nothing has ever been delivered")
        first = max(known) + DAY
        if first > yesterday:
            return dg.SkipReason(f"{max(known)} is delivered or computed already")
        tables = tuple(name for name in lakehouse.tables if calendar_of(name) != "users")
        [(key, work)] = lakehouse.stamps.keys([Work(tables, first, yesterday)]).items()
        return _request(work, key)

    return day_end


def failure_sensor(lakehouse: Lakehouse) -> dg.SensorDefinition:
    """Posts why a run failed to `LAKEHOUSE_WEBHOOK_URL`, as JSON with a ``text`` that chat services show."""

    @dg.run_failure_sensor(
        name="run_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the webhook which run failed, for which days and why.",
    )
    def run_failures(context: dg.RunFailureSensorContext) -> None:
        failure = failure_of(context.instance, context.dagster_run)
        message = {
            "text": f"lakehouse run {failure.run_id[:8]} failed for {failure.days}: {failure.reason}",
            "run_id": failure.run_id,
            "days": failure.days,
            "tables": failure.tables,
            "reason": failure.reason,
        }
        request = urllib.request.Request(  # noqa: S310  the settings only take http and https
            lakehouse.settings.webhook_url.get_secret_value(),
            json.dumps(message).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_WEBHOOK_SECONDS):  # noqa: S310
            context.log.info("the webhook was told of run %s", failure.run_id)

    return run_failures


def _signatures_of_changed(changed: Stale, landed: Looks) -> Signatures:
    """Signatures of the landing dates that are to be computed; empty for those whose files are gone."""
    found = signatures(landed)
    return {
        dataset: {
            (text := day.isoformat()): found[dataset].get(text, "") for day in changed.get(f"bronze.{dataset}", ())
        }
        for dataset in DATASETS
    }


def _runs_of(instance: dg.DagsterInstance, keys: Collection[str]) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: list(keys)})) if keys else ()


def _request(work: Work, key: str) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=key,
        asset_selection=[dg.AssetKey(name.split(".")) for name in work.tables],
        tags=run_tags(work),
    )
