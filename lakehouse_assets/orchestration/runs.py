"""The runs over tables: which have not ended, and how one waits for others where its rows do not add up.

Two runs over the same days read what the other has published so far. Rows that are counted at two places then differ
until both places are computed from the same deliveries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse_assets.calendar import span_in_words
from lakehouse_assets.orchestration.dagster_internals import NOT_FINISHED_STATUSES, WorkerStatus
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.orchestration.instance import HOST_TAG, PROCESS_TAG, is_of_another_process
from lakehouse_assets.planning.planner import Stale

JOB = "lakehouse"
RUNS_OF_TABLES = (JOB, "__ASSET_JOB")  # the second is what the UI's Materialize button starts
WAITS_TAG = "lakehouse/waits-for"  # runs
WAITS = "waits for other runs that publish what this table is computed from"
_SECONDS = 1  # between two looks at the runs
_LOOK_SECONDS = 5  # between two looks at the landing zone and the tables
_PLANNING_SECONDS = 60  # for which a process whose run has ended is taken to plan its next one


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
    """Other runs that compute some of the days now, or whose process may do so next.

    One that has not begun has published nothing, and may wait until this one ends. Of runs that would wait for each
    other the one with the smallest id does not.

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
        if run.run_id != run_id
        and run.status == dg.DagsterRunStatus.STARTED
        and _is_for(run, stale)
        and not _gives_way(run_id, run.run_id, waits_for)
    ]
    return computing or _between_two_runs(instance, living)


def _between_two_runs(instance: dg.DagsterInstance, living: Sequence[dg.DagsterRun]) -> list[dg.DagsterRun]:
    """Runs that have just ended, and whose process has not: it may be planning its next one."""
    just_now = datetime.now(tz=UTC) - timedelta(seconds=_PLANNING_SECONDS)
    statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    ended = instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=statuses, updated_after=just_now))
    busy = {(run.tags.get(HOST_TAG), run.tags.get(PROCESS_TAG)) for run in living}
    return [
        run
        for run in ended
        if (run.tags.get(HOST_TAG), run.tags.get(PROCESS_TAG)) not in busy and is_of_another_process(run)
    ]


def _gives_way(run_id: str, other: str, waits_for: Mapping[str, Collection[str]]) -> bool:
    """Whether a run does not wait for another, as that waits for it, directly or by way of further ones."""
    circle = {run for run in _reached(other, waits_for) if run_id in _reached(run, waits_for)}
    return bool(circle) and run_id == min(circle)


def _reached(run_id: str, waits_for: Mapping[str, Collection[str]]) -> set[str]:
    """A run and all that it waits for."""
    reached, new = set[str](), {run_id}
    while new:
        reached |= new
        new = {other for run in new for other in waits_for.get(run, ())} - reached
    return reached


def _is_for(run: dg.DagsterRun, stale: Stale) -> bool:
    first, last = days_of_run(run)
    return any(
        computes(run, [table]) and any(first <= day.isoformat() <= last for day in days)
        for table, days in stale.items()
    )
