"""The runs over tables: which have not ended, and how one waits for others where its rows do not add up.

Two runs over the same days read what the other has published so far. Rows that are counted at two places then differ
until both places are computed from the same deliveries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import dagster as dg

from lakehouse_assets.calendar import span_in_words
from lakehouse_assets.orchestration.dagster_internals import NOT_FINISHED_STATUSES, WorkerStatus
from lakehouse_assets.orchestration.failures import days_of_run
from lakehouse_assets.planning.planner import Origin

JOB = "lakehouse"
RUNS_OF_TABLES = (JOB, "__ASSET_JOB")  # the second is what the UI's Materialize button starts
WAITS_TAG = "lakehouse/waits-for"  # runs; a run that waits is not waited for, so that no two wait for each other
WAITS = "waits for other runs that publish what this table is computed from"
_SECONDS = 1


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


def wait_for_other_runs(
    instance: dg.DagsterInstance,
    run_id: str,
    log: dg.DagsterLogManager,
    stale: Callable[[], Collection[Origin]],
) -> None:
    """Wait until no other run computes what some days wait for.

    Args:
        instance: where runs are recorded.
        run_id: the run that waits.
        log: of its step.
        stale: what its days wait for now.
    """
    waited_for: list[str] = []
    try:
        while (days := stale()) and (others := _computing(instance, run_id, days)):
            if waited_for != (waited_for := [other.run_id for other in others]):
                named = "; ".join(f"{other.run_id} for {span_in_words(*days_of_run(other))}" for other in others)
                log.info("%s: %s", WAITS, named)
                instance.add_run_tags(run_id, {WAITS_TAG: ",".join(waited_for)})
            time.sleep(_SECONDS)
    finally:
        if waited_for:
            instance.add_run_tags(run_id, {WAITS_TAG: ""})


def _computing(instance: dg.DagsterInstance, run_id: str, stale: Collection[Origin]) -> list[dg.DagsterRun]:
    """Other runs that have begun, wait for none themselves, and are for one of the days."""
    return [
        other
        for other in living_runs(instance)
        if other.run_id != run_id
        and other.status == dg.DagsterRunStatus.STARTED  # one in the queue may wait until this one ends
        and not other.tags.get(WAITS_TAG)
        and any(_is_for(other, origin) for origin in stale)
    ]


def _is_for(run: dg.DagsterRun, origin: Origin) -> bool:
    first, last = days_of_run(run)
    names = [".".join(key.path) for key in run.asset_selection or ()]
    return (not names or origin.table in names) and first <= origin.day.isoformat() <= last
