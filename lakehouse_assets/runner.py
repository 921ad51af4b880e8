"""Runs Dagster in this process: for stale days, or for a range."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import chain

import dagster as dg

from lakehouse_assets.assets.table import Table
from lakehouse_assets.calendar import at_most, days_between, some
from lakehouse_assets.definitions import build_definitions
from lakehouse_assets.engines.choice import ENGINE_TAG, Choice
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.landing.zone import Listings, signatures
from lakehouse_assets.orchestration.failures import (
    TableFailed,
    TableLeft,
    failure_of,
    in_sentences,
    left_because,
    out_of_memory,
    table_of_step,
)
from lakehouse_assets.orchestration.instance import process_tags, terminal_instance
from lakehouse_assets.orchestration.jobs import run_tags
from lakehouse_assets.orchestration.runs import JOB, WAITS
from lakehouse_assets.planning.planner import Following, Planner, Stale, Work, without

Say = Callable[[str], None]
Plan = tuple[Sequence[Work], Stale | None]  # runs, and all stale days if they are for those
_TOLD = 3  # files that can't be read, named in one sentence
_FAILURES_TOLD = 30
_MOST_TIMES_AGAIN = 3  # that a plan is carried out again, because other runs changed what it had computed


class DaysLeftOut(LakehouseError):
    """What a run could not compute, a line each: unreadable files, failed tables, tables that depend on them.

    Attributes:
        work: what has been computed.
        refused: landing dates with a file that can't be read, and what is wrong with it.
        failed: tables that failed.
        left: tables that follow from those.
        ended: what kept the rest from being computed; empty if nothing did.
    """

    def __init__(
        self,
        work: Sequence[Work],
        refused: Mapping[date, str],
        failed: Sequence[TableFailed] = (),
        left: Sequence[TableLeft] = (),
        ended: str = "",
    ) -> None:
        self.work, self.refused, self.failed, self.left, self.ended = work, refused, failed, left, ended
        rest = ended or f"{'everything else' if failed else 'every other day'} is up to date"
        sentences = at_most([refused[day] for day in sorted(refused)], _TOLD)
        lines = [*at_most([*map(str, failed)], _FAILURES_TOLD), *in_sentences(left), "; ".join([*sentences, rest])]
        super().__init__("\n".join(lines))


class Runner:
    """Plans and executes runs of one lakehouse."""

    def __init__(self, lakehouse: Lakehouse, say: Say) -> None:
        self._lakehouse = lakehouse
        self._say = say

    def run_stale(self, before: Listings) -> list[Work]:
        """Compute every stale day whose landed files are complete.

        Args:
            before: an earlier look at the landing zone; a date whose files changed since is left for the next run.

        Returns:
            What has been computed.

        Raises:
            DaysLeftOut: a file can't be read, or a table failed; raised when everything else has been computed.
        """
        zone = self._lakehouse.zone
        seen = zone.listings()
        incomplete = zone.incomplete(signatures(before), signatures(seen))
        now = seen
        if divided := self._lakehouse.divide_again(self._say):
            now = zone.listings()
            incomplete |= zone.incomplete(signatures(_as_divided(seen, now, divided)), signatures(now))
        for dataset, day in sorted(incomplete):
            self._say(f"{dataset} {day}: files are still being written; the next run takes them")
        left = {day for _, day in incomplete}
        planner = self._lakehouse.planner
        phases = planner.phases(now)
        changed = next(phases)
        refused = {day: why for day, why in planner.refused(changed, now).items() if day not in left}
        left.update(refused)

        def planned() -> Iterator[Plan]:
            for stale in chain([changed], phases):
                yield planner.work(stale, left, stale), stale

        return self._execute(now, refused, planned())

    def run_range(self, first: date, last: date) -> list[Work]:
        """Compute every table for the days ``first`` … ``last``, up to date or not.

        Raises:
            RangeError: the lakehouse has not all of these days.
            DroppedDays: cleanup has dropped some of them.
            DaysLeftOut: a table failed; raised when everything that does not depend on it has been computed.
        """
        planner = self._lakehouse.planner
        self._lakehouse.divide_again(self._say)
        planner.check_range(first, last)
        planner.check_not_dropped(self._lakehouse.tables, first)
        return self._execute(self._lakehouse.zone.listings(), {}, [(planner.range_work(first, last), None)])

    def _execute(self, landed: Listings, refused: Mapping[date, str], phases: Iterable[Plan]) -> list[Work]:
        """Execute the runs of each phase one after the other, without what depends on a failed table.

        A phase is planned when the one before has ended.
        """
        so_far = _SoFar(self._lakehouse.planner, self._lakehouse.tables, landed)
        with terminal_instance(self._lakehouse.settings) as instance:
            try:
                for planned, stale in phases:
                    self._carry_out(instance, so_far, planned, stale)
                for _ in range(_MOST_TIMES_AGAIN):
                    if not (again := so_far.changed_meanwhile()):
                        break
                    names = dict.fromkeys(name for work in again for name in work.tables)
                    self._say(f"another run came between; computing again {', '.join(names)}")
                    self._carry_out(instance, so_far, again, None)
            except Exception as error:  # what concerns every table
                failures = so_far.unmended()
                if not failures and not refused:
                    raise
                raise DaysLeftOut(so_far.done, refused, failures, ended=str(error)) from error
        self._lakehouse.zone.save_index()
        if so_far.failures or refused:
            raise DaysLeftOut(so_far.done, refused, so_far.failures, so_far.left())
        return so_far.done

    def _carry_out(
        self, instance: dg.DagsterInstance, so_far: _SoFar, planned: Sequence[Work], stale: Stale | None
    ) -> None:
        pending = planned
        while pending := so_far.standing(pending):
            work, *pending = pending
            so_far.add(work, self._execute_one(instance, work), stale)

    @cached_property
    def _job(self) -> dg.JobDefinition:
        return build_definitions(self._lakehouse).resolve_job_def(JOB)

    def _execute_one(self, instance: dg.DagsterInstance, work: Work) -> list[TableFailed]:
        """Execute one run; its tables that failed.

        Raises:
            KeyboardInterrupt: it was stopped.
            Exception: storage or Spark can't be used, which concerns every table; the message says what to do.
        """
        run_id = str(uuid.uuid4())
        choice = self._lakehouse.begin(run_id, work.tables, work.first, work.last)
        instance.add_event_listener(run_id, _Progress(self._say, work, choice))
        self._job.execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=[dg.AssetKey(name.split(".")) for name in work.tables],
            tags=run_tags(work) | process_tags() | {ENGINE_TAG: choice.name},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,  # tables that do not depend on a failed one are computed
        )
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_success:
            return []
        self._lakehouse.trouble.raise_met(run_id)
        failure = failure_of(instance, run)
        if failure.stopped:
            raise KeyboardInterrupt
        return failure.failed


class _SoFar:
    """The state of a plan: what is computed, what failed, and what must not be computed therefore."""

    def __init__(self, planner: Planner, tables: Mapping[str, Table], landed: Listings) -> None:
        self._planner = planner
        self._tables = tables
        self._landed = landed
        self._planned: dict[str, set[date]] = {}
        self._failed: dict[str, set[date]] = {}
        self._following: dict[str, Following] = {}
        self.failures: list[TableFailed] = []
        self._tried_again: list[TableFailed] = []  # what had failed before that
        self.done: list[Work] = []
        self._done_before = 0  # how many of these

    def standing(self, planned: Sequence[Work]) -> list[Work]:
        """Runs without the tables and days that failed or depend on failed ones."""
        standing: list[Work] = []
        for work in planned:
            days = dict.fromkeys(work.tables, days_between(work.first, work.last))
            _add(self._planned, days)
            standing += self._planner.work(without(days, self._failed, self._following)) if self._failed else [work]
        return standing

    def add(self, work: Work, failures: Sequence[TableFailed], stale: Stale | None) -> None:
        """A run that has been executed, and its tables that failed.

        Args:
            work: the run.
            failures: its tables that failed.
            stale: the days that were to be computed; if a run went over others, they keep what they had. Default all.
        """
        if failures:
            days = days_between(work.first, work.last)
            names = [one.table for one in failures]
            _add(self._failed, {name: stale[name].keys() & days if stale else days for name in names})
            self._following = self._planner.following(self._failed, self._landed)
            self.failures += failures
        self.done += self.standing([work])

    def changed_meanwhile(self) -> list[Work]:
        """Runs for what failed because other runs changed what had been computed, without the failures; else none.

        Landed files are not read again: whether one that came meanwhile is whole, the next plan finds out.
        """
        landed = {name for name, table in self._tables.items() if table.landed}
        computed: dict[str, set[date]] = {}
        for work in self.done:
            _add(computed, {name: days_between(work.first, work.last) for name in work.tables if name not in landed})
        if (
            not self.failures
            or not landed.isdisjoint(self._failed)
            or not any(self._planner.unvouched(name, days) for name, days in computed.items())
        ):
            return []
        stale = self._planner.stale(self._landed)
        days: dict[str, set[date]] = {}
        for name in stale:
            if name in self._planned and name not in landed:
                following = self._following[name].days if name in self._following else ()
                days[name] = self._planned[name].intersection(chain(self._failed.get(name, ()), following, stale[name]))
        self._failed, self._following, self.failures, self._tried_again = {}, {}, [], self.failures
        self._done_before = len(self.done)
        return self._planner.work(days)

    def unmended(self) -> list[TableFailed]:
        """What has failed and has not been computed since."""

        def is_open(failure: TableFailed) -> bool:
            first, last = date.fromisoformat(failure.first), date.fromisoformat(failure.last)
            return not any(failure.table in work.tables and work.first <= last and work.last >= first for work in since)

        since = self.done[self._done_before :]
        again = {one.table for one in self.failures}
        return [*self.failures, *(one for one in self._tried_again if one.table not in again and is_open(one))]

    def left(self) -> list[TableLeft]:
        """Planned or stale days that depend on failed ones."""
        if not self.failures:
            return []
        _add(self._planned, self._planner.stale(self._landed))
        return left_because(self._planned, self._following)


def _add(days: dict[str, set[date]], more: Mapping[str, Iterable[date]]) -> None:
    for name, found in more.items():
        days.setdefault(name, set()).update(found)


def _as_divided(seen: Listings, now: Listings, divided: Collection[date]) -> Listings:
    """An earlier look, updated for landing dates whose files this process has just split again."""
    others = {day: files for day, files in seen["interactions"].items() if day not in divided}
    ours = {day: files for day, files in now["interactions"].items() if day in divided}
    return {**seen, "interactions": others | ours}


class _Progress:
    """Prints each finished table with its time, the count, and an estimate of the time left."""

    def __init__(self, say: Say, work: Work, choice: Choice) -> None:
        self._say = say
        self._work = work
        self._began = time.monotonic()
        self._started: dict[str, float] = {}
        self._done = 0
        span = f"{work.first}" if work.days == 1 else f"{work.first} … {work.last} ({work.days} days)"
        say(f"{span}: {some(len(work.tables), 'table')}, {choice}")

    def __call__(self, event: dg.EventLogEntry) -> None:
        kind, step = event.dagster_event_type, event.step_key or ""
        if kind == dg.DagsterEventType.STEP_START:
            self._started[step] = time.monotonic()
        if kind == dg.DagsterEventType.STEP_UP_FOR_RETRY and (why := out_of_memory(event)):
            self._say(f"  {why}")
        if kind is None and event.user_message.startswith(WAITS):
            self._say(f"  {table_of_step(step)} {event.user_message}")
        if kind == dg.DagsterEventType.STEP_FAILURE:
            self._say(f"  {table_of_step(step)} failed; tables that depend on it are not computed")
        if kind != dg.DagsterEventType.STEP_SUCCESS or step.startswith("check_"):
            return
        now = time.monotonic()
        self._done += 1
        total = len(self._work.tables)
        left = (now - self._began) / self._done * (total - self._done)
        ahead = f"   about {left:.0f} s left" if self._done < total else ""
        name = step.replace("__", ".")
        self._say(f"  {self._done}/{total} {name:<32} {now - self._started[step]:5.1f} s{ahead}")
