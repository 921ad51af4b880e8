"""The runs over tables: which have not ended, and how one waits for others where its rows do not add up.

Two runs over the same days read what the other has published so far. Rows that are counted at two places then differ
until both places are computed from the same deliveries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse_assets.calendar import span_in_words
from lakehouse_assets.orchestration.dagster_internals import NOT_FINISHED_STATUSES, WorkerStatus
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.orchestration.instance import is_of_another_command
from lakehouse_assets.planning.planner import Stale

JOB = "lakehouse"
RUNS_OF_TABLES = (JOB, "__ASSET_JOB")  # the second is what the UI's Materialize button starts
WAITS_TAG = "lakehouse/waits-for"  # runs; who would wait for itself by way of them does not, so that waiting ends
WAITS = "waits for other runs that publish what this table is computed from"
_SECONDS = 1  # between two looks at the runs
_LOOK_SECONDS = 5  # between two looks at the landing zone and the tables
_PLANNING_SECONDS = 60  # that a command takes at most to plan its next run


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs over tables that are queued, starting or running."""
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return [run for run in runs if run.job_name in RUNS_OF_TABLES]


def living_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Those of the unfinished runs that may be writing now or soon; others' process has died and nobody noticed."""
    launcher = instance.run_launcher
    runs = unfinished_runs(instance)
    if not launcher.supports_check_run_worker_health:
        return runs
    return [run for run in runs if launcher.check_run_worker_health(run).status != WorkerStatus.FAILED]


def computes(run: dg.DagsterRun, tables: Collection[str]) -> bool:
    """Whether a run computes some of the tables; others judge them, draw the dashboard or make assets of their own."""
    if run.asset_selection:
        return any(".".join(key.path) in tables for key in run.asset_selection)
    return run.job_name in RUNS_OF_TABLES and not run.asset_check_selection


def wait_for_other_runs(
    instance: dg.DagsterInstance,
    run_id: str,
    log: dg.DagsterLogManager,
    stale: Callable[[], Stale],
    longest_seconds: float,
) -> None:
    """Wait until no other run computes what some days wait for.

    Args:
        instance: where runs are recorded.
        run_id: the run that waits.
        log: of its step.
        stale: what its days wait for now.
        longest_seconds: how long it waits at most.
    """
    waited_for: list[str] = []
    begun = time.monotonic()
    look_again = begun
    try:
        while (now := time.monotonic()) < begun + longest_seconds:
            if now >= look_again:
                days, look_again = stale(), now + _LOOK_SECONDS
            if not (others := runs_to_wait_for(instance, run_id, days)):
                break
            if waited_for != (waited_for := [other.run_id for other in others]):
                named = "; ".join(f"{other.run_id} for {span_in_words(*days_of_run(other))}" for other in others)
                log.info("%s: %s", WAITS, named)
                instance.add_run_tags(run_id, {WAITS_TAG: ",".join(waited_for)})
            time.sleep(_SECONDS)
    finally:
        if waited_for:
            instance.add_run_tags(run_id, {WAITS_TAG: ""})


def runs_to_wait_for(instance: dg.DagsterInstance, run_id: str, stale: Stale) -> list[dg.DagsterRun]:
    """Other runs that compute some of the days now, or whose process may do so next; none that waits for this run.

    One in the queue may wait until this one ends, so it is none of them.

    Args:
        instance: where runs are recorded.
        run_id: this run.
        stale: days of each table that are to be computed.
    """
    if not any(stale.values()):
        return []
    living = living_runs(instance)
    waits_for = {run.run_id: set(filter(None, run.tags.get(WAITS_TAG, "").split(","))) for run in living}
    computing = [
        run
        for run in living
        if run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
        and not _leads_to(run_id, {run.run_id}, waits_for)
        and _is_for(run, stale)
    ]
    return computing or _between_two_runs(instance)


def _between_two_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that have just ended, and whose command has not: it may be planning its next one."""
    just_now = datetime.now(tz=UTC) - timedelta(seconds=_PLANNING_SECONDS)
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    runs = instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=ended, updated_after=just_now))
    return [run for run in runs if is_of_another_command(run)]


def _leads_to(run_id: str, runs: Collection[str], waits_for: Mapping[str, Collection[str]]) -> bool:
    """Whether some of the runs are this one, or wait for it, directly or by way of others."""
    seen: set[str] = set()
    while runs := {*runs} - seen:
        seen |= runs
        runs = {other for run in runs for other in waits_for.get(run, ())}
    return run_id in seen


def _is_for(run: dg.DagsterRun, stale: Stale) -> bool:
    first, last = days_of_run(run)
    return any(
        computes(run, [table]) and any(first <= day.isoformat() <= last for day in days)
        for table, days in stale.items()
    )
