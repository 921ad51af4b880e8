"""The state of each day: up to date, stale, running or failed, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

from lakehouse_assets.calendar import DAY, at_most
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.zone import Listings

if TYPE_CHECKING:  # importing Dagster takes longer than all that is told of a lakehouse that is up to date
    import dagster as dg

    from lakehouse_assets.orchestration.failures import Failure

Opened = Callable[[], "AbstractContextManager[dg.DagsterInstance]"]

UP_TO_DATE, STALE, RUNNING, FAILED = "up to date", "stale", "running", "failed"
_FAILURES_LOOKED_AT = 100
_TABLES_TOLD = 3


@dataclass(frozen=True)
class Stretch:
    """Consecutive days with the same state and reason.

    Attributes:
        first: first day.
        last: last day.
        files: delivered files.
        state: `UP_TO_DATE`, `STALE`, `RUNNING` or `FAILED`.
        why: what is not up to date and why; empty if all is.
    """

    first: date
    last: date
    files: int
    state: str
    why: str


@dataclass(frozen=True)
class _Running:
    """An unfinished run: its id, first and last day."""

    run_id: str
    first: str
    last: str


def status(lakehouse: Lakehouse, opened: Opened) -> list[Stretch]:
    """Every day from the first to the last that is landed or computed, consecutive ones that stand alike together.

    Args:
        lakehouse: whose days.
        opened: opens Dagster's instance, which is asked about runs where a day is not up to date.
    """
    landed = lakehouse.zone.listings()
    stale = lakehouse.planner.stale(landed)
    days = sorted(
        set().union(
            *(landed[dataset] for dataset in landed), *stale.values(), *map(lakehouse.catalog.stamps, lakehouse.tables)
        )
    )
    running, failures = _runs(opened, landed) if any(stale.values()) else ([], [])
    refused = {
        day: why
        for dataset, delivered in landed.items()
        for day in stale.get(f"bronze.{dataset}", ())
        for file in delivered.get(day, ())
        if (why := lakehouse.zone.known_refusal(file))
    }
    stands = [(day, *_stands(day, stale, refused, running, failures)) for day in days]
    files: Counter[date] = Counter()
    for delivered in landed.values():
        files.update({day: len(found) for day, found in delivered.items()})
    return list(_stretches(stands, files))


def _stands(
    day: date,
    stale: Mapping[str, Mapping[date, str]],
    refused: Mapping[date, str],
    running: Sequence[_Running],
    failures: Sequence[Failure],
) -> tuple[str, str]:
    tables = [name for name, days in stale.items() if day in days]
    if not tables:
        return UP_TO_DATE, ""
    if day in refused:
        return FAILED, refused[day]
    text = day.isoformat()
    for run in running:
        if run.first <= text <= run.last:
            return RUNNING, f"run {run.run_id[:8]}"
    why: dict[str, str] = {}
    for failure in failures:  # the newest first
        if failure.first <= text <= failure.last:
            failed = {one.table: f"{one} (run {failure.run_id[:8]})" for one in failure.failed}
            why = {name: told for name, told in failed.items() if name in tables} | why
    others = [name for name in tables if name not in why]
    if why:
        waiting = [f"also stale: {', '.join(at_most(others, _TABLES_TOLD))}"] if others else []
        return FAILED, "; ".join([*dict.fromkeys(why.values()), *waiting])
    more = f" ({len(others)} tables affected)" if len(others) > 1 else ""
    return STALE, f"{tables[0]}: {stale[tables[0]][day]}{more}"


def _runs(opened: Opened, landed: Listings) -> tuple[list[_Running], list[Failure]]:
    """Unfinished runs; and the newest failed ones, newest first, but for those whose files have changed since."""
    import dagster as dg

    from lakehouse_assets.orchestration.failures import days_of_run, failure_of
    from lakehouse_assets.orchestration.runs import RUNS_OF_TABLES, unfinished_runs

    changes = [
        (day.isoformat(), file.changed_ns / 1e9)
        for days in landed.values()
        for day, files in days.items()
        for file in files
    ]
    with opened() as instance:
        running = [_Running(run.run_id, *days_of_run(run)) for run in unfinished_runs(instance)]
        failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        runs = instance.get_runs(failed, limit=_FAILURES_LOOKED_AT)
        failures = [failure_of(instance, run) for run in runs if run.job_name in RUNS_OF_TABLES]
    return running, [
        failure
        for failure in failures
        if not any(failure.first <= day <= failure.last and changed > failure.at for day, changed in changes)
    ]


def _stretches(stands: Sequence[tuple[date, str, str]], files: Mapping[date, int]) -> Iterator[Stretch]:
    # consecutive days have the same distance to their position
    for (_, state, why), found in groupby(
        enumerate(stands), key=lambda one: (one[1][0] - one[0] * DAY, one[1][1], one[1][2])
    ):
        days = [day for _, (day, _, _) in found]
        yield Stretch(days[0], days[-1], sum(files.get(day, 0) for day in days), state, why)
